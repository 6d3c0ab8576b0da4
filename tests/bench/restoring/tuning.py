"""The best parameters of ffmpeg's denoisers on the very clips they are judged on: more than any user can have, so that nobody was held back.

grid of parameters -> filter -> mean PSNR over all clips -> the neighbours of the best -> ... -> filter graph
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import product

import numpy as np

from tests.bench.restoring import filters
from tests.bench.restoring.clips import Clip
from tests.bench.restoring.judge import HQDN3D, NLMEANS, Condition
from tests.bench.restoring.score import PEAK

HQDN3D_STRENGTHS = (1, 2, 4, 6, 9, 13, 19, 28, 40, 60, 90, 130, 190, 280, 400)
NLMEANS_STRENGTHS = (1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 17, 20, 25, 30)
PATCHES, WINDOWS = (3, 5, 7, 9), (5, 9, 13, 17, 21)
NLMEANS_STEP = 12  # it sees no other frame, so every twelfth is enough to tune it on
LUMA = np.diag([1.0, 0.0, 0.0])  # what errors of Y, U and V weigh
RGB = filters.TO_RGB.T @ filters.TO_RGB / 3
Rating = Callable[[str], float]  # of a filter graph, dB


def tuned(clips: Sequence[Clip], condition: Condition, names: Sequence[str]) -> dict[str, str]:
    """The best filter graph of each filter."""
    pairs = [(filters.planes(condition.degrade(clip)), filters.planes(clip.frames)) for clip in clips]
    found = {}
    if HQDN3D in names:
        found[HQDN3D] = _hqdn3d(rating(pairs, LUMA), rating(pairs, RGB))
    if NLMEANS in names:
        found[NLMEANS] = _nlmeans(rating([(worse[::NLMEANS_STEP], clean[::NLMEANS_STEP]) for worse, clean in pairs], RGB))
    return found


def rating(pairs: Sequence[tuple[np.ndarray, np.ndarray]], weights: np.ndarray) -> Rating:
    """Mean PSNR over planes to be filtered and planes as they should be; the clips side by side."""

    def rated(graph: str) -> float:
        with ThreadPoolExecutor(len(pairs)) as pool:
            return float(np.mean(list(pool.map(lambda pair: _psnr(filters.run(pair[0], graph), pair[1], weights), pairs))))

    return rated


def _psnr(found: np.ndarray, expected: np.ndarray, weights: np.ndarray) -> float:
    errors = (found.astype(np.float32) - expected).reshape(*found.shape[:2], -1)
    together = errors @ errors.transpose(0, 2, 1) / errors.shape[2]  # [T, 3, 3]
    return float((10 * np.log10(PEAK**2 / (together * weights).sum((1, 2)))).mean())


def _hqdn3d(luma: Rating, colour: Rating) -> str:
    """Luma's strengths by what becomes of luma, then chroma's by what becomes of RGB; the planes are filtered apart."""
    spatial, temporal = climb(lambda s, t: luma(_graph(s, 0, t, 0)), HQDN3D_STRENGTHS, HQDN3D_STRENGTHS)
    chroma = climb(lambda s, t: colour(_graph(spatial, s, temporal, t)), HQDN3D_STRENGTHS, HQDN3D_STRENGTHS)
    return _graph(spatial, chroma[0], temporal, chroma[1])


def _graph(*strengths: float) -> str:
    return "hqdn3d=" + ":".join(f"{strength:g}" for strength in strengths)


def _nlmeans(colour: Rating) -> str:
    """Strength, patch and window, the same for luma and chroma."""
    return _weighted(*climb(lambda s, p, r: colour(_weighted(s, p, r)), NLMEANS_STRENGTHS, PATCHES, WINDOWS))


def _weighted(strength: float, patch: float, window: float) -> str:
    return f"nlmeans=s={strength:g}:p={patch:g}:r={window:g}"


def climb(score: Callable[..., float], *axes: Sequence[float]) -> tuple[float, ...]:
    """The point of a grid that none of its neighbours betters, also not the diagonal ones, from the middle of every axis."""
    score = cache(score)

    def at(place: tuple[int, ...]) -> float:
        return score(*(axis[k] for axis, k in zip(axes, place, strict=True)))

    here = tuple(len(axis) // 2 for axis in axes)
    while (best := max((here, *_neighbours(here, axes)), key=at)) != here:
        here = best
    return tuple(axis[k] for axis, k in zip(axes, here, strict=True))


def _neighbours(place: tuple[int, ...], axes: Sequence[Sequence[float]]) -> Iterator[tuple[int, ...]]:
    return product(*(range(max(k - 1, 0), min(k + 2, len(axis))) for k, axis in zip(place, axes, strict=True)))
