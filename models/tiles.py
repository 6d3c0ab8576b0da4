"""A frame as overlapping tiles: which pixels a network sees, and how what it gives is put together.

    |<------- seen ------->|
    | halo |  core  | halo |        cores cover the frame once; the halo is what lies around, cut off at the frame's border
           |<- w ->|                around a seam the weight of one tile falls over 2 * BLEND pixels as that of its neighbour rises

With a halo of the network's reach plus BLEND every weighted pixel is what the whole frame would have given, within rounding.
Knows sizes and nothing of networks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

BLEND = 8  # pixels to each side of a seam
CORE_FLOOR = 64  # pixels; a frame is never cut into cores narrower than this, save the last


@dataclass(frozen=True, slots=True)
class Span:
    """One tile along one axis, in pixels."""

    start: int  # seen
    end: int
    core_start: int
    core_end: int

    @property
    def seen(self) -> int:
        """Pixels the network sees."""
        return self.end - self.start

    def weights(self, scale: int, device: torch.device) -> Tensor:
        """float [seen * scale]: 1 inside, falling across inner seams; the tiles of an axis add up to 1 everywhere."""
        at = (torch.arange(self.seen * scale, device=device) + 0.5) / scale + self.start
        rising = (at - self.core_start) / (2 * BLEND) + 0.5 if self.core_start > self.start else torch.ones_like(at)
        falling = (self.core_end - at) / (2 * BLEND) + 0.5 if self.core_end < self.end else torch.ones_like(at)
        return torch.minimum(rising, falling).clamp_(0, 1)


@dataclass(frozen=True, slots=True)
class Tile:
    """One rectangle of a frame."""

    rows: Span
    columns: Span

    @property
    def area(self) -> int:
        """Pixels the network sees."""
        return self.rows.seen * self.columns.seen

    def cut(self, frame: Tensor, *, shrink: int = 1) -> Tensor:
        """What the network sees of [..., H / shrink, W / shrink]."""
        rows, columns = self.rows, self.columns
        return frame[..., rows.start // shrink : rows.end // shrink, columns.start // shrink : columns.end // shrink]

    def add(self, seen: Tensor, frame: Tensor, *, scale: int) -> None:
        """Add the weighted tile [..., seen rows * scale, seen columns * scale] to a frame [..., H * scale, W * scale]."""
        rows, columns = self.rows, self.columns
        weights = rows.weights(scale, frame.device)[:, None] * columns.weights(scale, frame.device)
        target = frame[..., rows.start * scale : rows.end * scale, columns.start * scale : columns.end * scale]
        target.addcmul_(seen.to(frame.dtype), weights)

    def put_core(self, seen: Tensor, frame: Tensor, *, shrink: int) -> None:
        """Copy the core of [..., seen rows / shrink, seen columns / shrink] to its place in a frame [..., H / shrink, W / shrink]."""
        rows, columns = self.rows, self.columns
        top, left = (rows.core_start - rows.start) // shrink, (columns.core_start - columns.start) // shrink
        height, width = (rows.core_end - rows.core_start) // shrink, (columns.core_end - columns.core_start) // shrink
        y, x = rows.core_start // shrink, columns.core_start // shrink
        frame[..., y : y + height, x : x + width] = seen[..., top : top + height, left : left + width]


@cache
def plan(height: int, width: int, *, area: int, halo: int, stride: int) -> tuple[Tile, ...]:
    """The tiles of a frame with the least to compute, each of at most `area` pixels where cores of CORE_FLOOR allow it.

    Args:
        height: pixels, a multiple of stride, as is width.
        area: pixels a tile may have, its halo included.
        halo: pixels around a core; rounded up to a multiple of stride.
        stride: every tile begins and ends on a multiple of it.
    """
    halo = -(-halo // stride) * stride
    grids = _grids(height, width, area, halo, stride)
    choices = [(_spans(height, core_height, halo), _spans(width, core_width, halo)) for core_height, core_width in grids]
    rows, columns = min(choices, key=lambda choice: _computed(*choice))
    return tuple(Tile(row, column) for row in rows for column in columns)


def _grids(height: int, width: int, area: int, halo: int, stride: int) -> Iterator[tuple[int, int]]:
    """Sizes of cores (rows, columns): for every height the widest that fits; the smallest of all where none does."""
    found = False
    for core_height in _cores(height, stride):
        tall = _largest(height, core_height, halo)
        wide = next((core for core in _cores(width, stride) if tall * _largest(width, core, halo) <= area), None)
        if wide is not None:
            found = True
            yield core_height, wide
    if not found:
        yield _floor(height, stride), _floor(width, stride)


def _cores(size: int, stride: int) -> Iterator[int]:
    """Sizes of core that cut an axis into 1, 2, 3, ... about equal parts, down to the floor."""
    count, last = 1, 0
    while (core := -(-size // (count * stride)) * stride) >= _floor(size, stride):
        if core != last:
            yield core
        last, count = core, count + 1
        if core == stride:
            return


def _floor(size: int, stride: int) -> int:
    return min(-(-CORE_FLOOR // stride) * stride, size)


def _largest(size: int, core: int, halo: int) -> int:
    """Pixels that no tile along an axis sees more of."""
    inner = core + halo * (1 if 2 * core >= size else 2)
    return size if core >= size else min(inner, size)


def _spans(size: int, core: int, halo: int) -> tuple[Span, ...]:
    starts = range(0, size, core)
    return tuple(Span(max(start - halo, 0), min(start + core + halo, size), start, min(start + core, size)) for start in starts)


def _computed(rows: tuple[Span, ...], columns: tuple[Span, ...]) -> int:
    return sum(row.seen for row in rows) * sum(column.seen for column in columns)
