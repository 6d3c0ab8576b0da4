"""Faithful video in, faithful video out: what a file is, its restored version is too, but for better pictures."""

import hashlib
import io
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate

import numpy as np
import pytest

from infra.settings import LimitsConfig
from tasks.clip import ClipError, FailureKind, Window
from tasks.encoding import Encoding
from tasks.enhance import Enhanced, Enhancer, Restoration
from tests.corpus import bad_clips
from tests.film import TURNED, Film, box, boxes, colours, heard_s, make, pictures, read, seen_s
from tests.media import Recipe, encode, moving_pictures, real_video, sample_indices
from tests.tasks.restorations import Count, Doubled, Identity

QUICK = Encoding("h264", 18, "ultrafast")
FINE = Encoding("h264", 18, "medium")
VFR = (0, 33, 70, 200, 201, 233, 300, 333, 400, 466, 500, 700, 1020, 1053, 1100, 1300, 1333, 1366)


@pytest.fixture(scope="module")
def enhancer() -> Enhancer:
    """One for all tests of this module: what one clip does to it the next one must not feel."""
    return Enhancer(LimitsConfig())


def enhance(
    enhancer: Enhancer, data: bytes, restoration: Restoration | None = None, encoding: Encoding = QUICK, window: Window | None = None
) -> tuple[Enhanced[int], bytes]:
    sink = io.BytesIO(b"what was here before")
    found = enhancer.enhance(
        io.BytesIO(data), window=window, restoration=restoration or Identity(), encoding=encoding, meter=lambda a, b: Count(a, b), sink=sink
    )
    assert found.quality == found.frames
    assert found.size_bytes == len(sink.getvalue())
    return found, sink.getvalue()


FILMS = {
    "plain": Film(sound="aac"),
    "B frames, variable frame rate": Film(container="matroska", pts=VFR, time_base=Fraction(1, 1000), sound="aac"),
    "variable frame rate at 90 kHz": Film(pts=tuple(90 * pts + 7 * (i % 3) for i, pts in enumerate(VFR)), time_base=Fraction(1, 90_000)),
    "29.97 per second": Film(container="avi", codec="mpeg4", pts=tuple(range(30)), time_base=Fraction(1001, 30_000)),
    "begins late": Film(container="matroska", pts=tuple(range(30, 60)), sound="aac"),
    "one picture": Film(pts=(0,)),
    "turned by 90": Film(display_matrix=TURNED["90"]),
    "turned by 180": Film(display_matrix=TURNED["180"]),
    "mirrored": Film(display_matrix=TURNED["mirrored"]),
    "as a phone turns it": Film(display_matrix=TURNED["phone"]),
    "portrait": Film(width=90, height=160),
    "wide pixels": Film(aspect=Fraction(4, 3)),
    "HD colours": Film(colour=(1, 1, 1, 1)),
    "full range": Film(pix_fmt="yuvj420p", colour=(2, 6, 6, 6)),
    "HDR": Film(codec="libx265", pix_fmt="yuv420p10le", colour=(1, 9, 9, 16)),
    "10-bit H.264": Film(pix_fmt="yuv422p10le", colour=(1, 1, 1, 1)),
    "10-bit AV1": Film(container="matroska", codec="libsvtav1", pix_fmt="yuv420p10le", colour=(1, 1, 1, 1), options=(("preset", "12"),)),
    "VP9": Film(container="webm", codec="libvpx-vp9", colour=(1, 6, 6, 6), sound="libopus", options=(("deadline", "realtime"),)),
    "4:4:4": Film(pix_fmt="yuv444p"),
    "4:2:2": Film(pix_fmt="yuv422p"),
    "MPEG-2 stream": Film(container="mpegts", codec="mpeg2video", pts=tuple(range(40)), time_base=Fraction(1, 25), sound="aac"),
}


