"""One frame of any size to the square a network eats.

    [H,W,3] -> shorter side to `resize`, bicubic, antialiased -> centre `crop` -> [crop,crop,3]

Anyone can recompute it, to within a level or two of 255, columns first and then rows:
    long = int(resize * long / short)
    image.resize((width, image.height), BICUBIC).resize((width, height), BICUBIC)     PIL.Image, then the square at
    left = round((width - crop) / 2), top = round((height - crop) / 2)
Source of the rounding: torchvision's Resize and CenterCrop. Pillow's one call `resize((width, height))` chooses the order of its two
passes by its version and the sizes; the order is fixed here, so that a library's choice does not change an embedding.

Only the crop is computed, so a frame of 16 million pixels in one row costs no more than its crop. Knows Pillow and nothing of torch.
"""

from math import ceil, floor

import numpy as np
from PIL import Image

from models.spec import Geometry

BICUBIC_REACH = 2  # source pixels to each side of an output pixel, times the shrinking


def prepare(rgb: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Resize the shorter side, cut the centre.

    Args:
        rgb: uint8 [H, W, 3]; H and W at least 1.
        geometry: sizes in pixels.

    Returns:
        uint8 [crop, crop, 3]; a view of `rgb` when its shorter side already equals `resize`.

    Raises:
        ValueError: not a uint8 image of three channels with pixels in it.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise ValueError(f"a frame is uint8 [H, W, 3] with pixels, not {rgb.dtype} {list(rgb.shape)}")
    height, width = rgb.shape[:2]
    if min(height, width) == geometry.resize:
        top, left = _offset(height, geometry.crop), _offset(width, geometry.crop)
        return rgb[top : top + geometry.crop, left : left + geometry.crop]
    return _resized_centre(rgb, geometry)


def resized_size(height: int, width: int, resize: int) -> tuple[int, int]:
    """Pixels (height, width) after the shorter side became `resize`."""
    if width <= height:
        return int(resize * height / width), resize
    return resize, int(resize * width / height)


def _offset(size: int, crop: int) -> int:
    return round((size - crop) / 2.0)


def _resized_centre(rgb: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Columns, then rows, each pass restricted to what the crop needs."""
    height, width = rgb.shape[:2]
    new_height, new_width = resized_size(height, width, geometry.resize)
    left, right = _source_span(width, new_width, geometry.crop)
    top, bottom = _source_span(height, new_height, geometry.crop)
    reach = BICUBIC_REACH * max(height / new_height, 1.0) + 1
    first, last = max(floor(top - reach), 0), min(ceil(bottom + reach), height)
    rows = Image.fromarray(rgb[first:last])
    columns_done = rows.resize((geometry.crop, last - first), Image.Resampling.BICUBIC, box=(left, 0, right, last - first))
    box = (0, top - first, geometry.crop, min(bottom - first, last - first))
    return np.asarray(columns_done.resize((geometry.crop, geometry.crop), Image.Resampling.BICUBIC, box=box))


def _source_span(size: int, new_size: int, crop: int) -> tuple[float, float]:
    """Where the centre crop of a resized side lies on the source, in source pixels."""
    start, scale = _offset(new_size, crop), size / new_size
    return start * scale, min((start + crop) * scale, float(size))
