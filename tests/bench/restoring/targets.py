"""What restoration promised to reach, and whether it did.

Scores and Speeds -> Target, one a promise

Averages over clips throughout. A promise whose contenders did not run is neither met nor missed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.bench.restoring.judge import BICUBIC, CLASSICS, CLEAN, COMPRESSED, FFDNET, HALF, INPUT, VIDMILL, WAIFU2X, Score, mean
from tests.bench.restoring.speed import Speed

FLOAT32 = "float32"


@dataclass(frozen=True, slots=True)
class Target:
    """A promise: a figure and the least it may be."""

    promise: str
    found: float | None  # None: not measured
    least: float
    unit: str

    @property
    def met(self) -> bool | None:
        """None where it was not measured."""
        return None if self.found is None else self.found >= self.least

    @property
    def text(self) -> str:
        """A line."""
        verdict = {None: "not measured", True: "met", False: "MISSED"}[self.met]
        found = "" if self.found is None else f": {self.found:+.2f} {self.unit}"
        return f"{verdict:12} {self.promise}{found}"


def targets(scores: Sequence[Score], speeds: Sequence[Speed]) -> tuple[Target, ...]:
    """All of them."""
    return (*_of_denoising(scores), *_of_upscaling(scores), *_of_speed(speeds))


def _of_denoising(scores: Sequence[Score]) -> Iterator[Target]:
    yield Target("sigma 25: at least 2 dB above the better of tuned hqdn3d and nlmeans", _ahead(scores, "sigma 25", CLASSICS), 2.0, "dB")
    yield Target("sigma 25: at or above FFDNet, which is told the sigma", _ahead(scores, "sigma 25", [FFDNET]), 0.0, "dB")
    for sigma in ("sigma 15", "sigma 50"):
        yield Target(f"{sigma}: above the better of tuned hqdn3d and nlmeans", _ahead(scores, sigma, CLASSICS), 0.0, "dB")
    yield Target(f"x264 {COMPRESSED}: not worse than its input", _ahead(scores, COMPRESSED, [INPUT]), 0.0, "dB")
    yield Target("a clean input comes out at 40 dB or better", mean(scores, CLEAN, VIDMILL), 40.0, "dB")


def _of_upscaling(scores: Sequence[Score]) -> Iterator[Target]:
    yield Target("x2: at least 1 dB above bicubic", _ahead(scores, HALF, [BICUBIC]), 1.0, "dB")
    yield Target("x2: at or above waifu2x", _ahead(scores, HALF, [WAIFU2X]), 0.0, "dB")
    ours, theirs = (mean(scores, HALF, name, "flicker") for name in (VIDMILL, BICUBIC))
    yield Target("x2: flickers no more than bicubic", None if ours is None or theirs is None else theirs - ours, 0.0, "steps less")


def _ahead(scores: Sequence[Score], condition: str, others: Sequence[str]) -> float | None:
    """PSNR of vidmill above the best of the others."""
    ours, theirs = mean(scores, condition, VIDMILL), [mean(scores, condition, name) for name in others]
    known = [one for one in theirs if one is not None]
    return None if ours is None or len(known) < len(theirs) else ours - max(known)


def _of_speed(speeds: Sequence[Speed]) -> Iterator[Target]:
    """Both in float32."""
    for task, other, name in (("denoise", FFDNET, "FFDNet"), ("upscale", WAIFU2X, "waifu2x")):
        fps = {one.contender: one.fps for one in speeds if (one.task, one.precision) == (task, FLOAT32)}
        known = {VIDMILL, other} <= fps.keys()
        yield Target(f"{task}: at least as fast as {name}", fps[VIDMILL] / fps[other] if known else None, 1.0, "times as fast")
