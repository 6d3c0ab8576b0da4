"""The crop where a restoration changed most, before and after, as two small pictures to look at.

Knows pictures, colours and JPEG and nothing of networks or reports.
"""

import io
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image

from models.colour import Colour
from models.picture import Picture, PictureFormat

SIDE = 256  # pixels of the crop of the restored picture
MOST_BYTES = 15_000  # of one JPEG
QUALITIES = (90, 85, 80, 75, 70, 60, 50, 40, 30, 20, 10)


@dataclass(frozen=True, slots=True)
class Sample:
    """The same part of a picture before and after."""

    pts: int  # of the picture, in the clip's time base
    before: np.ndarray  # uint8 [h, w, 3]
    after: np.ndarray  # uint8 [h * scale, w * scale, 3]

    def jpegs(self) -> tuple[bytes, bytes]:
        """Before and after at one size and one quality, the best at which neither has more than MOST_BYTES."""
        after = Image.fromarray(self.after)
        before = Image.fromarray(self.before).resize(after.size, Image.Resampling.BICUBIC)
        for quality in QUALITIES:
            pair = _jpeg(before, quality), _jpeg(after, quality)
            if max(map(len, pair)) <= MOST_BYTES:
                break
        return pair


def sample(source: Picture, restored: Picture, form: PictureFormat, output_form: PictureFormat, *, centre: tuple[int, int]) -> Sample:
    """The crop around a pixel (row, column) of the source, or as near as the border allows."""
    scale = output_form.width // form.width
    top, height = _span(centre[0], form.height, SIDE // scale)
    left, width = _span(centre[1], form.width, SIDE // scale)
    before = _cut(source, form, top=top, left=left, height=height, width=width)
    after = _cut(restored, output_form, top=top * scale, left=left * scale, height=height * scale, width=width * scale)
    return Sample(source.pts, before, after)


def _span(centre: int, size: int, side: int) -> tuple[int, int]:
    """Start, even for the chroma's sake, and length."""
    length = min(side, size)
    return min(max(centre - side // 2, 0), size - length) // 2 * 2, length


def _cut(picture: Picture, form: PictureFormat, *, top: int, left: int, height: int, width: int) -> np.ndarray:
    """uint8 RGB [height, width, 3]."""
    cut = replace(form, height=height, width=width)
    y, u, v = picture.planes
    down, across = (2 if form.chroma == "420" else 1), (1 if form.chroma == "444" else 2)
    rows, columns = cut.chroma_shape
    chroma = (slice(top // down, top // down + rows), slice(left // across, left // across + columns))
    colour = Colour(cut, torch.device("cpu"))
    with torch.inference_mode():
        rgb = colour.rgb(colour.codes(Picture((y[top : top + height, left : left + width], u[chroma], v[chroma]), picture.pts)))
        levels: np.ndarray = rgb[0].permute(1, 2, 0).mul(255).round().clamp(0, 255).to(torch.uint8).numpy()
    return levels


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()
