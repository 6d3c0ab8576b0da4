"""What a process says is not taken at its word. How it crashes, hangs and eats: test_isolate, and tests/faults/test_enhance_faults."""

import io

import pytest

from infra.settings import LimitsConfig
from tasks import child
from tasks.child import Child, Died, SharedFile
from tasks.wire import LONGEST_WRITE_BYTES, Ended, Ready, Samples, StreamJob, Write
from tests.corpus import clip


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the process seems to say, one after the other."""
    said: list[object] = []
    monkeypatch.setattr(child, "receive", lambda _: said.pop(0))
    return said


def begun(sink: io.BytesIO | None) -> Child:
    process, file = Child("decoder"), SharedFile(io.BytesIO(clip(1)))
    process.begin(StreamJob(file.size_bytes, LimitsConfig(), None), file, sink)
    return process


@pytest.mark.parametrize("offset", [-1, LONGEST_WRITE_BYTES + 1, 1 << 60])
def test_a_process_cannot_make_the_output_larger_than_what_it_writes(told: list[object], offset: int) -> None:
    """P12, P9: a file with a hole of an exabyte would be published."""
    sink = io.BytesIO()
    process = begun(sink)
    told[:] = [Write(offset, b"x"), Ready()]
    with pytest.raises(Died, match="it said nonsense: bytes for"):
        process.answer(Ready)
    assert sink.getvalue() == b""


def test_a_process_that_has_nothing_to_write_cannot_write(told: list[object]) -> None:
    process = begun(None)
    told[:] = [Write(0, b"x"), Ready()]
    with pytest.raises(Died, match="it writes, and nothing is to be written"):
        process.answer(Ready)


def test_an_answer_of_the_wrong_kind_is_nonsense_and_the_process_is_not_used_again(told: list[object]) -> None:
    process = begun(None)
    told[:] = [Ended(3)]
    with pytest.raises(Died, match="Ended is no answer"):
        process.answer(Samples)
    assert not process.is_idle


def test_bytes_are_read_by_place_whoever_reads() -> None:
    file = SharedFile(io.BytesIO(bytes(range(100))))
    assert (file.size_bytes, file.read_at(98, 10), file.read_at(5, 2)) == (100, b"bc", b"\x05\x06")
