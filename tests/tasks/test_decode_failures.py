"""Promises of tasks/decode.py: whatever the bytes, one `ClipError` of the right kind that says what to do; nothing else is opened or printed."""

import io
import sys
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.settings import LimitsConfig
from tasks.clip import ClipError, FailureKind, Window
from tasks.decode import open_clip, probe
from tests.media import Recipe, encode, moving_pictures, sample_indices, sound_only
from tests.tasks.test_decode import COUNT, HEIGHT, LIMITS, RECIPES, WIDTH, assert_same, long_video, sampled, video


def failure(data: bytes, fps: float = 1, window: Window | None = None, limits: LimitsConfig = LIMITS) -> ClipError:
    with pytest.raises(ClipError) as caught:
        sampled(data, fps, window, limits)
    return caught.value


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", FailureKind.EMPTY),
        (bytes(range(256)) * 20, FailureKind.CORRUPT),
        (sound_only(), FailureKind.NO_VIDEO),
        (b"ffconcat version 1.0\nfile canary.mp4\n", FailureKind.CORRUPT),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\ncanary.mp4\n#EXT-X-ENDLIST\n", FailureKind.CORRUPT),
    ],
)
def test_what_is_not_a_video(data, kind, tmp_path, monkeypatch):
    (tmp_path / "canary.mp4").write_bytes(video("h264"))
    monkeypatch.chdir(tmp_path)
    opened: list[str] = []
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
    assert failure(data).kind is kind
    with pytest.raises(ClipError) as caught:
        probe(io.BytesIO(data), limits=LIMITS)
    assert caught.value.kind is kind
    assert not [name for name in opened if "canary" in name]


def test_a_file_without_its_moov():
    assert failure(video("h264")[:9000]).kind is FailureKind.CORRUPT


def test_a_cut_mp4_says_how_much_is_there():
    whole = encode(moving_pictures(COUNT, WIDTH, HEIGHT), Recipe(muxer={"movflags": "faststart"}))
    cut = whole[: len(whole) * 6 // 10]
    there = sum(offset + size <= len(cut) for offset, size in sample_indices(whole))
    told = failure(cut)
    assert told.kind is FailureKind.TRUNCATED
    assert f"{there} of {COUNT} frames" in told.message
    assert failure(cut, window=Window(2, 2.4)).kind is FailureKind.TRUNCATED
    assert len(sampled(cut, 5, Window(0, 0.5))[1]) == 3
    with pytest.raises(ClipError, match=f"{there} of {COUNT}"):
        probe(io.BytesIO(cut), limits=LIMITS)


def test_a_window_after_the_end_and_one_without_frames():
    assert failure(video("h264"), window=Window(50, 60)).kind is FailureKind.TRUNCATED
    sparse = encode(moving_pictures(4, 64, 48), Recipe(), pts=[0, 1, 300, 301])
    assert failure(sparse, window=Window(3, 4)).kind is FailureKind.EMPTY


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (LimitsConfig(max_pixels=1000), "96x80 is 7,680 pixels; limits.max_pixels is 1,000 (raise it with --limits.max-pixels)"),
        (LimitsConfig(max_frames=10), "72 frames would be sampled; limits.max_frames is 10 (raise it with --limits.max-frames)"),
        (LimitsConfig(max_duration_s=2), "2.4 s long; limits.max_duration_s is 2.0 (raise it with --limits.max-duration-s)"),
        (LimitsConfig(max_bytes=3000), "the clip needs more than 3,000 bytes; limits.max_bytes is 3,000 (raise it with --limits.max-bytes)"),
    ],
)
def test_limits_name_value_limit_and_flag(limits, said):
    told = failure(video("h264"), 30, limits=limits)
    assert (told.kind, told.message) == (FailureKind.TOO_LARGE, said)


@pytest.mark.parametrize("max_pixels", [30_000, 100_000])
@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_a_frame_that_grows_later_is_too_large(codec, max_pixels):
    small = encode(moving_pictures(10, WIDTH, HEIGHT), Recipe("mpegts", codec))
    large = encode([picture.reformat(640, 480) for picture in moving_pictures(5, 128, 128)], Recipe("mpegts", codec), pts=range(100, 105))
    assert failure(small + large, 30, limits=LimitsConfig(max_pixels=max_pixels)).kind is FailureKind.TOO_LARGE


class Breaking(io.BytesIO):
    """A connection that is lost half way."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() > len(self.getvalue()) // 2:
            raise OSError("connection reset")
        return super().read(size)


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "avi"])
def test_a_lost_connection_is_storage_not_damage(container):
    with pytest.raises(ClipError) as caught, open_clip(Breaking(long_video(container)), fps=1, window=None, limits=LIMITS) as clip:
        list(clip)
    assert (caught.value.kind, "connection reset" in caught.value.message) == (FailureKind.STORAGE, True)


def test_a_damaged_frame_costs_its_sample_only():
    data = bytearray(video("mjpeg"))
    places = sample_indices(bytes(data))
    for damaged in (10, 11, 40):
        offset, size = places[damaged]
        data[offset : offset + size] = bytes(size)
    samples = sampled(bytes(data), 30)[1]
    assert len(samples) == COUNT - 3
    assert_same(samples, [sample for i, sample in enumerate(sampled(video("mjpeg"), 30)[1]) if i not in (10, 11, 40)])
    assert [round(at * 30) for at, _ in sampled(bytes(data), 3)[1]] == [0, 20, 30, 50, 60, 70]


def test_a_video_of_damaged_frames_only_is_corrupt():
    data = bytearray(video("h264"))
    for offset, size in sample_indices(bytes(data)):
        data[offset : offset + size] = b"\xff" * size
    assert failure(bytes(data)).kind is FailureKind.CORRUPT


@given(name=st.sampled_from(sorted(RECIPES)), data=st.data())
@settings(max_examples=150)
def test_whatever_the_bytes_only_clip_errors_come_out(name, data):
    broken = bytearray(video(name))
    for at in data.draw(st.lists(st.integers(0, len(broken) - 1) | st.integers(0, 2000), max_size=30)):
        broken[at % len(broken)] = data.draw(st.integers(0, 255))
    window = data.draw(st.none() | st.just(Window(1, 2)))
    for attempt in (lambda: sampled(bytes(broken), 2, window), lambda: probe(io.BytesIO(bytes(broken)), limits=LIMITS)):
        with suppress(ClipError):
            attempt()


def test_nothing_is_printed_about_damage(capfd):
    broken = bytearray(video("h264"))
    broken[3000:9000] = bytes(6000)
    with pytest.raises(ClipError):
        sampled(bytes(broken[:-4000]), 30)
    sampled(bytes(broken), 30)
    assert capfd.readouterr().err == ""