def as_marked(colour: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Limited range is what H.264 means where nothing is marked (E.2.1), so libx264 does not write it."""
    return (0 if colour[0] == 1 and colour[1:] == (2, 2, 2) else colour[0], *colour[1:])


@pytest.mark.parametrize("name", FILMS)
def test_every_property_of_a_film_is_kept(enhancer: Enhancer, name: str) -> None:
    """Times compare as fractions: nothing is rounded."""
    source = read(make(FILMS[name]))
    found, data = enhance(enhancer, make(FILMS[name]), encoding=FINE)
    result = read(data)
    assert result.times == source.times
    assert result.duration_s == source.duration_s == Fraction(found.duration_s).limit_denominator(1_000_000)
    assert result.size == source.size
    assert result.pix_fmt.replace("yuvj", "yuv") == source.pix_fmt.replace("yuvj", "yuv")
    assert as_marked(result.colour) == as_marked(source.colour)
    assert (result.aspect or 1) == (source.aspect or 1)
    assert result.display_matrix == (FILMS[name].display_matrix or (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30))
    assert [rate for _, rate, _ in result.sounds] == [rate for _, rate, _ in source.sounds]
    assert (found.frames, found.codec, found.encoder, found.has_audio) == (len(source.times), "h264", "libx264", bool(source.sounds))


UNEVEN_MS = {  # between pictures; x264 gives the last of them in other orders and with other decode times each
    "8 of 30 per second": (33, 34, 33, 33, 34, 33, 33),
    "11 of 30 per second": (33, 34, 33, 33, 34, 33, 33, 34, 33, 33),
    "an instant at the end": (40, 40, 33, 200, 1),
    "a pause at the end": (33, 1, 33, 40, 500),
    "fast, then slow": (10, 10, 10, 200, 40, 33, 200),
    "in no order": (1, 33, 10, 33, 1, 33, 10, 200, 10, 200, 1, 10, 40, 500, 200, 40),
    "slow, then an instant": (10, 200, 200, 33, 200, 200, 200, 33, 40, 10, 200, 500, 500, 500, 500, 1),
}


@pytest.mark.parametrize("gaps_ms", UNEVEN_MS.values(), ids=UNEVEN_MS)
def test_the_file_is_as_long_as_its_pictures_are_shown(enhancer: Enhancer, gaps_ms: tuple[int, ...]) -> None:
    film = Film(container="matroska", width=32, height=32, pts=tuple(accumulate(gaps_ms, initial=0)), time_base=Fraction(1, 1000))
    source = read(make(film))
    found, data = enhance(enhancer, make(film), encoding=FINE)
    header, edits = box(data, "moov", "mvhd"), box(data, "moov", "trak", "edts", "elst")
    assert header is not None
    assert edits is not None
    assert read(data).times == source.times
    lengths = {source.duration_s, read(data).duration_s, Fraction(found.duration_s).limit_denominator(1_000_000)}
    assert {Fraction(int.from_bytes(edits[8:12], "big"), int.from_bytes(header[12:16], "big")), *lengths} == {source.duration_s}


@pytest.mark.parametrize("name", ["plain", "as a phone turns it", "portrait", "wide pixels", "HDR"])
def test_an_upscaled_film_is_the_same_film_in_large(enhancer: Enhancer, name: str) -> None:
    source = read(make(FILMS[name]))
    found, data = enhance(enhancer, make(FILMS[name]), Doubled())
    result = read(data)
    moved = [2 if place in (6, 7) else 1 for place in range(9)]
    assert result.size == (2 * source.size[0], 2 * source.size[1])
    assert result.display_matrix == tuple(a * b for a, b in zip(source.display_matrix or (), moved, strict=True))
    assert replace(result, size=source.size, display_matrix=source.display_matrix, codec=source.codec, tag=source.tag) == source
    assert (found.width, found.height) == (result.size[::-1] if name == "as a phone turns it" else result.size)


@pytest.mark.parametrize(("height", "marks"), [(400, (6, 6, 6)), (160, (2, 2, 2)), (800, (2, 2, 2))])
def test_colours_nobody_marked_look_the_same_in_the_size_where_players_assume_others(
    enhancer: Enhancer, height: int, marks: tuple[int, int, int]
) -> None:
    """A player takes unmarked pictures from 720 lines on for BT.709, below for BT.601."""
    _, data = enhance(enhancer, make(Film(width=64, height=height, pts=(0, 1))), Doubled())
    assert read(data).colour[1:] == marks


ODD = [(codec, size) for codec in ("h264", "hevc", "av1") for size in ((161, 121), (160, 121), (161, 120))]


@pytest.mark.parametrize(("codec", "size"), ODD)
def test_an_odd_size_is_kept_to_the_pixel(enhancer: Enhancer, codec: str, size: tuple[int, int]) -> None:
    """H.264 and HEVC crop by whole chroma samples: in 4:2:0 there is no odd size, so these have chroma in every pixel."""
    width, height = size
    film = make(Film(container="webm", codec="libvpx-vp9", width=width, height=height, pts=tuple(range(6)), options=(("deadline", "realtime"),)))
    _, data = enhance(enhancer, film, encoding=Encoding(codec, 8, "ultrafast"))
    result = read(data)
    assert result.size == size
    assert result.pix_fmt == ("yuv420p" if codec == "av1" else "yuv444p")
    assert closeness_db(film, data) > 30


def closeness_db(source: bytes, result: bytes) -> float:
    """PSNR of all pictures as seen from afar, where it does not matter between which pixels chroma lies."""
    errors = [np.mean((colours(a) - colours(b)) ** 2) for a, b in zip(pictures(source), pictures(result), strict=True)]
    return float(10 * np.log10(255**2 / max(np.mean(errors), 1e-9)))


LAYOUTS = ["yuv420p", "yuv422p", "yuv444p", "yuv411p", "yuv410p", "yuv440p", "gray", "bgr0", "yuva420p"]
DEEP = ["yuv420p10le", "yuv422p10le", "yuv444p10le", "yuv420p12le", "gray10le", "gbrp10le", "yuv444p16le"]


@pytest.mark.parametrize("layout", LAYOUTS + DEEP)
def test_colours_are_the_same_in_every_layout(enhancer: Enhancer, layout: str) -> None:
    """A range or matrix mistaken on the way would cost 20 dB."""
    film = make(Film(container="matroska", codec="ffv1", pix_fmt=layout, pts=(0, 1, 2)))
    _, data = enhance(enhancer, film, encoding=Encoding("h264", 1, "ultrafast"))
    assert read(data).pix_fmt.endswith("10le") == (layout in DEEP)
    assert closeness_db(film, data) > 34


def test_without_loss_the_planes_come_out_as_they_went_in(enhancer: Enhancer) -> None:
    """What is between decoder and encoder changes nothing at all."""
    film = make(Film(pix_fmt="yuv422p", width=162, height=122, pts=tuple(range(9))))
    _, data = enhance(enhancer, film, encoding=Encoding("h264", 0, "ultrafast"))
    for a, b in zip(pictures(film), pictures(data), strict=True):
        for plane, other in zip(a.planes, b.planes, strict=True):
            assert (view(plane) == view(other)).all()


def view(plane: object) -> np.ndarray:
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)[:, : plane.width]  # type: ignore[attr-defined, call-overload]


@pytest.mark.parametrize(("codec", "tag", "layout"), [("h264", "avc1", "yuv420p"), ("hevc", "hvc1", "yuv422p10le"), ("av1", "av01", "yuv420p10le")])
def test_codecs_by_name(enhancer: Enhancer, codec: str, tag: str, layout: str) -> None:
    source = "yuv420p" if codec == "h264" else "yuv422p10le"
    found, data = enhance(enhancer, make(Film(pix_fmt=source, sound="aac")), encoding=Encoding(codec, 25, "veryfast"))
    result = read(data)
    assert (result.codec, result.tag, result.pix_fmt, found.codec) == (codec, tag, layout, codec)
    assert result.times == read(make(Film())).times


def test_a_player_can_begin_before_the_whole_file_is_there(enhancer: Enhancer) -> None:
    """`moov` before `mdat`, and every sample where the index says."""
    _, data = enhance(enhancer, make(FILMS["plain"]))
    assert [name for name, _ in boxes(data)] == ["ftyp", "moov", "free", "mdat"]
    assert len(list(pictures(data))) == 45
    assert box(data, "moov", "trak", "mdia", "minf", "stbl", "stco") is not None


SOUNDS = {"aac": "aac", "libmp3lame": "mp3", "flac": "flac", "ac3": "ac3", "libopus": "opus", "vorbis": "aac", "pcm_s16le": "aac", "mp2": "aac"}


@pytest.mark.parametrize("sound", SOUNDS)
def test_sound_is_copied_or_becomes_aac_and_stays_in_time(enhancer: Enhancer, sound: str) -> None:
    film = Film(container="matroska", pts=tuple(range(70)), sound=sound)
    _, data = enhance(enhancer, make(film))
    assert read(data).sounds == ((SOUNDS[sound], 48_000, "stereo"),)
    assert seen_s(data) == pytest.approx(film.flashes_s, abs=0.002)
    assert heard_s(data) == pytest.approx(heard_s(make(film)), abs=0.002)
    assert heard_s(data) == pytest.approx([0, 1, 2], abs=0.004)


@pytest.mark.parametrize(
    ("container", "sound"),
    [("matroska", sound) for sound in SOUNDS] + [("mp4", "aac"), ("mp4", "libmp3lame"), ("mpegts", "aac"), ("avi", "pcm_s16le")],
)
def test_a_windows_sound_is_cut_to_it(enhancer: Enhancer, sound: str, container: str) -> None:
    """Pictures of [0.9, 2.5): flashes at 0.1 and 1.1, and the beeps with them."""
    film = Film(container=container, pts=tuple(range(90)), sound=sound, options=(("g", "20"),))
    found, data = enhance(enhancer, make(film), window=Window(0.9, 2.5))
    assert (found.frames, round(found.duration_s, 2)) == (48, 1.6)
    assert seen_s(data)[-1] == pytest.approx(1.1, abs=0.002)
    assert [time for time in heard_s(data) if time > 0.01] == pytest.approx([time - 0.9 for time in heard_s(make(film))[1:]], abs=0.006)
    assert sound_length_s(data) == pytest.approx(1.6, abs=0.001)


def sound_length_s(data: bytes) -> float:
    """As the second track's edit list has it (ISO/IEC 14496-12 8.6.6)."""
    movie = box(data, "moov") or b""
    tracks = [content for name, content in boxes(movie) if name == "trak"]
    edits, header = box(tracks[1], "edts", "elst") or b"", box(movie, "mvhd") or b""
    return int.from_bytes(edits[8:12], "big") / int.from_bytes(header[12:16], "big")


@pytest.mark.parametrize("start_s", [Fraction(-2, 5), Fraction(0), Fraction(3, 5)])
@pytest.mark.parametrize("sound", ["aac", "pcm_s16le"])
def test_sound_that_begins_before_or_after_the_pictures_still_does(enhancer: Enhancer, sound: str, start_s: Fraction) -> None:
    film = make(Film(container="matroska", pts=tuple(range(30, 90)), sound=sound, sound_start_s=start_s))
    _, data = enhance(enhancer, film)
    assert heard_s(data) == pytest.approx(heard_s(film), abs=0.003)
    assert len(heard_s(data)) >= 2


def test_every_sound_track_is_kept(enhancer: Enhancer) -> None:
    film = real_video("bigbuckbunny.mp4").read_bytes()
    found, data = enhance(enhancer, film, window=Window(1, 2))
    assert read(data).sounds == (("aac", 48_000, "5.1"),)
    assert (found.frames, found.has_audio, found.duration_s) == (25, True, 1.0)


def test_windows_put_together_are_the_whole(enhancer: Enhancer) -> None:
    film = make(Film(pts=tuple(range(90)), options=(("g", "25"),)))
    parts = [enhance(enhancer, film, encoding=Encoding("h264", 0, "ultrafast"), window=Window(t, t + 0.7))[1] for t in (0, 0.7, 1.4, 2.1, 2.8)]
    levels = [frame.to_ndarray().astype(float).mean() for part in parts for frame in pictures(part)]
    assert levels == [frame.to_ndarray().astype(float).mean() for frame in pictures(film)]


def test_equal_pictures_give_equal_bytes_each_time() -> None:
    """Else a rerun after a crash would publish another file under the same name."""
    clip = encode(moving_pictures(40, 340, 256), Recipe(with_audio=True))
    digests = {hashlib.sha256(enhance(Enhancer(LimitsConfig()), clip, Doubled(), FINE)[1]).hexdigest() for _ in range(2)}
    assert len(digests) == 1


def failure(enhancer: Enhancer, data: bytes, window: Window | None = None) -> ClipError:
    with pytest.raises(ClipError) as caught:
        enhance(enhancer, data, window=window)
    return caught.value


def damaged(at: int, how: str = "zeros") -> bytes:
    """A film whose picture number `at`, in decode order, is zeros, is cut off half-way, or (HEVC) is a filler that decodes to nothing."""
    options = {"x265-params": "log-level=none:bframes=0", "preset": "ultrafast"} if how == "filler" else {"bf": "0"}
    codec = "libx265" if how == "filler" else "libx264"
    film = bytearray(encode(moving_pictures(60, 160, 120), Recipe(codec=codec, gop=20, options=options)))
    offset, size = sample_indices(bytes(film))[at]
    filler = (size - 4).to_bytes(4, "big") + b"\x4c\x01" + b"\xff" * (size - 7) + b"\x80"  # ITU-T H.265 7.3.2.8
    wound = {"zeros": bytes(size), "half": film[offset : offset + size // 2] + bytes(size - size // 2), "filler": filler}[how]
    film[offset : offset + size] = wound
    return bytes(film)


@pytest.mark.parametrize("at", [0, 7, 59])
def test_a_picture_that_is_lost_is_a_failure_that_names_it(enhancer: Enhancer, at: int) -> None:
    """A video with a hole is not the same video."""
    told = failure(enhancer, damaged(at))
    assert told.kind is FailureKind.CORRUPT
    assert f"{at / 30:.3f} s" in told.message or at == 0
    enhance(enhancer, make(FILMS["plain"]))


@pytest.mark.parametrize(("how", "message"), [("filler", "cannot be decoded; fetch"), ("half", "is damaged; fetch")])
def test_a_picture_that_the_decoder_makes_up_or_leaves_out_is_a_failure_too(enhancer: Enhancer, how: str, message: str) -> None:
    """libavcodec says nothing of the one and conceals the other."""
    told = failure(enhancer, damaged(20, how))
    assert (told.kind, told.message[:27]) == (FailureKind.CORRUPT, "the picture at 0.667 s " + message[:4])
    assert message in told.message


def test_a_hole_outside_the_window_is_not_the_windows(enhancer: Enhancer) -> None:
    film = damaged(45)
    assert enhance(enhancer, film, window=Window(0.5, 1.2))[0].frames == 21
    assert failure(enhancer, film, Window(1.4, 1.6)).kind is FailureKind.CORRUPT


@pytest.mark.parametrize("kind", ["CORRUPT", "EMPTY", "NO_VIDEO", "TRUNCATED"])
def test_a_bad_clip_is_told_as_the_features_tell_it(enhancer: Enhancer, kind: str) -> None:
    assert failure(enhancer, bad_clips()[kind]).kind == kind


def test_windows_without_pictures(enhancer: Enhancer) -> None:
    assert failure(enhancer, make(FILMS["plain"]), Window(5, 6)).kind is FailureKind.TRUNCATED
    gap = make(Film(container="matroska", pts=(0, 100, 2000, 2100), time_base=Fraction(1, 1000)))
    assert failure(enhancer, gap, Window(0.5, 1.5)).kind is FailureKind.EMPTY


def test_pictures_that_change_their_size_are_refused(enhancer: Enhancer) -> None:
    small, large = (encode(moving_pictures(20, *size), Recipe(container="mpegts", b_frames=0)) for size in ((160, 120), (320, 240)))
    told = failure(enhancer, small + large)
    assert told.kind in (FailureKind.UNSUPPORTED, FailureKind.CORRUPT)
    assert "change from 160x120 to 320x240" in told.message or "clock goes back" in told.message


def test_limits_hold_for_pictures_and_not_for_their_number() -> None:
    limits = LimitsConfig(max_frames=5, max_pixels=160 * 120, max_duration_s=1.4)
    strict = Enhancer(limits)
    assert enhance(strict, make(Film(pts=tuple(range(40)))))[0].frames == 40
    assert "max_pixels" in failure(strict, make(Film(width=162))).message
    assert "max_duration_s" in failure(strict, make(Film(pts=tuple(range(60))))).message
