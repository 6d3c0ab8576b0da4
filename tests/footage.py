"""Small photographs and videos to learn from: edges, texture and gradients, other ones for each number. Knows nothing of what is tested."""

from pathlib import Path

import numpy as np
from PIL import Image

from infra import storage
from infra.storage import ObjectInfo
from tests.media import encode, moving_pictures


def photograph(number: int, *, side: int = 176) -> Image.Image:
    """Straight edges of all directions over a gradient."""
    random = np.random.default_rng(number)
    y, x = np.mgrid[:side, :side] / side
    picture = np.stack([x, y, 1 - x], -1) * 0.4
    for _ in range(25):
        angle, offset, width = random.uniform(0, np.pi), random.uniform(-0.5, 1.2), random.uniform(0.02, 0.2)
        inside = np.abs(np.cos(angle) * x + np.sin(angle) * y - offset) < width
        picture[inside] = random.uniform(0, 1, 3)
    return Image.fromarray((picture * 255).round().astype(np.uint8))


def write_photographs(folder: Path, count: int, *, side: int = 176) -> Path:
    """PNG files in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        photograph(number, side=side).save(folder / f"photograph-{number}.png")
    return folder


def write_video(path: Path, frames: int, *, width: int = 176, height: int = 168, seed: int = 0) -> Path:
    """An mp4."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(moving_pictures(frames, width, height, seed)))
    return path


def listed(folder: Path) -> list[ObjectInfo]:
    """The files of a folder as storage names them."""
    return storage.list_objects(str(folder))
