"""Sequences to learn from: a camera that pans, turns and zooms over a photograph, things that move before it, or a part of a video.

Sampled at twice the size and reduced, so that the clean frames are sharp and free of aliases. Knows takes, nothing of noise.
"""

import math

import torch
from torch import Generator, Tensor
from torch.nn.functional import avg_pool2d, grid_sample, interpolate

from tasks.footage import Take

OVERSAMPLING = 2
VIDEO = 0.25  # share of sequences that are parts of videos, where there are photographs too
STILL = 0.2  # share of cameras that stand still
TRIES = 4
SOUGHT = 0.8  # share of sequences for which TRIES places are looked at, and the one with most detail taken
FOREGROUND = 0.5  # share of sequences in which something moves on its own
CUT = 0.05  # share of sequences with a cut


class Director:
    """Makes sequences out of takes, the same ones for the same seed."""

    def __init__(self, takes: list[Take], *, side: int, frames: int, random: Generator) -> None:
        self.photographs = [take for take in takes if not take.moves]
        self.videos = [take for take in takes if take.moves and len(take.frames) >= frames]
        self.side, self.frames, self.random = side, frames, random

    def sequence(self) -> Tensor:
        """float [T, 3, side, side], RGB 0..1."""
        if self.videos and (not self.photographs or self._chance(VIDEO)):
            return self._varied(self._part_of_video())
        shown = self._view()
        if self._chance(FOREGROUND):
            mask = self._mask()
            shown = torch.lerp(shown, self._view(), mask)
        if self._chance(CUT):
            at = self._whole(1, self.frames)
            shown = torch.cat([shown[:at], self._view()[at:]])
        return self._varied(avg_pool2d(shown, OVERSAMPLING))

    def _part_of_video(self) -> Tensor:
        take = self.videos[self._whole(0, len(self.videos))].frames
        step = 2 if len(take) >= 2 * self.frames and self._chance(0.2) else 1
        start = self._whole(0, len(take) - step * (self.frames - 1))
        zoom = 2 if min(take.shape[2:]) >= 2 * self.side + 8 and self._chance(0.5) else 1
        size = self.side * zoom
        corners = [(self._whole(0, take.shape[2] - size + 1), self._whole(0, take.shape[3] - size + 1)) for _ in range(self._tries())]
        top, left = max(corners, key=lambda at: _detail(take[start], torch.tensor([at[1] + size / 2, at[0] + size / 2]), size / 2))
        part = take[start : start + step * self.frames : step, :, top : top + size, left : left + size].float() / 255
        return avg_pool2d(part, zoom) if zoom > 1 else part

    def _view(self) -> Tensor:
        """A moving view of a photograph, [T, 3, S, S] with S = side x OVERSAMPLING."""
        photograph = self.photographs[self._whole(0, len(self.photographs))].frames[0]
        height, width = photograph.shape[1:]
        size = self.side * OVERSAMPLING
        step = math.exp(self._real(math.log(0.5), math.log(2.0)))  # source pixels per sample
        path, turn, zoom = self._path() * OVERSAMPLING * step, self._real(0, 2 * math.pi), self._drift(0.01)
        turns = turn + self._drift(0.02)
        reach = size * step * 0.75
        centre = max((self._somewhere(width, height) for _ in range(self._tries())), key=lambda at: _detail(photograph, at, reach / 2))
        centres = _kept_inside(centre + path, reach, width, height)
        ticks = (torch.arange(size) - (size - 1) / 2) * step
        y, x = torch.meshgrid(ticks, ticks, indexing="ij")
        scale = torch.exp(zoom)[:, None, None]
        cos, sin = (f(turns)[:, None, None] * scale for f in (torch.cos, torch.sin))
        columns = centres[:, 0, None, None] + cos * x - sin * y
        rows = centres[:, 1, None, None] + sin * x + cos * y
        return _sampled(photograph, columns, rows)

    def _tries(self) -> int:
        """Most of a photograph is out of focus or sky; what is learned most from is looked for, but not always."""
        return TRIES if self._chance(SOUGHT) else 1

    def _somewhere(self, width: int, height: int) -> Tensor:
        return torch.tensor([self._real(0, width), self._real(0, height)])

    def _path(self) -> Tensor:
        """[T, 2] of frame pixels; slow cameras are more common than fast ones."""
        if self._chance(STILL):
            return torch.zeros(self.frames, 2)
        speed, angle = self._real(0, 1) ** 2 * 8, self._real(0, 2 * math.pi)
        velocity = torch.tensor([math.cos(angle), math.sin(angle)]) * speed
        shake = torch.randn(self.frames, 2, generator=self.random) * self._real(0, 1) ** 2 * 0.7
        return torch.cumsum(velocity + shake, 0)

    def _drift(self, most: float) -> Tensor:
        speed = self._real(-1, 1) ** 3 * most if not self._chance(STILL) else 0.0
        return torch.arange(self.frames) * speed

    def _mask(self) -> Tensor:
        """[T, 1, S, S]: a soft-edged blob that moves."""
        size = self.side * OVERSAMPLING
        cells = self._whole(3, 8)
        blob = torch.rand(1, 1, cells * 3, cells * 3, generator=self.random)
        large = interpolate(blob, size=(3 * size, 3 * size), mode="bicubic")[0]
        edges = ((large - 0.5) * size / cells).clamp(0, 1)
        path = (self._path() * OVERSAMPLING).round().long() + size
        starts = path.clamp(0, 2 * size).tolist()
        return torch.stack([edges[:, top : top + size, left : left + size] for left, top in starts])

    def _varied(self, frames: Tensor) -> Tensor:
        """Mirrored, turned, played backwards, lighter or darker, in other colours."""
        dims = [dim for dim in (0, 2, 3) if self._chance(0.5)]
        frames = frames.flip(dims) if dims else frames
        frames = frames.transpose(2, 3) if self._chance(0.5) else frames
        if self._chance(0.3):
            frames = frames[:, torch.randperm(3, generator=self.random)]
        return frames * self._real(0.6, 1.0) if self._chance(0.3) else frames

    def _chance(self, share: float) -> bool:
        return self._real(0, 1) < share

    def _real(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.random))

    def _whole(self, low: int, high: int) -> int:
        """From low to below high."""
        return int(torch.randint(low, max(low + 1, high), (), generator=self.random))


