"""What a restorer is worth: PSNR on sequences of held-out files, beside what was put in.

    denoise      held-out sequence -> noise -> network            against the noisy input
    upscale-x2   held-out picture  -> half the size -> network    against bicubic, on luma

Knows networks and footage, nothing of training. The same seed gives the same sequences and the same noise.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import interpolate, pad

from infra.problem import Problem
from infra.storage import ObjectInfo
from infra.training import RestorerTask
from models.denoiser import AHEAD, Denoiser
from tasks.degrade import Draw, compressed, subsampled, to_8_bits
from tasks.footage import Take
from tasks.motion import Director
from tasks.pool import Pool

SEQUENCES = {RestorerTask.DENOISE: 12, RestorerTask.UPSCALE_X2: 40}
FRAMES = {RestorerTask.DENOISE: 16, RestorerTask.UPSCALE_X2: 1}
SIDE = {RestorerTask.DENOISE: 128, RestorerTask.UPSCALE_X2: 160}
SHAVED = 4  # pixels at each border that the upscaler is not judged by, as is usual
SIGMAS = (15, 25, 50)
FILED_SIGMA = 25  # of noise in RGB, before it goes through 4:2:0 as files have it
CRF = 38
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
BOUND_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Score:
    """One condition, averaged over sequences."""

    condition: str  # "sigma 25", "bicubic"
    before_db: float  # PSNR of the input, or of bicubic; infinite where nothing was wrong
    after_db: float  # PSNR of what the network makes of it
    must_win: bool  # whether a network that does not beat `before_db` is none

    @property
    def lost(self) -> bool:
        """Whether the network should have been better and is not."""
        return self.must_win and self.after_db <= self.before_db


def scores_of(task: RestorerTask, network: nn.Module, held_out: Sequence[ObjectInfo], *, seed: int, told: Callable[[str], None]) -> list[Score]:
    """Judge a network, in float32 on the device it is on.

    Raises:
        Problem: nothing of the held-out files is of use.
    """
    sequences = list(_sequences(task, held_out, seed, told))
    judge = _denoising if task is RestorerTask.DENOISE else _upscaling
    with torch.inference_mode():
        return judge(network.eval().float(), sequences, seed)


def _sequences(task: RestorerTask, held_out: Sequence[ObjectInfo], seed: int, told: Callable[[str], None]) -> Iterator[Tensor]:
    """The same number of sequences of each file, as nearly as may be: [T, 3, side, side]."""
    frames, side = FRAMES[task], SIDE[task]
    known: dict[str, list[Take]] = {}
    pool = Pool(held_out, frames=frames, side=side, bound_bytes=BOUND_BYTES, seed=seed, rank=0, told=told)
    try:
        pool.read()
        for take in pool.takes(0):
            known.setdefault(take.name, []).append(take)
    except Problem as error:
        raise Problem(f"held-out files: {error}; raise --held-out") from error
    finally:
        pool.close()
    for index in range(SEQUENCES[task]):
        takes = list(known.values())[index % len(known)]
        yield Director(takes, side=side, frames=frames, random=Generator().manual_seed(seed * 1_000_003 + index)).sequence()


def _denoising(network: nn.Module, sequences: list[Tensor], seed: int) -> list[Score]:
    def score(condition: str, spoil: Callable[[Tensor, Draw], Tensor], *, must_win: bool, of: list[Tensor] = sequences) -> Score:
        draws = (Draw(Generator().manual_seed(seed * 1_000_003 + index)) for index in range(len(of)))
        pairs = [(clean, spoil(clean, draw)) for clean, draw in zip(of, draws, strict=True)]
        before = fmean(psnr(spoiled, clean) for clean, spoiled in pairs)
        after = fmean(psnr(denoised(network, spoiled).clamp(0, 1), clean) for clean, spoiled in pairs)
        return Score(condition, before, after, must_win)

    def gaussian(sigma: int) -> Callable[[Tensor, Draw], Tensor]:
        return lambda clean, draw: to_8_bits(clean + draw.noise(clean) * (sigma / 255))

    def filed(clean: Tensor, draw: Draw) -> Tensor:
        return subsampled(gaussian(FILED_SIGMA)(clean, draw), rounded=True)

    return [
        *(score(f"sigma {sigma}", gaussian(sigma), must_win=True) for sigma in SIGMAS),
        score(f"sigma {FILED_SIGMA} in 4:2:0", filed, must_win=True, of=[subsampled(clean) for clean in sequences]),
        score(f"crf {CRF}", lambda clean, _: compressed(clean, crf=CRF), must_win=False),
        score("clean", lambda clean, _: clean, must_win=False),
    ]


def denoised(network: nn.Module, noisy: Tensor) -> Tensor:
    """What a denoiser makes of a whole sequence, [T, 3, H, W]; not clamped."""
    device = next(network.parameters()).device
    frames = torch.cat([noisy, noisy[-1:].expand(AHEAD, -1, -1, -1)]).to(device)
    state = frames.new_zeros(1, Denoiser.STATE_CHANNELS, frames.shape[2] // 2, frames.shape[3] // 2)
    found = []
    for now in range(len(noisy)):
        frame, state = network(frames[None, now : now + 1 + AHEAD], state)
        found.append(frame[0])
    return torch.stack(found).cpu()


def _upscaling(network: nn.Module, sequences: list[Tensor], seed: int) -> list[Score]:
    device = next(network.parameters()).device
    before, after = [], []
    for sharp in sequences:
        small = to_8_bits(interpolate(sharp, scale_factor=0.5, mode="bicubic", antialias=True))
        clean = _judged(sharp)
        before.append(psnr(_judged(interpolate(small, scale_factor=2, mode="bicubic")), clean))
        after.append(psnr(_judged(network(small.to(device)).cpu()), clean))
    return [Score("bicubic", fmean(before), fmean(after), must_win=True)]


def _judged(rgb: Tensor) -> Tensor:
    """Luma of the 8-bit picture without its borders."""
    luma = (to_8_bits(rgb) * torch.tensor(LUMA)[:, None, None]).sum(-3)
    return pad(luma, (-SHAVED, -SHAVED, -SHAVED, -SHAVED))


def psnr(found: Tensor, clean: Tensor) -> float:
    """Peak signal to noise ratio in dB of values in 0..1; infinite where they are equal."""
    error = float((found.double() - clean.double()).square().mean())
    return float("inf") if error == 0 else float(-10 * torch.log10(torch.tensor(error, dtype=torch.float64)))
