"""Chroma planes on the luma grid and back: sited left, as MPEG-2, H.264 and everything after them has it.

    luma     0   1   2   3         chroma samples lie on even columns, and, where rows are halved too, midway between two rows
    chroma   o       o

Bringing up interpolates with the cubic of R. Keys (1981, "Cubic convolution interpolation for digital image processing"); bringing down takes the
half-band filters that belong to the same cubic, so that what goes up comes down as it was where it is smooth. Both keep flat pictures exactly, and
neither shifts. Knows tensors and sitings and nothing of colours.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from models.picture import Chroma

Taps = dict[int, float]  # offset in samples of the input -> weight

BETWEEN: Taps = {-1: -1 / 16, 0: 9 / 16, 1: 9 / 16, 2: -1 / 16}  # half way to the next sample
QUARTER_BEFORE: Taps = {-2: -3 / 128, -1: 29 / 128, 0: 111 / 128, 1: -9 / 128}
QUARTER_AFTER: Taps = {-1: -9 / 128, 0: 111 / 128, 1: 29 / 128, 2: -3 / 128}
HALF_BAND: Taps = {-3: -1 / 32, -1: 9 / 32, 0: 1 / 2, 1: 9 / 32, 3: -1 / 32}
ACROSS, DOWN = 3, 2  # axes of [1, planes, H, W]


def on_luma_grid(planes: Tensor, chroma: Chroma, *, height: int, width: int) -> Tensor:
    """float [1, P, h, w] as the format stores them -> [1, P, height, width]."""
    if chroma == "420":
        planes = _interleaved(_filtered(planes, QUARTER_BEFORE, axis=DOWN), _filtered(planes, QUARTER_AFTER, axis=DOWN), axis=DOWN)
    if chroma != "444":
        planes = _interleaved(planes, _filtered(planes, BETWEEN, axis=ACROSS), axis=ACROSS)
    return planes[..., :height, :width]


def on_chroma_grid(planes: Tensor, chroma: Chroma) -> Tensor:
    """float [1, P, H, W] -> as the format stores them; odd sizes round up."""
    if chroma != "444":
        planes = _filtered(planes, HALF_BAND, axis=ACROSS, step=2)
    if chroma == "420":
        planes = _filtered(planes, BETWEEN, axis=DOWN, step=2)
    return planes


def _filtered(planes: Tensor, taps: Taps, *, axis: int, step: int = 1) -> Tensor:
    """Weighted sums along an axis around every sample, or every second one; beyond the border the last sample repeats."""
    before, after = -min(taps), max(taps)
    count = -(-planes.shape[axis] // step)
    after += (count - 1) * step + 1 - planes.shape[axis] if step > 1 else 0
    around = (before, max(after, 0))
    padded = pad(planes, (*around, 0, 0) if axis == ACROSS else (0, 0, *around), mode="replicate")
    total = torch.zeros((), device=planes.device)
    for offset, weight in taps.items():
        start = before + offset
        part = slice(start, start + (count - 1) * step + 1, step)
        chosen = padded[..., part] if axis == ACROSS else padded[..., part, :]
        total = chosen * weight if total.ndim == 0 else total.add_(chosen, alpha=weight)
    return total


def _interleaved(even: Tensor, odd: Tensor, *, axis: int) -> Tensor:
    return torch.stack([even, odd], dim=axis + 1).flatten(axis, axis + 1)
