"""Footage to learn from: photographs and videos as takes of 8-bit RGB frames.

Large pictures are reduced, which also takes away the noise of their own. Knows storage, Pillow and the safe opening of videos, nothing of
training.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import BinaryIO, cast

import av
import numpy as np
import torch
from av.container import InputContainer
from av.video.frame import VideoFrame
from PIL import Image
from torch import Tensor

from infra import storage
from infra.settings import LimitsConfig
from infra.storage import ObjectInfo
from tasks.clip import ClipError, FailureKind
from tasks.container import Video, open_video

PHOTOGRAPHS = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP", ".ppm": "PPM",
}  # fmt: skip
MOST_PIXELS = Image.MAX_IMAGE_PIXELS or 89_478_485  # of a photograph: Pillow warns of larger ones
LIMITS = LimitsConfig(max_bytes=1 << 40)  # of a video; a film is longer than a clip
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

    @property
    def size_bytes(self) -> int:
        """Bytes in memory."""
        return self.frames.numel()


def is_photograph(uri: str) -> bool:
    """Whether the suffix is one of a picture that can be learned from."""
    return _suffix(uri) in PHOTOGRAPHS


def takes_of(file: ObjectInfo, *, smallest: int = SMALLEST, begin: float = 0.0) -> Iterator[Take]:
    """What a file shows, in order; nothing where it is too small.

    Args:
        smallest: pixels that the shorter side must have.
        begin: where in a video to begin, as a share of its duration, as well as its container can.

    Raises:
        ClipError: it cannot be read, or not to its end.
        StorageError: the store fails.
    """
    frames = _frames_of(file, begin)
    while chunk := list(islice(frames, TAKE_FRAMES)):
        if min(chunk[0].shape[:2]) < smallest:
            return
        yield Take(file.uri, torch.from_numpy(np.stack(chunk)).permute(0, 3, 1, 2))


def _frames_of(file: ObjectInfo, begin: float) -> Iterator[np.ndarray]:
    with storage.open_seekable(file) as opened:
        if is_photograph(file.uri):
            yield _photograph(opened, PHOTOGRAPHS[_suffix(file.uri)])
        else:
            yield from _video_frames(opened, begin)


def _photograph(opened: BinaryIO, form: str) -> np.ndarray:
    try:
        with Image.open(opened, formats=[form]) as found:
            if found.width * found.height > MOST_PIXELS:
                raise _bomb()
            if found.mode.startswith(("I", "F")):
                raise ClipError(FailureKind.UNSUPPORTED, f"its pixels are {found.mode}, not 8 bits; convert it")
            return _reduced(found.convert("RGB"), LONG_SIDE["photograph"])
    except (storage.StorageError, ClipError):
        raise
    except Image.DecompressionBombError as error:
        raise _bomb() from error
    except Exception as error:  # Pillow's decoders raise what they like
        raise ClipError(FailureKind.CORRUPT, f"not a readable {form} ({error}); fetch the file again") from error


def _bomb() -> ClipError:
    return ClipError(FailureKind.TOO_LARGE, f"it has more than {MOST_PIXELS:,} pixels; reduce it")


def _video_frames(opened: BinaryIO, begin: float) -> Iterator[np.ndarray]:
    with open_video(opened, limits=LIMITS) as video:
        if begin and video.seekable:
            video.seek((video.stream.start_time or 0) + int(begin * _duration(video)))
        first: tuple[int, int] | None = None
        for frame in _decoded(video):
            size = frame.width, frame.height
            first = first or size
            if size != first:
                raise ClipError(FailureKind.UNSUPPORTED, f"its pictures change from {first} to {size} pixels; cut it there")
            yield _reduced(Image.fromarray(frame.to_ndarray(format="rgb24")), LONG_SIDE["video"])


def _decoded(video: Video) -> Iterator[VideoFrame]:
    for packet in video.packets():
        yield from video.decode(packet)
    yield from video.decode(None)


def _duration(video: Video) -> float:
    """In units of pts; 0 where the file does not tell."""
    if video.stream.duration:
        return video.stream.duration
    whole: int | None = cast(InputContainer, video.stream.container).duration
    return (whole or 0) / av.time_base / float(video.time_base)


def _reduced(picture: Image.Image, long_side: int) -> np.ndarray:
    factor = -(-max(picture.size) // long_side)
    return np.asarray(picture.reduce(factor) if factor > 1 else picture)


def _suffix(uri: str) -> str:
    return PurePosixPath(uri).suffix.lower()
