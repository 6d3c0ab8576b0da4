"""Films with every property a file can have, made with PyAV, and a reader of those properties that shares nothing with the code under test.

A film flashes white and beeps at the beginning of every second, so that sound and pictures can be held against each other.
"""

import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from tests.media import moving_pictures

TURNED = {
    "90": (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30),
    "180": (-65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30),
    "mirrored": (-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30),
    "phone": (0, 65536, 0, -65536, 0, 0, 120 << 16, 0, 1 << 30),  # moved back into the frame, as cameras write it
}
BEEP_S = 0.05
RATE = 48_000


@dataclass(frozen=True, slots=True)
class Film:
    """How a film is made."""

    container: str = "mp4"
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    width: int = 160
    height: int = 120
    pts: tuple[int, ...] = tuple(range(45))  # in `time_base`
    time_base: Fraction = Fraction(1, 30)
    colour: tuple[int, int, int, int] | None = None  # range, matrix, primaries, transfer
    aspect: Fraction | None = None
    display_matrix: tuple[int, ...] | None = None
    sound: str | None = None
    layout: str = "stereo"
    sound_start_s: Fraction = Fraction(0)
    options: tuple[tuple[str, str], ...] = ()  # of the encoder

    @property
    def flashes_s(self) -> list[float]:
        """When the film is white."""
        times = [float((pts - self.pts[0]) * self.time_base) for pts in self.pts]
        return [times[i] for i in _flashing(times)]


def _flashing(times: list[float]) -> list[int]:
    """The first picture of every second."""
    return [0, *(i + 1 for i, (now, then) in enumerate(pairwise(times)) if int(then + 1e-9) > int(now + 1e-9))]


