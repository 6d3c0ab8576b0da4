"""How long a GPU was at work: two events around each piece of work, read when the GPU has passed them, so nothing waits for the clock."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class GpuClock:
    """Adds up the seconds of pieces of work on one device; on a CPU it stands still."""

    def __init__(self, device: torch.device) -> None:
        """Args: device: whose current stream the work goes to."""
        self._device, self._passed_s = device, 0.0
        self._waiting: deque[tuple[torch.cuda.Event, torch.cuda.Event]] = deque()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Around a piece of work."""
        if self._device.type != "cuda":
            yield
            return
        start, end = _event(), _event()
        stream = torch.cuda.current_stream(self._device)
        start.record(stream)
        yield
        end.record(stream)
        self._waiting.append((start, end))
        while self._waiting and self._waiting[0][1].query():  # type: ignore[no-untyped-call]
            self._take()

    @property
    def elapsed_s(self) -> float:
        """Of all pieces so far; waits for them."""
        while self._waiting:
            self._waiting[0][1].synchronize()
            self._take()
        return self._passed_s

    def _take(self) -> None:
        start, end = self._waiting.popleft()
        self._passed_s += start.elapsed_time(end) / 1000.0


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
