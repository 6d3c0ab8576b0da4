"""Decoded planes to RGB on the device and back, at the precision they have.

    codes --(code - offset) / scale--> y, cb, cr --matrix--> rgb 0..1          (values beyond 0..1 stay: they come back as they were)
    corrected:  codes + planes of (restored - seen), rounded    no change of rgb changes no code, whatever was lost on the way to rgb
    converted:  planes of restored, rounded                     for pictures of another size

Ranges and matrices: ITU-R BT.601-7, BT.709-6, BT.2020-2 (non-constant luminance); full range as H.273 has it. The transfer curve is left alone.
Knows tensors and formats and nothing of networks or codecs.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.chroma import on_chroma_grid, on_luma_grid
from models.picture import Matrix, Picture, PictureFormat

RED_BLUE: dict[Matrix, tuple[float, float]] = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}  # luma weights


class Codes(NamedTuple):
    """The planes of one picture on the device, as integers."""

    y: Tensor  # uint8 or int16 [1, 1, H, W]
    uv: Tensor  # uint8 or int16 [1, 2, h, w]


class Colour:
    """The conversion of one format on one device."""

    def __init__(self, form: PictureFormat, device: torch.device) -> None:
        self.form = form
        self.device = device
        self.red, self.blue = RED_BLUE[form.matrix]
        self.green = 1 - self.red - self.blue
        step = 1 << (form.bits - 8)
        self.top = (256 * step) - 1
        self.middle = 128 * step
        self.black, self.y_scale, self.uv_scale = (0, self.top, self.top) if form.full_range else (16 * step, 219 * step, 224 * step)
        self.dtype = torch.uint8 if form.bits == 8 else torch.int16

    def codes(self, picture: Picture) -> Codes:
        """The picture's planes on the device; on a GPU the copy does not wait.

        Raises:
            ValueError: the planes are not of the format.
        """
        y, u, v = picture.planes
        self._check(picture)
        return Codes(self._sent([y]), self._sent([u, v]))

    def _check(self, picture: Picture) -> None:
        form, kind = self.form, np.uint8 if self.form.bits == 8 else np.uint16
        wanted = [(form.height, form.width), form.chroma_shape, form.chroma_shape]
        if [plane.shape for plane in picture.planes] != wanted or any(plane.dtype != kind for plane in picture.planes):
            found = ", ".join(f"{plane.dtype} {list(plane.shape)}" for plane in picture.planes)
            raise ValueError(f"planes do not fit {form}: {found}")

    def _sent(self, planes: list[np.ndarray]) -> Tensor:
        shape = (1, len(planes), *planes[0].shape)
        own = torch.empty(
            shape, dtype=self.dtype, pin_memory=self.device.type == "cuda"
        )  # a decoder's planes may be read-only, which torch does not know
        for target, plane in zip(own.numpy()[0], planes, strict=True):
            target[...] = plane
        return own.to(self.device, non_blocking=True)

    def rgb(self, codes: Codes) -> Tensor:
        """float32 [1, 3, H, W]."""
        y = codes.y.float().sub_(self.black).mul_(1 / self.y_scale)
        uv = codes.uv.float().sub_(self.middle).mul_(1 / self.uv_scale)
        cb, cr = on_luma_grid(uv, self.form.chroma, height=self.form.height, width=self.form.width).chunk(2, dim=1)
        rgb = torch.empty((1, 3, *y.shape[2:]), device=self.device)
        red, green, blue = rgb.chunk(3, dim=1)
        torch.add(y, cr, alpha=2 * (1 - self.red), out=red)
        torch.add(y, cb, alpha=2 * (1 - self.blue), out=blue)
        torch.add(y, cr, alpha=-2 * (1 - self.red) * self.red / self.green, out=green)
        green.add_(cb, alpha=-2 * (1 - self.blue) * self.blue / self.green)
        return rgb

    def _planes(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        """Luma and, on the chroma grid, cb and cr, in steps of one code and without offsets; linear, so differences may be given too."""
        red, green, blue = rgb.float().chunk(3, dim=1)
        y = (red * self.red).add_(green, alpha=self.green).add_(blue, alpha=self.blue)
        cb = (blue - y).mul_(self.uv_scale / (2 * (1 - self.blue)))
        cr = (red - y).mul_(self.uv_scale / (2 * (1 - self.red)))
        return y.mul_(self.y_scale), on_chroma_grid(torch.cat([cb, cr], 1), self.form.chroma)

    def corrected(self, codes: Codes, change: Tensor) -> Codes:
        """Codes plus a change of rgb, float [1, 3, H, W]."""
        y, uv = self._planes(change)
        return Codes(self._rounded(y.add_(codes.y)), self._rounded(uv.add_(codes.uv)))

    def converted(self, rgb: Tensor) -> Codes:
        """Codes of rgb, float [1, 3, H, W]."""
        y, uv = self._planes(rgb)
        return Codes(self._rounded(y.add_(self.black)), self._rounded(uv.add_(self.middle)))

    def _rounded(self, values: Tensor) -> Tensor:
        return values.round_().clamp_(0, self.top).to(self.dtype)


class Arriving:
    """A picture on its way back from the device."""

    def __init__(self, codes: Codes, *, pts: int, total: Tensor) -> None:
        """Set the copies going.

        Args:
            total: of all values the codes were made of; not finite where one of them is not.
        """
        self.pts = pts
        self._y, self._uv, self._total = (_copied_back(values) for values in (codes.y, codes.uv, total))
        self._done = torch.cuda.Event() if codes.y.is_cuda else None  # type: ignore[no-untyped-call]  # torch does not annotate it
        if self._done:
            self._done.record()

    def picture(self) -> Picture:
        """Waits until it is there."""
        if self._done:
            self._done.synchronize()
        y, u, v = (_as_numpy(plane) for plane in (self._y[0, 0], self._uv[0, 0], self._uv[0, 1]))
        return Picture((y, u, v), self.pts)

    @property
    def finite(self) -> bool:
        """Whether it was made of numbers; known once the picture is there."""
        return bool(torch.isfinite(self._total))


def _copied_back(values: Tensor) -> Tensor:
    if not values.is_cuda:
        return values
    return torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)


def _as_numpy(plane: Tensor) -> np.ndarray:
    values: np.ndarray = plane.numpy()
    return values.view(np.uint16) if values.dtype == np.int16 else values
