"""Promises of tasks/decode.py: the samples of a full decode, bit for bit, from any container; every failure of the right kind."""

import io
import struct
from fractions import Fraction
from functools import cache
from math import floor

import av
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.settings import LimitsConfig
from tasks.clip import ClipInfo, Window
from tasks.container import BUFFER_BYTES, Video
from tasks.decode import open_clip, probe
from tests.media import Recipe, encode, moving_pictures, remux

LIMITS = LimitsConfig()
COUNT, WIDTH, HEIGHT = 72, 96, 80
QUIET265 = "log-level=none:pools=1:frame-threads=1"
FAST_VPX = {"deadline": "realtime", "cpu-used": "8", "auto-alt-ref": "1", "lag-in-frames": "12"}

RECIPES = {
    "h264": Recipe(options={"x264-params": "keyint=30:bframes=3:b-pyramid=normal"}),
    "h264 open gop": Recipe(options={"x264-params": "keyint=16:open-gop=1:bframes=5:b-pyramid=normal:scenecut=0"}),
    "h264 intra refresh": Recipe(options={"x264-params": "keyint=20:intra-refresh=1:bframes=0"}),
    "h264 one gop": Recipe(options={"x264-params": "keyint=infinite:bframes=8:weightp=2:direct=temporal"}),
    "h264 interlaced": Recipe(options={"x264-params": "interlaced=1:keyint=16:bframes=3"}),
    "h264 10 bit": Recipe(pix_fmt="yuv420p10le", options={"x264-params": "keyint=16"}),
    "h264 mpegts": Recipe("mpegts", options={"x264-params": "keyint=12:open-gop=1:bframes=3"}),
    "h264 matroska": Recipe("matroska", options={"x264-params": "keyint=12:open-gop=1:bframes=3"}),
    "h264 flv": Recipe("flv", options={"x264-params": "keyint=12:bframes=3"}),
    "h264 avi": Recipe("avi", options={"x264-params": "keyint=12:bframes=3:b-adapt=0:open-gop=1"}),
    "h264 fragmented": Recipe(muxer={"movflags": "frag_keyframe+empty_moov"}, options={"x264-params": "keyint=12"}),
    "hevc": Recipe(codec="libx265", options={"x265-params": f"keyint=16:open-gop=1:bframes=4:{QUIET265}", "preset": "ultrafast"}),
    "hevc layers": Recipe(codec="libx265", options={"x265-params": f"keyint=16:bframes=4:temporal-layers=3:{QUIET265}", "preset": "fast"}),
    "hevc mpegts": Recipe("mpegts", "libx265", options={"x265-params": f"keyint=16:bframes=4:{QUIET265}", "preset": "ultrafast"}),
    "mpeg4": Recipe(codec="mpeg4", gop=12, b_frames=2),
    "mpeg4 interlaced": Recipe(codec="mpeg4", gop=5, b_frames=3, options={"flags": "+ilme+ildct"}),
    "mpeg4 avi": Recipe("avi", "mpeg4", gop=12, b_frames=2),
    "mpeg2 program": Recipe("mpeg", "mpeg2video", gop=12, b_frames=2),
    "mpeg2 program, sparse times": Recipe("mpeg", "mpeg2video", gop=30, b_frames=3),
    "mpeg2 transport": Recipe("mpegts", "mpeg2video", gop=12, b_frames=2),
    "mpeg2 bare": Recipe("mpeg2video", "mpeg2video", gop=12, b_frames=2),
    "mpeg1 program": Recipe("mpeg", "mpeg1video", gop=12, b_frames=2),
    "vp8 webm": Recipe("webm", "libvpx", gop=20, options=FAST_VPX),
    "vp8 ogg": Recipe("ogg", "libvpx", gop=20, options=FAST_VPX),
    "vp9 webm": Recipe("webm", "libvpx-vp9", gop=20, options=FAST_VPX),
    "mjpeg": Recipe(codec="mjpeg", pix_fmt="yuvj420p"),
    "wmv asf": Recipe("asf", "wmv2", gop=12),
    "flv1 flv": Recipe("flv", "flv", gop=12),
    "prores mov": Recipe("mov", "prores", pix_fmt="yuv422p10le"),
}

