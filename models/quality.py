"""What a restoration did to a clip, measured as it goes by: noise, faithfulness, flicker, and a crop to look at.

    source, restored -> the same few squares of luma -> both on the source's grid -> sums          nothing grows with the clip

What was made larger is brought back to the source's size first (antialiased bicubic), so before and after are numbers of one kind; that alone
takes some of the finest noise away, as any interpolation up and down does.
Knows pictures and nothing of networks, codecs or tables.
"""

from dataclasses import dataclass
from math import log10

import numpy as np
import torch
from torch.nn.functional import interpolate

from models.flicker import Flicker
from models.noise import noise_sigma
from models.patches import grid
from models.picture import Picture, PictureFormat
from models.sample import Sample, sample

MARGIN = 4  # pixels at a square's border that a square brought down does not know well
IDENTICAL_DB = 100.0  # PSNR of what is the same
NEXT_PROBE = 1.5  # pictures looked at for a sample grow rarer, so that a long clip costs what a short one does


@dataclass(frozen=True, slots=True)
class Quality:
    """Measures of one clip, luma in 8-bit steps; None where the clip does not tell."""

    noise_before: float | None  # sigma, mean over pictures; None where all is black or white
    noise_after: float | None
    psnr_down_db: float | None  # of what was made, at the source's size, against the source; 100 where they are the same; None without pictures
    flicker_before: float | None  # mean magnitude of the second difference in time of what stands still; None where nothing does
    flicker_after: float | None
    sample_pts: int | None  # of the picture whose crop is shown, in the clip's time base
    before_jpeg: bytes  # that crop; empty without pictures
    after_jpeg: bytes


class Meter:
    """Measures one clip."""

    def __init__(self, form: PictureFormat, output_form: PictureFormat) -> None:
        self.form, self.output_form = form, output_form
        self.scale = output_form.width // form.width
        self._grid = grid(form.height, form.width)
        self._flicker = Flicker()
        self._before, self._after = _Mean(), _Mean()
        self._error = _Mean()
        self._pictures, self._probe = 0, 0
        self._changed = -1.0
        self._sample: Sample | None = None

    def add(self, source: Picture, restored: Picture) -> None:
        """Measure the next picture and what was made of it."""
        before = self._squares(source, self.form, scale=1)
        large = self._squares(restored, self.output_form, scale=self.scale)
        after = _brought_down(large, self.scale)
        noise = noise_sigma(before)
        self._before.add(noise)
        self._after.add(noise_sigma(after))
        self._error.add(float(np.square(_inner(after, self.scale) - _inner(before, self.scale)).mean(dtype=np.float64)))
        self._flicker.add(before, after, noise=noise or 0.0)
        if self._pictures == self._probe:
            self._look(source, restored, before, large)
            self._probe = int(self._probe * NEXT_PROBE) + 8
        self._pictures += 1

    def quality(self) -> Quality:
        """Of all pictures so far."""
        before_jpeg, after_jpeg = self._sample.jpegs() if self._sample else (b"", b"")
        return Quality(
            noise_before=self._before.value,
            noise_after=self._after.value,
            psnr_down_db=_psnr_db(self._error.value),
            flicker_before=self._flicker.before,
            flicker_after=self._flicker.after,
            sample_pts=self._sample.pts if self._sample else None,
            before_jpeg=before_jpeg,
            after_jpeg=after_jpeg,
        )

    def _squares(self, picture: Picture, form: PictureFormat, *, scale: int) -> np.ndarray:
        """float32 [N, h * scale, w * scale], luma 0..255."""
        squares = self._grid.squares(picture.planes[0], scale=scale).astype(np.float32)
        return squares if form.bits == 8 else squares / 4

    def _look(self, source: Picture, restored: Picture, before: np.ndarray, after: np.ndarray) -> None:
        """Keep the crop around the square that changed most, if it changed more than any so far."""
        changes = np.abs(_brought_up(before, self.scale) - after).mean((1, 2))
        most = int(changes.argmax())
        if changes[most] > self._changed:
            self._changed = float(changes[most])
            self._sample = sample(source, restored, self.form, self.output_form, centre=self._grid.centre(most))


class _Mean:
    """A running mean that leaves out what is not known."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def add(self, value: float | None) -> None:
        if value is not None:
            self._sum, self._count = self._sum + value, self._count + 1

    @property
    def value(self) -> float | None:
        return self._sum / self._count if self._count else None


def _brought_down(squares: np.ndarray, scale: int) -> np.ndarray:
    return squares if scale == 1 else _resized(squares, 1 / scale)


def _brought_up(squares: np.ndarray, scale: int) -> np.ndarray:
    return squares if scale == 1 else _resized(squares, scale)


def _resized(squares: np.ndarray, factor: float) -> np.ndarray:
    resized: np.ndarray = interpolate(torch.from_numpy(squares)[:, None], scale_factor=factor, mode="bicubic", antialias=True)[:, 0].numpy()
    return resized


def _inner(squares: np.ndarray, scale: int) -> np.ndarray:
    """Without the border that was resized without knowing what lies beyond, where there is anything else."""
    if scale == 1 or min(squares.shape[1:]) <= 2 * MARGIN:
        return squares
    return squares[:, MARGIN:-MARGIN, MARGIN:-MARGIN]


def _psnr_db(error: float | None) -> float | None:
    if error is None:
        return None
    return min(10 * log10(255**2 / error), IDENTICAL_DB) if error > 0 else IDENTICAL_DB