def _detail(picture: Tensor, centre: Tensor, reach: float) -> float:
    """Mean absolute difference of neighbours around a place."""
    height, width = picture.shape[1:]
    left, top = (int(min(max(float(at) - reach, 0), size - 2 * reach - 2)) for at, size in ((centre[0], width), (centre[1], height)))
    part = picture[1, max(top, 0) : max(top, 0) + int(2 * reach) : 2, max(left, 0) : max(left, 0) + int(2 * reach)].float()
    return float(part.diff(dim=1).abs().mean())


def _kept_inside(centres: Tensor, reach: float, width: int, height: int) -> Tensor:
    """The path, moved as a whole so that it begins and ends inside where that can be."""
    for axis, size in ((0, width), (1, height)):
        low, high = float(centres[:, axis].min()) - reach, float(centres[:, axis].max()) + reach
        centres[:, axis] += max(0.0, -low) - max(0.0, high - size)
    return centres


def _sampled(photograph: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
    """Bilinear samples, mirrored beyond the borders; only the part that is looked at is converted."""
    height, width = photograph.shape[1:]
    left, right = int(columns.min().clamp(0, width - 2)), int(columns.max().clamp(1, width - 1)) + 2
    top, bottom = int(rows.min().clamp(0, height - 2)), int(rows.max().clamp(1, height - 1)) + 2
    part = photograph[:, top:bottom, left:right].float()[None] / 255
    x = (columns - left) / max(part.shape[3] - 1, 1) * 2 - 1
    y = (rows - top) / max(part.shape[2] - 1, 1) * 2 - 1
    grid = torch.stack([x, y], -1)
    return grid_sample(part.expand(len(grid), -1, -1, -1), grid, mode="bilinear", padding_mode="reflection", align_corners=True)
