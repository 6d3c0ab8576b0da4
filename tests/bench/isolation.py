"""What a decoder process of its own costs a healthy clip: `python -m tests.bench.isolation`.

A Kinetics-like clip of real content goes the worker's way, decode and inference, with the decoder in the worker's process and in one of its own, in
turn. Prints CPU and wall milliseconds per clip and what isolation adds; the limit is 5 %.
"""

import io
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import psutil
import torch

from infra.settings import LimitsConfig
from models.catalog import resolve
from models.predictor import Predictor
from models.prepare import prepare
from tasks.decode import open_clip
from tasks.isolate import Decoder
from tests.media import kinetics_like

SECONDS, RATE, FPS, ROUNDS, CLIPS = 10, 30, 1.0, 9, 12
VIDEOS = ("bikes.mp4", "bigbuckbunny.mp4")
MODEL = resolve("efficientnet-lite0", ())
GEOMETRY = MODEL.input.geometry
LIMIT_PERCENT = 5.0
Squares = Callable[[bytes], np.ndarray]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one clip."""

    cpu_ms: float  # of this process and its decoders
    wall_ms: float


def here(data: bytes) -> np.ndarray:
    """Decoded in this process."""
    with open_clip(io.BytesIO(data), fps=FPS, window=None, limits=LimitsConfig()) as clip:
        return np.stack([prepare(frame.rgb, GEOMETRY) for frame in clip])


def measure(decode: Squares, predictor: Predictor, data: bytes) -> Cost:
    """Some clips, one after the other."""
    cpu_s, wall_s = _cpu_s(), time.perf_counter()
    for _ in range(CLIPS):
        predictor.predict(decode(data))
    return Cost((_cpu_s() - cpu_s) / CLIPS * 1000, (time.perf_counter() - wall_s) / CLIPS * 1000)


def _cpu_s() -> float:
    """Of this process and of its decoder."""
    me = psutil.Process()
    return sum(process.cpu_times().user + process.cpu_times().system for process in (me, *me.children()))


def main() -> int:
    """Print a table per video; 1 where isolation costs more than it may."""
    torch.set_num_threads(1)
    predictor, decoder, worst = Predictor(MODEL), Decoder(LimitsConfig()), 0.0

    def elsewhere(data: bytes) -> np.ndarray:
        return decoder.decode(io.BytesIO(data), fps=FPS, window=None, geometries=(GEOMETRY,)).squares[0]

    for name in VIDEOS:
        data = kinetics_like(seconds=SECONDS, rate=RATE, name=name)
        if not np.array_equal(here(data), elsewhere(data)):
            raise AssertionError(f"{name}: other pictures from a process of its own")
        rounds = [(measure(here, predictor, data), measure(elsewhere, predictor, data)) for _ in range(ROUNDS)]
        inside, outside = (Cost(*(float(np.median([getattr(r[k], f) for r in rounds])) for f in ("cpu_ms", "wall_ms"))) for k in (0, 1))
        added = [100 * (outside.cpu_ms / inside.cpu_ms - 1), 100 * (outside.wall_ms / inside.wall_ms - 1)]
        worst = max(worst, *added)
        print(f"{name}: 340x256 h264, {SECONDS} s, {RATE} fps, {FPS:g} fps sampled, {MODEL.name}; median of {ROUNDS} rounds of {CLIPS} clips")
        print(f"  {'':32}{'CPU ms/clip':>12}{'wall ms/clip':>14}")
        print(f"  {'decoded in the worker':32}{inside.cpu_ms:>12.1f}{inside.wall_ms:>14.1f}")
        print(f"  {'decoded in a process of its own':32}{outside.cpu_ms:>12.1f}{outside.wall_ms:>14.1f}")
        print(f"  isolation adds {added[0]:.1f} % CPU, {added[1]:.1f} % wall; limit {LIMIT_PERCENT:g} %")
    return int(worst > LIMIT_PERCENT)


if __name__ == "__main__":
    sys.exit(main())
