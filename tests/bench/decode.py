"""What sampling costs: `python -m tests.bench.decode`.

A Kinetics-like clip of real content, decoded three ways in turn; prints source frames per CPU-second, CPU milliseconds per clip and ratios,
after a check that all three give the same pictures.
"""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass

import av
import numpy as np

from infra.settings import LimitsConfig
from tasks.decode import open_clip
from tests.media import kinetics_like

SECONDS, RATE, ROUNDS, REPEATS = 10, 30, 5, 8
VIDEOS = ("bikes.mp4", "bigbuckbunny.mp4")
Decode = Callable[[bytes], list[np.ndarray]]


@dataclass(frozen=True, slots=True)
class Row:
    """One way to decode, measured."""

    name: str
    cpu_ms: float  # per clip, best of the rounds
    frames_per_cpu_s: float  # source frames


def convert_everything(data: bytes) -> list[np.ndarray]:
    """Every frame decoded and made RGB, the samples picked afterwards."""
    with av.open(io.BytesIO(data), "r") as container:
        container.streams.video[0].thread_count = 1
        frames = [frame.to_ndarray(format="rgb24", threads=1) for frame in container.decode(video=0)]
    return frames[::RATE]


def convert_samples(data: bytes) -> list[np.ndarray]:
    """Every frame decoded, the samples made RGB."""
    with av.open(io.BytesIO(data), "r") as container:
        container.streams.video[0].thread_count = 1
        return [frame.to_ndarray(format="rgb24", threads=1) for i, frame in enumerate(container.decode(video=0)) if i % RATE == 0]


def vidmill(data: bytes) -> list[np.ndarray]:
    """vidmill at one sample a second."""
    with open_clip(io.BytesIO(data), fps=1, window=None, limits=LimitsConfig()) as clip:
        return [frame.rgb for frame in clip]


CONTENDERS: dict[str, Decode] = {
    "decode all, convert all": convert_everything,
    "decode all, convert samples": convert_samples,
    "vidmill, 1 fps": vidmill,
}


def measure(data: bytes) -> list[Row]:
    """All contenders in turn, several rounds."""
    best = dict.fromkeys(CONTENDERS, float("inf"))
    for _ in range(ROUNDS):
        for name, decode in CONTENDERS.items():
            best[name] = min(best[name], _cpu_s(decode, data))
    return [Row(name, cpu_s * 1000, SECONDS * RATE / cpu_s) for name, cpu_s in best.items()]


def _cpu_s(decode: Decode, data: bytes) -> float:
    before = time.process_time()
    for _ in range(REPEATS):
        decode(data)
    return (time.process_time() - before) / REPEATS


def check_equal(data: bytes) -> None:
    """Raise where one contender's pictures differ from another's."""
    expected = convert_everything(data)
    for name, decode in CONTENDERS.items():
        got = decode(data)
        if len(got) != len(expected) or not all(map(np.array_equal, got, expected)):
            raise AssertionError(f"{name}: {len(got)} pictures differ from the {len(expected)} of a full decode")


def main() -> None:
    """Print one table per video."""
    for name in VIDEOS:
        data = kinetics_like(seconds=SECONDS, rate=RATE, name=name)
        check_equal(data)
        rows = measure(data)
        print(f"{name}: 340x256 h264, {SECONDS} s, {RATE} fps, {len(data):,} bytes; same pictures from all three")
        print(f"  {'':28}{'source frames/CPU-s':>20}{'CPU ms/clip':>13}{'ratio':>8}")
        for row in rows:
            print(f"  {row.name:28}{row.frames_per_cpu_s:>20,.0f}{row.cpu_ms:>13.1f}{rows[0].cpu_ms / row.cpu_ms:>8.2f}")
        print(f"  vidmill against decode all, convert samples: {rows[1].cpu_ms / rows[2].cpu_ms:.2f}")


if __name__ == "__main__":
    main()
