"""Stand-ins for networks and codecs of enhancement: they really decode, brighten, enlarge, measure and encode, in this process and in milliseconds.

Dark pictures are more than they can take, as of a user's network; what cannot be decoded to its end is CORRUPT.
"""

import io
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.error import FFmpegError
from PIL import Image

from infra.settings import EnhanceConfig, RunConfig
from models.prediction import ModelError
from models.quality import Quality
from tasks.clip import ClipError, FailureKind, Window
from tasks.enhance import Enhanced
from tests.media import Recipe, encode

DARKEST = 80  # mean grey level


class Brightener:
    """Adds ten grey levels, and the recipe's number of pixels."""

    def __init__(self, recipe: EnhanceConfig) -> None:
        self.scale = 2 if "upscale" in recipe.recipe else 1

    def enhance(self, file: BinaryIO, *, window: Window | None, sink: BinaryIO) -> Enhanced[Quality]:
        """As `tasks.restored.Enhances`."""
        started_s = time.monotonic()
        before = self._pictures(file, window)
        if np.mean(before) < DARKEST:
            raise ModelError("too dark for me")
        after = np.clip(before.astype(np.int16) + 10, 0, 255).astype(np.uint8).repeat(self.scale, 1).repeat(self.scale, 2)
        video = encode([av.VideoFrame.from_ndarray(picture, format="rgb24") for picture in after], Recipe(codec="mpeg4", rate=10))
        shutil.copyfileobj(io.BytesIO(video), sink)
        return Enhanced(
            width=after.shape[2],
            height=after.shape[1],
            fps=10.0,
            frames=len(after),
            duration_s=len(after) / 10,
            size_bytes=len(video),
            codec="h264",
            encoder="mpeg4",
            has_audio=False,
            quality=_measured(before, after),
            elapsed_s=time.monotonic() - started_s,
            gpu_s=0.0,
            first_pts=0,
            time_base=Fraction(1, 10),
        )

    def _pictures(self, file: BinaryIO, window: Window | None) -> np.ndarray:
        start_s, end_s = (window.start_s, window.end_s) if window else (0.0, 1e9)
        with _local(file) as path:
            try:
                with av.open(str(path)) as container:
                    frames = [frame for frame in container.decode(video=0) if start_s <= (frame.time or 0.0) < end_s]
            except (FFmpegError, IndexError) as error:
                raise ClipError(FailureKind.CORRUPT, f"made up: {error}", attempts=2) from error
        return np.stack([frame.to_ndarray(format="rgb24") for frame in frames])


@contextmanager
def _local(file: BinaryIO) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video"
        with path.open("wb") as copy:
            shutil.copyfileobj(file, copy)
        yield path


def _measured(before: np.ndarray, after: np.ndarray) -> Quality:
    down = after[:, :: after.shape[1] // before.shape[1], :: after.shape[2] // before.shape[2]].astype(float)
    psnr = 10 * np.log10(255**2 / np.mean((down - before) ** 2))
    noise = [float(np.std(pictures[0])) for pictures in (before, after)]
    flicker = [float(np.mean(np.abs(np.diff(pictures.astype(float), axis=0)))) if len(pictures) > 1 else 0.0 for pictures in (before, after)]
    return Quality(*noise, float(psnr), *flicker, 2, _jpeg(before[0]), _jpeg(after[0]))


def _jpeg(picture: np.ndarray) -> bytes:
    target = io.BytesIO()
    Image.fromarray(picture).save(target, "JPEG")
    return target.getvalue()


def brighteners(config: RunConfig) -> dict[str, Brightener]:
    """One for each recipe of a run, by its name."""
    return {recipe.label: Brightener(recipe) for recipe in config.enhance}
