"""From measured runs to fixed and marginal costs.

    seconds = fixed + marginal x clips        a straight line through the medians of the rounds at each size

Knows numbers only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np


@dataclass(frozen=True, slots=True)
class Round:
    """One run of one contender."""

    contender: str
    clips: int
    round: int
    wall_s: float
    cpu_s: float
    peak_pss_mb: float
    pss_mb: dict[str, float]
    processes: int


@dataclass(frozen=True, slots=True)
class Line:
    """seconds = fixed_s + per_clip_s x clips."""

    fixed_s: float
    per_clip_s: float


@dataclass(frozen=True, slots=True)
class Fit:
    """What a contender costs."""

    contender: str
    fixed_s: float  # wall
    clips_per_s: float | None  # steady; None: more clips took no more time, the sizes are too close
    cpu_fixed_s: float
    cpu_s_per_clip: float
    peak_pss_mb: float  # at the largest size, the worst round


@dataclass(frozen=True, slots=True)
class Ratio:
    """A contender against the limit; above 1 is more."""

    contender: str
    clips_per_s: float | None
    cpu_s_per_clip: float
    peak_pss_mb: float


def line(seconds: dict[int, list[float]]) -> Line:
    """Fit fixed and marginal seconds.

    Args:
        seconds: clips -> seconds of every round.

    Raises:
        ValueError: fewer than two sizes.
    """
    if len(seconds) < 2:
        raise ValueError(f"a line needs two corpus sizes, not {len(seconds)}; give --clips two different numbers")
    sizes = sorted(seconds)
    per_clip_s, fixed_s = np.polyfit(sizes, [median(seconds[size]) for size in sizes], 1)
    return Line(float(fixed_s), float(per_clip_s))


def fit(contender: str, rounds: Sequence[Round]) -> Fit:
    """The costs of one contender."""
    mine = [one for one in rounds if one.contender == contender]
    sizes = sorted({one.clips for one in mine})
    wall = line({size: [one.wall_s for one in mine if one.clips == size] for size in sizes})
    cpu = line({size: [one.cpu_s for one in mine if one.clips == size] for size in sizes})
    peak = max(one.peak_pss_mb for one in mine if one.clips == sizes[-1])
    return Fit(contender, wall.fixed_s, 1 / wall.per_clip_s if wall.per_clip_s > 0 else None, cpu.fixed_s, cpu.per_clip_s, peak)


def ratio(one: Fit, limit: Fit) -> Ratio:
    """A contender against the limit."""
    speed = one.clips_per_s / limit.clips_per_s if one.clips_per_s and limit.clips_per_s else None
    return Ratio(one.contender, speed, one.cpu_s_per_clip / limit.cpu_s_per_clip, one.peak_pss_mb / limit.peak_pss_mb)


def agreement(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """The smallest cosine between a clip's two embeddings.

    Raises:
        ValueError: the clips differ.
    """
    if found.keys() != expected.keys():
        raise ValueError(f"{len(found)} clips, expected {len(expected)}; not in both: {sorted(found.keys() ^ expected.keys())[:3]}")
    return min(_cosine(found[clip], expected[clip]) for clip in expected)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
