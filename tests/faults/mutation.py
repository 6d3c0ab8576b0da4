"""Damage with a sense for formats: what an attacker, a bad disk or a half-written upload makes of a real file.

An edit is (what, where, how much, seed): plain numbers, so that hypothesis shrinks them. Knows bytes, box sizes and headers; runs nothing.
"""

import random
import struct
from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple, get_args

from hypothesis import strategies as st

from tests.media import Recipe, encode, moving_pictures

What = Literal["flip", "overwrite", "insert", "delete", "number", "box", "repeat", "splice", "cut"]
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFF00)
VPX = {"deadline": "realtime", "cpu-used": "8"}
QUIET265 = {"preset": "ultrafast", "x265-params": "log-level=none:pools=1:frame-threads=1"}
RECIPES = {
    "h264 mp4": Recipe(),
    "h264 mp4, index first": Recipe(muxer={"movflags": "faststart"}),
    "h264 fragmented": Recipe(muxer={"movflags": "frag_keyframe+empty_moov"}, gop=3),
    "h264 mpegts": Recipe("mpegts"),
    "h264 matroska": Recipe("matroska", with_audio=True),
    "h264 avi": Recipe("avi"),
    "hevc mp4": Recipe(codec="libx265", options=QUIET265),
    "mpeg4 avi": Recipe("avi", "mpeg4", gop=4, b_frames=2),
    "mpeg4 mp4": Recipe(codec="mpeg4", gop=4, b_frames=2),
    "vp8 webm": Recipe("webm", "libvpx", options=VPX),
    "vp8 ogg": Recipe("ogg", "libvpx", options=VPX),
    "vp9 webm": Recipe("webm", "libvpx-vp9", options=VPX),
    "av1 mp4": Recipe(codec="libsvtav1", options={"preset": "12", "svtav1-params": "lp=1"}),
    "mpeg2 program": Recipe("mpeg", "mpeg2video", gop=4, b_frames=2),
    "mpeg2 transport": Recipe("mpegts", "mpeg2video", gop=4, b_frames=2),
    "mpeg1 bare": Recipe("mpeg1video", "mpeg1video", gop=4),
    "mjpeg mov": Recipe("mov", "mjpeg", "yuvj420p"),
    "png mov": Recipe("mov", "png", "rgb24"),
    "prores mov": Recipe("mov", "prores", "yuv422p10le"),
    "qtrle mov": Recipe("mov", "qtrle", "rgb24"),
    "ffv1 matroska": Recipe("matroska", "ffv1"),
    "flv1 flv": Recipe("flv", "flv"),
    "wmv2 asf": Recipe("asf", "wmv2"),
    "svq1 mov": Recipe("mov", "svq1", "yuv410p"),
    "huffyuv avi": Recipe("avi", "huffyuv", "yuv422p"),
}


class Edit(NamedTuple):
    """One wound."""

    what: What
    where: float  # 0..1 of the file; below 0.2 in its first 2 kB, where headers are
    size: int
    seed: int


EDITS = st.builds(Edit, st.sampled_from(get_args(What)), st.floats(0, 1, exclude_max=True), st.integers(1, 64), st.integers(0, 1 << 16))


@cache
def video(name: str) -> bytes:
    """A small real video."""
    return encode(moving_pictures(8, 64, 48), RECIPES[name])


def mutated(data: bytes, edits: Sequence[Edit], donor: bytes = b"") -> bytes:
    """The data after all edits; `donor` is what is spliced in."""
    out = bytearray(data)
    for edit in edits:
        at = _place(edit.where, len(out))
        draw = random.Random(edit.seed)
        _APPLIED[edit.what](out, at, edit.size, draw, donor or data)
    return bytes(out)


def _place(where: float, length: int) -> int:
    return int(where * 5 * min(length, 2_000)) if where < 0.2 else int((where - 0.2) / 0.8 * length)


def _flip(out: bytearray, at: int, size: int, draw: random.Random, donor: bytes) -> None:
    for place in (min(at + draw.randrange(size * 8), len(out) - 1) for _ in range(draw.randint(1, 8))):
        if out:
            out[place] ^= 1 << draw.randrange(8)


def _overwrite(out: bytearray, at: int, size: int, draw: random.Random, donor: bytes) -> None:
    out[at : at + size] = draw.randbytes(size)[: max(0, len(out) - at)]


def _insert(out: bytearray, at: int, size: int, draw: random.Random, donor: bytes) -> None:
    out[at:at] = draw.randbytes(size)


def _delete(out: bytearray, at: int, size: int, draw: random.Random, donor: bytes) -> None:
    del out[at : at + size * draw.choice([1, 1, 16])]


def _number(out: bytearray, at: int, size: int, draw: random.Random, donor: bytes) -> None:
    form = draw.choice([">I", ">H", "<I", "<H", "B"])
    packed = struct.pack(form, draw.choice(NUMBERS) & ((1 << 8 * struct.calcsize(form)) - 1))
    out[at : at + len(packed)] = packed[: max(0, len(out) - at)]


def _box(out: bytearray, at: int, size: int, draw: random.Random, donor: bytes) -> None:
    """The next thing after `at` that looks like a box or chunk gets another size."""
    found = next((place for place in range(at, min(at + 4_000, len(out) - 4)) if bytes(out[place : place + 4]).isalpha()), None)
    if found is not None and found >= 4:
        before = draw.random() < 0.7  # mp4 has the size in front, RIFF behind
        form, place = (">I", found - 4) if before else ("<I", found + 4)
        old = struct.unpack(form, out[place : place + 4])[0] if place + 4 <= len(out) else 0
        new = draw.choice([*NUMBERS, old + 1, old - 1, old + size, old * 2, old // 2]) & 0xFFFFFFFF
        out[place : place + 4] = struct.pack(form, new)[: max(0, len(out) - place)]


def _repeat(out: bytearray, at: int, size: int, draw: random.Random, donor: bytes) -> None:
    out[at:at] = bytes(out[at : at + size * 8]) * draw.randint(1, 8)


def _splice(out: bytearray, at: int, size: int, draw: random.Random, donor: bytes) -> None:
    start = draw.randrange(len(donor))
    part = donor[start : start + size * 16]
    out[at : at + len(part)] = part


def _cut(out: bytearray, at: int, size: int, draw: random.Random, donor: bytes) -> None:
    del out[max(at, 16) :]


_APPLIED = {
    "flip": _flip, "overwrite": _overwrite, "insert": _insert, "delete": _delete, "number": _number, "box": _box, "repeat": _repeat,
    "splice": _splice, "cut": _cut,
}  # fmt: skip
