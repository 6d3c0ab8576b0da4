"""Every contender on every degradation of every clip, scored.

    clips x conditions -> degraded, the same for all -> contender -> Score

Knows no speed and no targets.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tests.bench.restoring import filters, score
from tests.bench.restoring.clips import CRF, SIGMAS, Clip, compressed, halved, noisy, noisy_unclipped, resized, to_bytes

INPUT, HQDN3D, NLMEANS, FFDNET, VIDMILL = "input", "hqdn3d", "nlmeans", "ffdnet", "vidmill"
BICUBIC, LANCZOS, WAIFU2X = "bicubic", "lanczos", "waifu2x"
CLASSICS = (HQDN3D, NLMEANS)
DENOISERS = (INPUT, *CLASSICS, FFDNET, VIDMILL)
UPSCALERS = (BICUBIC, LANCZOS, WAIFU2X, VIDMILL)
CLEAN, COMPRESSED, UNCLIPPED, HALF = "clean", f"crf {CRF}", "sigma 25 unclipped", "x2"
Metric = Callable[[np.ndarray, np.ndarray], float]
Denoise = Callable[[np.ndarray, float | None], np.ndarray]  # frames and, for who asks, the true sigma
Upscale = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Score:
    """Of one contender on one clip."""

    condition: str
    clip: str
    contender: str
    psnr_db: float  # RGB when denoising, luma when upscaling
    ssim: float
    flicker: float


@dataclass(frozen=True, slots=True)
class Condition:
    """A way in which a clip is made worse."""

    name: str
    degrade: Callable[[Clip], np.ndarray]
    sigma: int | None = None  # of the noise, where there is one that can be told
    tunable: bool = True  # filters are judged


def conditions() -> tuple[Condition, ...]:
    """What denoisers are judged on."""
    return (
        *(Condition(f"sigma {sigma}", lambda clip, sigma=sigma: noisy(clip, sigma), sigma) for sigma in SIGMAS),
        Condition(UNCLIPPED, lambda clip: noisy_unclipped(clip, 25), 25, tunable=False),
        Condition(COMPRESSED, lambda clip: compressed(clip.frames)),
        Condition(CLEAN, lambda clip: clip.frames, tunable=False),
    )


def denoising(
    clips: Sequence[Clip], condition: Condition, networks: Mapping[str, Denoise], graphs: Mapping[str, str], *, workers: int
) -> list[Score]:
    """One condition: the input as it is, the tuned filters, and the networks that can be asked."""

    def one(clip: Clip) -> Iterator[Score]:
        worse = condition.degrade(clip)
        yield scored(condition.name, clip, INPUT, to_bytes(worse), score.rgb_psnr)
        for name, graph in graphs.items():
            yield scored(condition.name, clip, name, filters.filtered(worse, graph), score.rgb_psnr)
        for name, denoise in networks.items():
            if name != FFDNET or condition.sigma is not None:
                yield scored(condition.name, clip, name, denoise(worse, condition.sigma), score.rgb_psnr)

    return _side_by_side(one, clips, workers)


def upscaling(clips: Sequence[Clip], networks: Mapping[str, Upscale], *, workers: int) -> list[Score]:
    """All upscalers on clips that were halved; rows and columns without a partner are left out."""

    def one(clip: Clip) -> Iterator[Score]:
        even = Clip(clip.name, clip.frames[:, : clip.frames.shape[1] // 2 * 2, : clip.frames.shape[2] // 2 * 2])
        small = halved(even.frames)
        for name, upscale in networks.items():
            yield scored(HALF, even, name, upscale(small), score.luma_psnr)

    return _side_by_side(one, clips, workers)


def _side_by_side(one: Callable[[Clip], Iterator[Score]], clips: Sequence[Clip], workers: int) -> list[Score]:
    """A clip a thread; torch's own threads wait for each other at every layer, which costs far more on a busy machine."""
    with ThreadPoolExecutor(workers) as pool:
        return [score for scores in pool.map(lambda clip: list(one(clip)), clips) for score in scores]


def classic_upscalers() -> dict[str, Upscale]:
    """Pillow's."""
    kinds = {BICUBIC: Image.Resampling.BICUBIC, LANCZOS: Image.Resampling.LANCZOS}
    return {name: lambda frames, how=how: resized(frames, 2 * frames.shape[2], 2 * frames.shape[1], how) for name, how in kinds.items()}


def scored(condition: str, clip: Clip, contender: str, found: np.ndarray, psnr: Metric) -> Score:
    """How near `found` is to the clip."""
    return Score(condition, clip.name, contender, psnr(found, clip.frames), score.ssim(found, clip.frames), score.flicker(found, clip.frames))


def mean(scores: Sequence[Score], condition: str, contender: str, figure: str = "psnr_db") -> float | None:
    """A figure averaged over the clips; None where it was not measured."""
    values = [getattr(one, figure) for one in scores if (one.condition, one.contender) == (condition, contender)]
    return float(np.mean(values)) if values else None
