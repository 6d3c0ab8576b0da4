"""What one side says the other understands; what keeps to no protocol is told at once and takes no memory."""

from collections.abc import Iterator
from fractions import Fraction
from multiprocessing import BufferTooShort, Pipe
from multiprocessing.connection import Connection

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.settings import LimitsConfig
from models.picture import Picture, PictureFormat
from models.spec import Geometry
from tasks.clip import FailureKind, Window
from tasks.encoding import Encoding
from tasks.track import Colour, Track
from tasks.wire import (
    EncodeJob,
    Ended,
    Failed,
    Job,
    Pictured,
    Ready,
    StreamJob,
    Written,
    receive,
    receive_job,
    receive_next,
    receive_picture,
    send_answer,
    send_job,
    send_next,
    send_picture,
)

FORMS = st.builds(
    PictureFormat,
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    bits=st.sampled_from((8, 10)),
    chroma=st.sampled_from(("420", "422", "444")),
    matrix=st.sampled_from(("bt601", "bt709", "bt2020")),
    full_range=st.booleans(),
)
FRACTIONS = st.fractions(min_value=Fraction(1, 10**9), max_value=1000)
TRACKS = st.builds(
    Track,
    form=FORMS,
    codec=st.text(max_size=8),
    time_base=FRACTIONS,
    first_pts=st.integers(-(1 << 62), 1 << 62),
    end_pts=st.none() | st.integers(-(1 << 62), 1 << 62),
    rate=st.none() | FRACTIONS,
    colour=st.builds(Colour, *[st.integers(0, 255)] * 4),
    pixel_aspect=st.none() | FRACTIONS,
    display_matrix=st.none() | st.tuples(*[st.integers(-(1 << 31), (1 << 31) - 1)] * 9),
)
LIMITS = LimitsConfig(clip_timeout_s=1.5)


@pytest.fixture(scope="module")
def ends() -> Iterator[tuple[Connection, Connection]]:
    ours, theirs = Pipe()
    with ours, theirs:
        yield ours, theirs


@given(track=TRACKS)
def test_a_track_arrives_as_it_was_sent(ends: tuple[Connection, Connection], track: Track) -> None:
    send_answer(ends[0], track)
    assert receive(ends[1]) == track


@given(track=TRACKS, form=FORMS)
def test_jobs_arrive_as_they_were_sent(ends: tuple[Connection, Connection], track: Track, form: PictureFormat) -> None:
    window = Window(0.1, 2.0)
    for job in (
        Job(7, LIMITS, window, 2.0, (Geometry(8, 4),)),
        StreamJob(7, LIMITS, None),
        EncodeJob(9, LIMITS, track, form, Encoding("av1", 1, "8")),
    ):
        send_job(ends[0], job)
        assert receive_job(ends[1]) == job


@pytest.mark.parametrize("answer", [Failed(FailureKind.CORRUPT, "no; fetch"), Pictured(-3), Ended(9), Ready(), Written("libx264", True)])
def test_answers_arrive_as_they_were_sent(ends: tuple[Connection, Connection], answer: Failed | Pictured | Ended | Ready | Written) -> None:
    send_answer(ends[0], answer)
    assert receive(ends[1]) == answer


def picture_of(form: PictureFormat) -> Picture:
    dtype = np.uint16 if form.bits == 10 else np.uint8
    shapes = ((form.height, form.width), form.chroma_shape, form.chroma_shape)
    y, u, v = (np.arange(shape[0] * shape[1]).reshape(shape).astype(dtype) for shape in shapes)
    return Picture((y, u, v), 5)


@given(form=FORMS)
def test_pictures_arrive_as_they_were_sent_and_may_be_written_to(ends: tuple[Connection, Connection], form: PictureFormat) -> None:
    """torch warns of arrays that may not."""
    sent = picture_of(form)
    send_next(ends[0], sent)
    found = receive_next(ends[1], form)
    assert isinstance(found, Picture)
    assert found.pts == 5
    for plane, other in zip(found.planes, sent.planes, strict=True):
        assert plane.dtype == other.dtype
        assert plane.flags.writeable
        assert (plane == other).all()


def test_a_picture_of_another_size_is_not_taken() -> None:
    form = PictureFormat(8, 8, 8, "420", "bt709", False)
    for other, error in (
        (PictureFormat(8, 6, 8, "420", "bt709", False), ValueError),
        (PictureFormat(8, 16, 8, "420", "bt709", False), BufferTooShort),
    ):
        ours, theirs = Pipe()
        with ours, theirs:
            send_picture(ours, picture_of(other))
            assert receive(theirs) == Pictured(5)
            with pytest.raises(error):
                receive_picture(theirs, 5, form)


@pytest.mark.parametrize("said", [b"[]", b"{}", b'["Unknown", {}]', b'["Pictured", {"pts": 1, "more": 2}]', b"\xff", b'["Track", {}]'])
def test_nonsense_is_told(ends: tuple[Connection, Connection], said: bytes) -> None:
    ends[0].send_bytes(said)
    with pytest.raises((ValueError, KeyError, TypeError)):
        receive(ends[1])
