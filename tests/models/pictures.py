"""Pictures as a decoder gives them: noise, flat colours, and waves whose place is known to a fraction of a pixel."""

import numpy as np

from models.picture import Picture, PictureFormat


def form(width: int, height: int, *, bits: int = 8, chroma: str = "420", matrix: str = "bt709", full_range: bool = False) -> PictureFormat:
    return PictureFormat(width, height, bits, chroma, matrix, full_range)


def kind(of: PictureFormat) -> type:
    return np.uint8 if of.bits == 8 else np.uint16


def flat(of: PictureFormat, y: int, u: int, v: int, *, pts: int = 0) -> Picture:
    """One colour, in codes."""
    return Picture(tuple(np.full(shape, code, kind(of)) for shape, code in zip(shapes(of), (y, u, v), strict=True)), pts)


def noise(of: PictureFormat, *, pts: int = 0) -> Picture:
    """Any code there is, everywhere."""
    random = np.random.default_rng(pts)
    return Picture(tuple(random.integers(0, 1 << of.bits, shape).astype(kind(of)) for shape in shapes(of)), pts)


def wave(of: PictureFormat, *, periods: tuple[float, float, float] = (3, 2, 2), scale: int = 1, pts: int = 0) -> Picture:
    """Waves over the whole picture in each plane, sampled where the samples lie (chroma left, as MPEG-2 has it), on a grid `scale` times as fine."""
    down, across = (2 if of.chroma == "420" else 1), (1 if of.chroma == "444" else 2)
    step = 1 << (of.bits - 8)
    planes = []
    for index, (shape, period) in enumerate(zip(shapes(of), periods, strict=True)):
        rows, columns = np.arange(shape[0]) * (down if index else 1), np.arange(shape[1]) * (across if index else 1)
        y = (rows + (0.5 * down if index else 0.5)) / of.height
        x = (columns + 0.5) / of.width
        value = 128 + 50 * np.cos(2 * np.pi * period * x)[None, :] * np.cos(2 * np.pi * period * y)[:, None]
        planes.append((value * step).round().astype(kind(of)))
    return Picture(tuple(planes), pts)


def shapes(of: PictureFormat) -> tuple[tuple[int, int], ...]:
    return (of.height, of.width), of.chroma_shape, of.chroma_shape
