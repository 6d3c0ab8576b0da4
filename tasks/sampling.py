"""Which frames of a clip are asked for, and what a decoder must be fed to give them.

    ticks      |        |        |
    frames     f........f........f........      the first at or after each tick, each once
    packets    K.......>K.......>K.......>      runs: from a keyframe to a wanted frame, the rest left out

Plain numbers: knows timestamps (pts, in units of the stream's time base) and nothing of PyAV or files.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

FROM_START = -(1 << 62)
FOR_EVER = 1 << 62


def exact(seconds: float) -> Fraction:
    """The number a person meant: 0.1 is one tenth, good to a microsecond; a smaller one is kept as it is."""
    return Fraction(seconds).limit_denominator(1_000_000) or Fraction(seconds)


@dataclass(frozen=True, slots=True)
class Ticks:
    """The moments that ask for a frame: `first`, `first + step`, ... in pts, floored, so that a coarse time base skips none."""

    first: int
    step: Fraction  # > 0

    def after(self, pts: int) -> int:
        """The first tick later than `pts`."""
        return self._tick(-((self.first - pts - 1) // self.step))

    def last_before(self, end: int) -> int:
        """The last tick earlier than `end`, at least `first`."""
        return self._tick(max(-((self.first - end) // self.step) - 1, 0))

    def choose(self, pts: Iterable[int]) -> list[int]:
        """Of ascending `pts`, the first at or after each tick, each once."""
        chosen: list[int] = []
        tick = self.first
        for value in pts:
            if value >= tick:
                chosen.append(value)
                tick = self.after(value)
        return chosen

    def _tick(self, k: int) -> int:
        return self.first + int(k * self.step // 1)


@dataclass(frozen=True, slots=True)
class Span:
    """The part of the video that is the clip, in pts; the end is exclusive."""

    start: int
    end: int

    def __contains__(self, pts: int) -> bool:
        return self.start <= pts < self.end


class Horizon:
    """How far packets, given in decode order, must be read until the span's last sample is certain."""

    def __init__(self, span: Span, step: Fraction) -> None:
        self._span = span
        self._step = step
        self._settled = False  # no frame earlier than `_first` can come any more
        self._pts: list[int] = []  # of the span's frames, from the last tick on once that is known

    def reached(self, pts: int, dts: int) -> bool:
        """Take note of one packet; dts never falls and no pts is below its dts, so what was seen below dts is all there is."""
        if pts in self._span:
            self._pts.append(pts)
        if not self._settled and self._pts and dts >= min(self._pts):
            self._settled = True
            tick = Ticks(min(self._pts), self._step).last_before(self._span.end)
            self._span = Span(tick, self._span.end)
            self._pts = [value for value in self._pts if value >= tick]
        return dts >= self._span.end or (self._settled and bool(self._pts) and dts >= min(self._pts))


@dataclass(frozen=True, slots=True)
class Run:
    """Packets [start, stop) to feed one after the other."""

    start: int
    stop: int


def plan_runs(pts: Sequence[int], *, entries: Sequence[int], wanted: Iterable[int], fed: int) -> list[Run]:
    """Feed on to each wanted packet; leap where a keyframe lets a stretch without wanted frames be left out.

    Args:
        pts: of every packet, in decode order.
        entries: ascending indices of packets at which decoding may start.
        wanted: indices of the packets whose frames are wanted, in order of pts.
        fed: how many packets the decoder has had.

    Returns:
        The first run begins at `fed`. Packets decoded after an entry but shown before it may lean on the group before,
        so their way begins at an earlier entry.
    """
    runs = [Run(fed, fed)]
    for index in wanted:
        start = next((i for i in reversed(entries) if i <= index and pts[i] <= pts[index]), 0)
        if start > runs[-1].stop:
            runs.append(Run(start, index + 1))
        else:
            runs[-1] = Run(runs[-1].start, max(runs[-1].stop, index + 1))
    return runs