@cache
def make(film: Film) -> bytes:
    """The film as a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film"
        with av.open(str(path), "w", format=film.container) as container:
            stream = _video(film, container)
            sound = _sound(film, container)
            for frame in _frames(film):
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
            if sound is not None:
                for part in _beeps(film, sound):
                    container.mux(sound.encode(part))
                container.mux(sound.encode(None))
        return path.read_bytes()


def _video(film: Film, container: Any) -> VideoStream:
    rate = len(film.pts) / ((film.pts[-1] - film.pts[0] + 1) * film.time_base)
    options = {"x265-params": "log-level=none"} if film.codec == "libx265" else {}
    stream = cast(VideoStream, container.add_stream(film.codec, rate=rate.limit_denominator(1000), options=options | dict(film.options)))
    context = stream.codec_context
    context.width, context.height, context.pix_fmt, context.time_base = film.width, film.height, film.pix_fmt, film.time_base
    context.thread_count, context.thread_type = 1, "FRAME"
    if film.colour:
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = film.colour
    if film.aspect:
        context.sample_aspect_ratio = film.aspect
    if film.display_matrix:
        stream.set_display_matrix(film.display_matrix)
    return stream


def _frames(film: Film) -> Iterator[VideoFrame]:
    times = [float((pts - film.pts[0]) * film.time_base) for pts in film.pts]
    flashing = set(_flashing(times))
    for i, (picture, pts) in enumerate(zip(moving_pictures(len(film.pts), film.width, film.height), film.pts, strict=True)):
        shown = VideoFrame.from_ndarray(np.full((film.height, film.width, 3), 255, np.uint8), "rgb24") if i in flashing else picture
        full = film.colour is not None and film.colour[0] == 2
        frame = shown.reformat(format=film.pix_fmt, dst_color_range=2 if full else 1)
        if film.colour:
            frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc = film.colour
        frame.pts, frame.time_base = pts, film.time_base
        yield frame


def _sound(film: Film, container: Any) -> Any:
    if film.sound is None:
        return None
    options = {"strict": "experimental"} if film.sound in ("opus", "vorbis") else {}
    return container.add_stream(film.sound, rate=RATE, layout=film.layout, options=options)


def _beeps(film: Film, sound: Any) -> Iterator[AudioFrame]:
    """One second after the other, each beginning with a beep, and silence before the first."""
    layout = sound.codec_context.format.name
    length_s = float((film.pts[-1] - film.pts[0] + 1) * film.time_base)
    tone = np.sin(np.arange(int(length_s * RATE)) * (2 * np.pi * 1000 / RATE)) * 0.5
    time = np.arange(len(tone)) / RATE + float(film.sound_start_s)
    tone[(time % 1) >= BEEP_S] = 0
    planes = np.tile(tone.astype(np.float32), (av.AudioLayout(film.layout).nb_channels, 1))
    resampler = av.AudioResampler(format=layout, layout=film.layout, rate=RATE)
    frame = AudioFrame.from_ndarray(planes, format="fltp", layout=film.layout)
    start = float(film.pts[0] * film.time_base) + float(film.sound_start_s)
    frame.sample_rate, frame.pts, frame.time_base = RATE, round(start * RATE), Fraction(1, RATE)
    yield from resampler.resample(frame)


@dataclass(frozen=True, slots=True)
class Read:
    """What a file says of itself, and what decodes from it."""

    codec: str
    tag: str
    pix_fmt: str
    size: tuple[int, int]  # as stored
    times: tuple[Fraction, ...]  # of the pictures, seconds from the first, ascending
    duration_s: Fraction  # from the first picture until the last one's turn is over
    colour: tuple[int, int, int, int]
    aspect: Fraction | None
    display_matrix: tuple[int, ...] | None
    sounds: tuple[tuple[str, int, str], ...]  # codec, samples per second, channels
    starts_s: float  # of the first picture, on the file's own time line


def read(data: bytes) -> Read:
    """Of any container that PyAV reads."""
    first = next(pictures(data))
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        base, context = stream.time_base, stream.codec_context
        times = {packet.pts: packet.duration for packet in container.demux(stream) if packet.size and not packet.is_discard}
        pts = sorted(times)
        usual = round(1 / stream.average_rate / base)
        end = pts[0] + stream.duration if _is_ours(data) else pts[-1] + (times[pts[-1]] or usual)
        return Read(
            codec=context.codec.canonical_name,
            tag=context.codec_tag,
            pix_fmt=first.format.name,
            size=(first.width, first.height),
            times=tuple((value - pts[0]) * base for value in pts),
            duration_s=(end - pts[0]) * base,
            colour=(first.color_range, first.colorspace, first.color_primaries, first.color_trc),
            aspect=stream.sample_aspect_ratio,
            display_matrix=tkhd_matrix(data),
            sounds=tuple((each.codec_context.codec.canonical_name, each.sample_rate, each.layout.name) for each in container.streams.audio),
            starts_s=float(pts[0] * base),
        )


def _is_ours(data: bytes) -> bool:
    """An mp4 with its index in front: its track is as long as it says; others' is known by the last picture's packet only."""
    return data[4:8] == b"ftyp" and -1 < data.find(b"moov") < data.find(b"mdat")


def pictures(data: bytes) -> Iterator[VideoFrame]:
    """All pictures of a file."""
    with av.open(io.BytesIO(data)) as container:
        yield from container.decode(video=0)


def boxes(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The boxes of an mp4 or of a box (ISO/IEC 14496-12 4.2)."""
    at = 0
    while at + 8 <= len(data):
        size, head = int.from_bytes(data[at : at + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        yield data[at + 4 : at + 8].decode("latin-1"), data[at + head : at + size]
        at += size


def box(data: bytes, *path: str) -> bytes | None:
    """The content of the first box on a path."""
    for name in path:
        data = next((content for kind, content in boxes(data) if kind == name), b"")
    return data or None


def tkhd_matrix(data: bytes) -> tuple[int, ...] | None:
    """The display matrix of an mp4's first track as it is in the file; None for other containers (14496-12 8.3.2)."""
    header = box(data, "moov", "trak", "tkhd") if data[4:8] == b"ftyp" else None
    if header is None:
        return None
    start = 52 if header[0] == 1 else 40
    return tuple(int(value) for value in np.frombuffer(header[start : start + 36], ">i4"))


def heard_s(data: bytes, track: int = 0) -> list[float]:
    """When each beep begins, seconds from the first picture."""
    start = read(data).starts_s
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.audio[track]
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=RATE)
        parts = [part for frame in container.decode(stream) for part in resampler.resample(frame)]
    loud = np.concatenate([np.abs(part.to_ndarray()[0]) for part in parts]) > 0.1
    first = float(parts[0].pts * parts[0].time_base)
    at = np.flatnonzero(loud)
    begins = at[np.concatenate([[True], np.diff(at) > RATE // 4])] if len(at) else at
    return [first + index / RATE - start for index in begins.tolist()]


def seen_s(data: bytes) -> list[float]:
    """When each flash is shown, seconds from the first picture."""
    frames = [(frame.time, frame.reformat(format="gray").to_ndarray().mean()) for frame in pictures(data)]
    return [time - frames[0][0] for time, level in frames if level > 220]


def colours(frame: VideoFrame) -> np.ndarray:
    """Mean RGB of every 8x8 pixels, computed here and not by libswscale: float [H / 8, W / 8, 3] in 0..255."""
    if frame.format.is_rgb:
        return _means(frame.to_ndarray(format="rgb24").astype(float))
    depth = 1 << frame.format.components[0].bits
    planes = [_plane(frame, i) / depth for i in range(min(len(frame.planes), 3))]
    full = frame.color_range == 2 or frame.format.name.startswith("yuvj")
    y = planes[0] * 256 / 255 if full else (planes[0] * 256 - 16) / 219
    if len(planes) == 1:
        return _means(np.repeat(255 * y[..., None], 3, 2))
    u, v = ((plane - 0.5) * 256 / (255 if full else 224) for plane in planes[1:])
    kr, kb = {1: (0.2126, 0.0722), 9: (0.2627, 0.0593)}.get(frame.colorspace, (0.299, 0.114))
    r, b = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    g = (y - kr * r - kb * b) / (1 - kr - kb)
    return _means(255 * np.stack([r, g, b], -1))


def _plane(frame: VideoFrame, index: int) -> np.ndarray:
    """One plane, each sample as often as pixels share it."""
    plane = frame.planes[index]
    dtype = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
    values = np.frombuffer(memoryview(plane), dtype).reshape(plane.height, -1)[:, : plane.width].astype(float)
    down = -(-frame.height // plane.height), -(-frame.width // plane.width)
    return values.repeat(down[0], 0).repeat(down[1], 1)[: frame.height, : frame.width]


def _means(rgb: np.ndarray) -> np.ndarray:
    height, width = (side // 8 * 8 for side in rgb.shape[:2])
    return rgb[:height, :width].clip(0, 255).reshape(height // 8, 8, width // 8, 8, 3).mean((1, 3))
