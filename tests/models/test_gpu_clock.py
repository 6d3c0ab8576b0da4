"""On a CPU the clock stands still; of a GPU, here events that are set by hand, it reads what is passed and waits only when it is asked."""

from typing import ClassVar

import pytest
import torch

from models.gpu_clock import GpuClock


class Event:
    """As torch.cuda.Event; the GPU passes it when the test says so."""

    made: ClassVar[list["Event"]] = []

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing
        self.at_ms: float | None = None
        self.waited = False
        Event.made.append(self)

    def record(self, stream: object) -> None:
        self.recorded_on = stream

    def query(self) -> bool:
        return self.at_ms is not None

    def synchronize(self) -> None:
        self.waited = True

    def elapsed_time(self, end: "Event") -> float:
        assert self.at_ms is not None
        assert end.at_ms is not None
        return end.at_ms - self.at_ms


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(Event, "made", [])
    return Event.made


def test_on_a_cpu_it_stands_still() -> None:
    clock = GpuClock(torch.device("cpu"))
    with clock.running():
        pass
    assert clock.elapsed_s == 0.0


def test_pieces_add_up_and_nothing_waits_before_it_is_asked(events: list[Event]) -> None:
    clock = GpuClock(torch.device("cuda:0"))
    for _ in range(2):
        with clock.running():
            pass
    assert not any(event.waited for event in events)
    for event, at_ms in zip(events, (10.0, 30.0, 100.0, 100.5), strict=True):
        event.at_ms = at_ms
    assert clock.elapsed_s == pytest.approx(0.0205)
    assert clock.elapsed_s == pytest.approx(0.0205)
    assert {event.recorded_on for event in events} == {"stream of cuda:0"}


def test_what_the_gpu_has_passed_is_not_kept(events: list[Event]) -> None:
    """A clip of a day has millions of pieces."""
    clock = GpuClock(torch.device("cuda:0"))
    for number in range(100):
        with clock.running():
            for event in events:
                event.at_ms = float(number)
    assert len(clock._waiting) <= 2


def test_work_that_fails_is_not_counted(events: list[Event]) -> None:
    clock = GpuClock(torch.device("cuda:0"))
    with pytest.raises(RuntimeError, match="out of memory"), clock.running():
        raise RuntimeError("out of memory")
    assert clock.elapsed_s == 0.0
