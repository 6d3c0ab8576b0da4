"""ffmpeg's denoisers, each tuned on the very frames it is judged on: more than any user can do, so that nobody can say it was held back.

    RGB -> full-range YUV 4:4:4 -> ffmpeg -vf FILTER -> RGB

The program is the one that imageio-ffmpeg carries: PyAV's FFmpeg is built without hqdn3d.
"""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from tests.bench.restoring.clips import to_bytes
from tests.bench.restoring.packages import FFMPEG, member

FROM_RGB = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)
TO_RGB = np.linalg.inv(FROM_RGB).astype(np.float32)
MIDDLE = np.array([0, 128, 128], np.float32)
PROGRAM = "imageio_ffmpeg/binaries/ffmpeg-linux-x86_64-v7.0.2"
LUMA_SPATIAL = (2, 4, 6, 9, 13, 19, 28, 40, 60, 90, 130, 190, 280, 400)
LUMA_TEMPORAL = (2, 4, 6, 9, 13, 19, 28, 40, 60, 90, 130, 190, 280, 400)
CHROMA = (2, 4, 6, 9, 13, 19, 28, 40, 60, 90, 130, 190, 280, 400)
STRENGTH = (1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30)
PATCH, RESEARCH = (3, 5, 7, 9), (5, 9, 13, 17, 21)
Score = Callable[[str], float]


def program() -> Path:
    """ffmpeg.

    Raises:
        Unavailable: the registry does not have it.
    """
    path = member(FFMPEG, PROGRAM)
    path.chmod(0o755)
    return path


def filtered(frames: np.ndarray, graph: str) -> np.ndarray:
    """What a filter graph makes of a clip, uint8 [T, H, W, 3], in one thread."""
    yuv = to_bytes(frames.astype(np.float32) @ FROM_RGB.T + MIDDLE).transpose(0, 3, 1, 2)
    found = np.frombuffer(run(yuv.tobytes(), frames.shape[2], frames.shape[1], graph), np.uint8).reshape(yuv.shape)
    return to_bytes((found.transpose(0, 2, 3, 1) - MIDDLE) @ TO_RGB.T)


def run(data: bytes, width: int, height: int, graph: str) -> bytes:
    """Raw planar YUV 4:4:4 through ffmpeg."""
    raw = ["-f", "rawvideo", "-pix_fmt", "yuv444p"]
    command = [str(program()), "-hide_banner", "-loglevel", "error", "-threads", "1", "-filter_threads", "1"]
    command += [*raw, "-s", f"{width}x{height}", "-i", "pipe:0", "-vf", graph, *raw, "pipe:1"]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def tuned_hqdn3d(luma: Score, colour: Score) -> str:
    """The best strengths: first luma's by the score of luma, then chroma's by that of colour."""
    spatial, temporal = climb(lambda s, t: luma(_graph("hqdn3d", s, 0, t, 0)), LUMA_SPATIAL, LUMA_TEMPORAL)
    chroma = climb(lambda s, t: colour(_graph("hqdn3d", spatial, s, temporal, t)), CHROMA, CHROMA)
    return _graph("hqdn3d", spatial, chroma[0], temporal, chroma[1])


def tuned_nlmeans(colour: Score) -> str:
    """The best strength, patch and window, the same for luma and chroma."""
    strength, patch, window = climb(lambda s, p, r: colour(_nlmeans(s, p, r)), STRENGTH, PATCH, RESEARCH)
    return _nlmeans(strength, patch, window)


def _graph(name: str, *values: float) -> str:
    return f"{name}=" + ":".join(f"{value:g}" for value in values)


def _nlmeans(strength: float, patch: float, window: float) -> str:
    return f"nlmeans=s={strength:g}:p={patch:g}:r={window:g}"


def climb(score: Callable[..., float], *axes: Sequence[float]) -> tuple[float, ...]:
    """The point of a grid that no neighbour betters, from the middle of every axis."""
    score = cache(score)
    here = tuple(len(axis) // 2 for axis in axes)

    def at(place: tuple[int, ...]) -> float:
        return score(*(axis[k] for axis, k in zip(axes, place, strict=True)))

    while (best := max((here, *_neighbours(here, axes)), key=at)) != here:
        here = best
    return tuple(axis[k] for axis, k in zip(axes, here, strict=True))


def _neighbours(place: tuple[int, ...], axes: Sequence[Sequence[float]]) -> Iterator[tuple[int, ...]]:
    for number, axis in enumerate(axes):
        for k in (place[number] - 1, place[number] + 1):
            if 0 <= k < len(axis):
                yield (*place[:number], k, *place[number + 1 :])
