"""Footage to learn from: photographs and videos as takes of 8-bit RGB frames, split into those to learn from and those to be judged by.

Large pictures are reduced, which also takes away the noise of their own. Knows files, Pillow and PyAV, nothing of training.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from infra.problem import Problem

PHOTOGRAPHS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".ppm"})
VIDEOS = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ogv", ".mpg", ".mpeg"})
LONG_SIDE = {"photograph": 2048, "video": 640}  # pixels after reduction
SMALLEST = 160  # pixels of the shorter side that a take must have
TAKE_FRAMES = 64


@dataclass(frozen=True, slots=True)
class Take:
    """Frames of one camera position, or one photograph."""

    name: str
    frames: Tensor  # uint8 [T, 3, H, W]

    @property
    def moves(self) -> bool:
        """Whether it is video."""
        return len(self.frames) > 1


def files_of(folders: Sequence[str]) -> tuple[Path, ...]:
    """Photographs and videos in folders, at any depth, in the order of their names.

    Raises:
        Problem: there is none.
    """
    roots = [Path(folder) for folder in folders]
    found = {path for root in roots for path in ([root] if root.is_file() else root.rglob("*"))}
    kept = tuple(sorted(path for path in found if path.suffix.lower() in PHOTOGRAPHS | VIDEOS))
    if not kept:
        raise Problem(f"corpus {', '.join(folders)}: no photograph or video in it; name a folder that has some")
    return kept


def is_held_out(path: Path, share: float) -> bool:
    """Whether a file is never learned from; its name and bytes decide, so it stays so wherever it lies."""
    digest = hashlib.sha256(path.name.encode()).digest()
    return int.from_bytes(digest[:4]) < share * 2**32


def takes_of(path: Path) -> Iterator[Take]:
    """What a file shows; nothing where it is too small or not readable."""
    frames = _frames_of(path)
    while chunk := [frame for frame, _ in zip(frames, range(TAKE_FRAMES), strict=False)]:
        if min(chunk[0].shape[:2]) >= SMALLEST:
            yield Take(path.name, torch.from_numpy(np.stack(chunk)).permute(0, 3, 1, 2))


def _frames_of(path: Path) -> Iterator[np.ndarray]:
    if path.suffix.lower() in PHOTOGRAPHS:
        with Image.open(path) as photograph:
            yield _reduced(photograph.convert("RGB"), LONG_SIDE["photograph"])
        return
    with av.open(path) as container:
        for frame in container.decode(video=0):
            yield _reduced(Image.fromarray(frame.to_ndarray(format="rgb24")), LONG_SIDE["video"])


def _reduced(picture: Image.Image, long_side: int) -> np.ndarray:
    factor = -(-max(picture.size) // long_side)
    return np.asarray(picture.reduce(factor) if factor > 1 else picture)