Samples = list[tuple[float, np.ndarray]]


@cache
def video(name: str) -> bytes:
    return encode(moving_pictures(COUNT, WIDTH, HEIGHT), RECIPES[name])


def sampled(data: bytes, fps: float, window: Window | None = None, limits: LimitsConfig = LIMITS) -> tuple[ClipInfo, Samples]:
    with open_clip(io.BytesIO(data), fps=fps, window=window, limits=limits) as clip:
        return clip.info, [(frame.time_s, frame.rgb) for frame in clip]


def reference(data: bytes, fps: float, window: Window | None = None) -> Samples:
    """Everything decoded, nothing left out, nothing clever."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        base = stream.time_base
        assert base is not None
        times = sorted(p.pts for p in container.demux(stream) if p.size and p.pts is not None and not p.is_discard)
        zero, numbered = times[0], container.format.name == "avi"  # AVI numbers packets: the k-th frame shown has the k-th time
    with av.open(io.BytesIO(data)) as container:
        frames = [(times[i] if numbered else frame.pts, frame.to_ndarray(format="rgb24")) for i, frame in enumerate(container.decode(video=0))]
    if window is not None:
        start, end = (zero + floor(_rational(t) / base) for t in (window.start_s, window.end_s))
        frames = [(pts, rgb) for pts, rgb in frames if start <= pts < end]
    chosen: list[int] = []
    for k in range(1 + floor(_rational(fps) * base * (frames[-1][0] - frames[0][0] + 1))):
        tick = frames[0][0] + floor(k / _rational(fps) / base)
        at = next((i for i, (pts, _) in enumerate(frames) if pts >= tick), None)
        if at is not None and at not in chosen:
            chosen.append(at)
    return [(float((frames[i][0] - frames[0][0]) * base), frames[i][1]) for i in chosen]


def _rational(value: float) -> Fraction:
    return Fraction(value).limit_denominator(1_000_000)


def assert_same(got: Samples, expected: Samples) -> None:
    assert [at for at, _ in got] == [at for at, _ in expected]
    for (_, ours), (_, theirs) in zip(got, expected, strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("name", RECIPES)
def test_samples_equal_a_full_decode_from_every_container_and_codec(name):
    info, samples = sampled(video(name), 4)
    assert_same(samples, reference(video(name), 4))
    assert (info.frames, info.width, info.height, info.has_audio) == (COUNT, WIDTH, HEIGHT, False)
    assert info.duration_s == pytest.approx(COUNT / 30, abs=0.002)


@given(name=st.sampled_from(sorted(RECIPES)), fps=st.sampled_from([0.4, 1, 3, 7.5, 29.97, 60]) | st.floats(0.3, 40))
@settings(max_examples=60)
def test_any_rate_gives_the_samples_of_a_full_decode(name, fps):
    assert_same(sampled(video(name), fps)[1], reference(video(name), fps))


@given(name=st.sampled_from(sorted(RECIPES)), fps=st.floats(0.5, 35), start=st.floats(0, 2.2), length=st.floats(0.1, 3))
@settings(max_examples=120)
def test_any_window_gives_the_samples_of_a_full_decode(name, fps, start, length):
    window = Window(round(start, 2), round(start + length, 2))
    assert_same(sampled(video(name), fps, window)[1], reference(video(name), fps, window))


@given(
    keyint=st.integers(1, 40), bframes=st.integers(0, 8), pyramid=st.sampled_from(["none", "strict", "normal"]), open_gop=st.booleans(),
    refs=st.integers(1, 6), weightp=st.integers(0, 2), direct=st.sampled_from(["spatial", "temporal"]),
    container=st.sampled_from(["mp4", "mpegts", "matroska"]), fps=st.floats(0.5, 35), start=st.none() | st.floats(0, 1.2),
)  # fmt: skip
@settings(max_examples=60)
def test_h264_of_any_structure_gives_the_samples_of_a_full_decode(keyint, bframes, pyramid, open_gop, refs, weightp, direct, container, fps, start):
    x264 = f"keyint={keyint}:bframes={bframes}:b-pyramid={pyramid}:open-gop={int(open_gop)}:ref={refs}:weightp={weightp}:direct={direct}"
    data = encode(moving_pictures(48, 64, 48), Recipe(container, options={"x264-params": x264}))
    window = None if start is None else Window(round(start, 2), round(start, 2) + 0.4)
    assert_same(sampled(data, fps, window)[1], reference(data, fps, window))


@given(gaps=st.lists(st.integers(1, 40), min_size=3, max_size=24), fps=st.floats(0.5, 30), container=st.sampled_from(["mp4", "matroska"]))
@settings(max_examples=25)
def test_uneven_frame_times_give_each_frame_at_most_once(gaps, fps, container):
    pts = [sum(gaps[:i]) for i in range(len(gaps))]
    data = encode(moving_pictures(len(gaps), 64, 48), Recipe(container), pts=pts)
    samples = sampled(data, fps)[1]
    assert_same(samples, reference(data, fps))
    assert len({at for at, _ in samples}) == len(samples)


def test_windows_side_by_side_hold_every_frame_once():
    data = video("h264 open gop")
    parts = [sampled(data, 30, Window(t, t + 0.7)) for t in (0, 0.7, 1.4, 2.1)]
    together = [rgb for _, samples in parts for _, rgb in samples]
    assert_same([(0, rgb) for rgb in together], [(0, rgb) for _, rgb in sampled(data, 30)[1]])
    assert sum(info.frames or 0 for info, _ in parts) == COUNT
    assert sum(info.duration_s for info, _ in parts) == pytest.approx(COUNT / 30)


def test_frames_nobody_asked_for_are_not_decoded(monkeypatch):
    data = encode(moving_pictures(240, 64, 48), Recipe(options={"x264-params": "keyint=15:bframes=3"}))
    decoded: list[int | None] = []
    decode = Video.decode

    def counted(self, packet):
        frames = decode(self, packet)
        decoded.extend(frame.pts for frame in frames)
        return frames

    monkeypatch.setattr(Video, "decode", counted)
    assert len(sampled(data, 0.5)[1]) == 4
    assert len(decoded) <= 4 * 6


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_turned_video_comes_out_upright(degrees):
    data = encode(moving_pictures(4, WIDTH, HEIGHT), Recipe(rotation=degrees))
    info, samples = sampled(data, 1)
    with av.open(io.BytesIO(data)) as container:
        stored = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.array_equal(samples[0][1], np.rot90(stored, degrees // 90))
    assert (info.height, info.width) == samples[0][1].shape[:2]
    assert (probe(io.BytesIO(data), limits=LIMITS).width, info.width) == (info.width, WIDTH if degrees % 180 == 0 else HEIGHT)


@pytest.mark.parametrize(("width", "height"), [(97, 53), (50, 120), (2, 2)])
def test_odd_and_portrait_sizes(width, height):
    pictures = [picture.reformat(width, height) for picture in moving_pictures(6, 128, 128)]
    data = encode(pictures, Recipe(pix_fmt="yuv444p"))
    info, samples = sampled(data, 30)
    assert_same(samples, reference(data, 30))
    assert (info.width, info.height) == (width, height)


def test_frames_cut_away_by_an_edit_list_are_not_frames():
    data = remux(video("h264"), "mp4", shift=-13)
    info, samples = sampled(data, 5)
    assert_same(samples, reference(data, 5))
    assert info.frames == COUNT - 13
    assert info.duration_s == pytest.approx((COUNT - 13) / 30)
    assert probe(io.BytesIO(data), limits=LIMITS).duration_s == pytest.approx((COUNT - 13) / 30)
    assert_same(sampled(data, 5, Window(0.5, 1))[1], reference(data, 5, Window(0.5, 1)))


@pytest.mark.parametrize("name", ["mpeg2 transport", "h264 mpegts", "hevc mpegts"])
def test_a_stream_cut_in_the_middle_of_a_group_begins_where_it_can_be_decoded(name):
    data = video(name)
    tail = data[len(data) * 2 // 5 // 188 * 188 :]
    assert_same(sampled(tail, 5)[1], reference(tail, 5))
    assert_same(sampled(tail, 0.5, Window(0, 1.2))[1], reference(tail, 0.5, Window(0, 1.2)))


@pytest.mark.parametrize("name", RECIPES)
def test_probe_tells_the_true_length(name):
    info = probe(io.BytesIO(video(name)), limits=LIMITS)
    assert info.duration_s == pytest.approx(COUNT / 30, abs=0.002)
    assert (info.width, info.height, info.frames in (None, COUNT)) == (WIDTH, HEIGHT, True)


@pytest.mark.parametrize("name", ["vp9 webm", "h264 flv"])
def test_probe_does_not_believe_the_header(name):
    data = lying(name)
    with av.open(io.BytesIO(data)) as container:
        assert container.duration is not None
        assert container.duration / av.time_base > 1000
    assert probe(io.BytesIO(data), limits=LIMITS).duration_s == pytest.approx(COUNT / 30, abs=0.002)
    assert sampled(data, 1)[0].duration_s == pytest.approx(COUNT / 30, abs=0.002)


def lying(name: str) -> bytes:
    """The video, its header claiming another length."""
    marker, claim = {
        "vp9 webm": (b"\x44\x89\x88", struct.pack(">d", 3_600_000.0)),
        "h264 flv": (b"duration\x00", struct.pack(">d", 3600.0)),
    }[name]
    data = bytearray(video(name))
    at = data.index(marker) + len(marker)
    data[at : at + len(claim)] = claim
    return bytes(data)


class Counted(io.BytesIO):
    """Knows how far and how much was read."""

    furthest = 0
    total = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.furthest, self.total = max(self.furthest, self.tell()), self.total + len(data)
        return data


@cache
def long_video(container: str = "mp4") -> bytes:
    options = {"x264-params": "keyint=25:bframes=2", "crf": "1"}
    return encode(moving_pictures(300, 128, 128), Recipe(container, options=options, muxer={"movflags": "faststart"} if container == "mp4" else {}))


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_a_window_reads_its_own_part_only(container):
    data = long_video(container)
    file = Counted(data)
    with open_clip(file, fps=2, window=Window(3, 4), limits=LIMITS) as clip:
        assert len(list(clip)) == 2
    assert file.furthest <= 0.37 * len(data) + BUFFER_BYTES or container == "matroska"  # its index of keyframes lies at the end
    assert file.total < 0.15 * len(data) + 4 * BUFFER_BYTES


def test_probe_reads_little():
    file = Counted(long_video())
    assert probe(file, limits=LIMITS).duration_s == pytest.approx(10)
    assert file.total < len(long_video()) * 0.35


@pytest.mark.parametrize("make", [io.BytesIO, lambda data: pa.BufferReader(data)])
def test_any_seekable_file_will_do_and_stays_open(make):
    file = make(video("h264"))
    with open_clip(file, fps=1, window=None, limits=LIMITS) as clip:
        assert len(list(clip)) == 3
    assert not file.closed


def test_a_sound_track_is_noticed():
    assert sampled(encode(moving_pictures(5, 64, 48), Recipe(with_audio=True)), 1)[0].has_audio
