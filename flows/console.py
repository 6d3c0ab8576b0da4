"""What a person sees: progress on stderr while a run goes on, the result on stdout when it is over.

    a terminal        one live table, drawn at most 4 times a second, erased at the end; failures and the last state stay
    anything else     one plain line at the start, every 30 s and at the end

Knows rich and the width of the screen; knows nothing of how a run is made, counted or stored.
"""

import dataclasses
import json
import math
import os
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from enum import Enum
from pathlib import PurePath
from typing import Any, Final, Protocol, TextIO

from pydantic import BaseModel
from rich.console import Console, ConsoleDimensions, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from infra.secret import Secrets
from tasks.outcome import FailureGroup, FeatureOutcome
from tasks.progress import ProgressSnapshot, Snapshot, StageProgress, TrainingProgress

DRAWS_PER_S: Final = 4
PLAIN_EVERY_S: Final = 30.0
FAILURES_SHOWN: Final = 20
EXAMPLES_SHOWN: Final = 3


class Progress(Protocol):
    """Shows how far a run has come; fed from any thread."""

    def show(self, snapshot: Snapshot) -> None:
        """The run's state now; cheap, may be called as often as it changes."""

    def failure(self, text: str) -> None:
        """One failure, ready-made; printed as it comes, the first 20 of a run."""

    def note(self, text: str) -> None:
        """What should be known from the start; printed as it comes."""


class TerminalConsole(Console):
    """A console as wide as the terminal it writes to; rich asks descriptors 0 to 2, which a run sends to the log file."""

    @property
    def size(self) -> ConsoleDimensions:
        """Columns and lines, now."""
        try:
            columns, lines = os.get_terminal_size(self.file.fileno())
        except OSError:
            return super().size
        return ConsoleDimensions(columns, lines) if columns > 0 else super().size

    @size.setter
    def size(self, new_size: tuple[int, int]) -> None:
        raise AttributeError(f"the terminal has its own size, not {new_size}")


def console_on(stream: TextIO) -> Console:
    """A console on `stream`: colours only on a terminal (whatever FORCE_COLOR says) and without NO_COLOR."""
    kind = TerminalConsole if stream.isatty() and "COLUMNS" not in os.environ else Console
    return kind(file=stream, force_terminal=stream.isatty(), highlight=False, markup=False, emoji=False)


@contextmanager
def progress(console: Console, *, plain_every_s: float = PLAIN_EVERY_S) -> Iterator[Progress]:
    """Show a run's progress while the block runs; the console is left clean, also after an exception."""
    live = console.is_terminal and not console.is_dumb_terminal
    display = _LiveProgress(console) if live else _PlainProgress(console, plain_every_s)
    with display.running():
        yield display


def print_outcome(outcomes: Sequence[FeatureOutcome], console: Console) -> None:
    """One row per feature: rows, failures, files."""
    table = _table("feature", "rows", "failed", "files")
    for outcome in outcomes:
        failed = Text(f"{outcome.failed:,}", style="red" if outcome.failed else "")
        table.add_row(Text(one_line(outcome.feature)), f"{outcome.rows:,}", failed, f"{outcome.files:,}")
    console.print(table)


def print_failures(groups: Sequence[FailureGroup], console: Console, *, output: str | None = None) -> None:
    """Failures by kind, most first, each kind with up to three examples below it and, of an output, how to repeat one or all of them."""
    for group in sorted(groups, key=lambda group: -group.count):
        console.print(Text.assemble(f"{group.count:>7,}  ", (group.kind, "red")))
        for example in group.examples[:EXAMPLES_SHOWN]:
            console.print(Text(f"         {one_line(example)}"), soft_wrap=True)
        if output is not None:
            again = f"vidmill retry {shlex.quote(output)} --select"
            console.print(Text(f"         again: {again} kind:{group.kind}"), soft_wrap=True)
            for selector in group.selectors[:1]:
                console.print(Text(f"         the first alone: {one_line(f'{again} {shlex.quote(selector)}')}"), soft_wrap=True)


def print_error(error: Exception | str, stream: TextIO) -> None:
    """`vidmill: error: ...`; a configuration's Problem brings one line per error, with the place in the file."""
    stream.write(f"vidmill: error: {_printable(Secrets().redact(str(error)))}\n")
    stream.flush()


def print_json(value: Any, stream: TextIO) -> None:
    """The result for programs: ASCII, indented; dataclasses and models become objects, what is not a number becomes null."""
    stream.write(json.dumps(_jsonable(value), indent=2, allow_nan=False) + "\n")
    stream.flush()


def one_line(text: str) -> str:
    """`text` as one line that cannot command a terminal: names of files and members are a stranger's bytes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode("ascii") for char in text)


def counted(count: int, noun: str) -> str:
    """`1 shard`, `2,000 shards`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def plain_line(snapshot: Snapshot) -> str:
    """A whole snapshot in one line: `0:01:30 shards 3/10, decode 1,234/10,000 clips 12.3/s, 2 failed, 0:10:00 left`."""
    if isinstance(snapshot, TrainingProgress):
        return f"{_clock(snapshot.elapsed_s)} {_learning(snapshot)}"
    stages = [f"{stage.name} {_count(stage)} {_speed(stage)}" + (f" ({_waiting(stage)})" if stage.waiting else "") for stage in snapshot.stages]
    left = [] if snapshot.eta_s is None else [f"{_clock(snapshot.eta_s)} left"]
    return f"{_clock(snapshot.elapsed_s)} " + ", ".join([_shards(snapshot), *stages, _failed(snapshot), *left])


class _Failures:
    """Prints the first failures of a run and counts the rest."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self.write = write
        self.count = 0
        self.lock = threading.Lock()

    def add(self, text: str) -> None:
        with self.lock:
            self.count += 1
            if self.count <= FAILURES_SHOWN:
                self.write(one_line(text))

    def end(self) -> None:
        if self.count > FAILURES_SHOWN:
            self.write(f"and {self.count - FAILURES_SHOWN:,} more failures")


class _LiveProgress:
    def __init__(self, console: Console) -> None:
        self.console = console
        self.snapshot: Snapshot | None = None
        self.shown_at = time.monotonic()
        self.failures = _Failures(lambda line: console.print(Text(line), soft_wrap=True))

    def show(self, snapshot: Snapshot) -> None:
        self.snapshot, self.shown_at = snapshot, time.monotonic()

    def failure(self, text: str) -> None:
        self.failures.add(text)

    def note(self, text: str) -> None:
        self.console.print(Text(_note(text)), soft_wrap=True)

    @contextmanager
    def running(self) -> Iterator[None]:
        live = Live(
            console=self.console,
            get_renderable=self._drawn,
            refresh_per_second=DRAWS_PER_S,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        try:
            with live:
                yield
        finally:
            self.failures.end()
            if self.snapshot:
                self.console.print(Text(_summary(self.snapshot)), soft_wrap=True)

    def _drawn(self) -> RenderableType:
        return Text("starting") if self.snapshot is None else snapshot_table(_aged(self.snapshot, self.shown_at))


class _PlainProgress:
    def __init__(self, console: Console, every_s: float) -> None:
        self.console = console
        self.every_s = every_s
        self.snapshot: Snapshot | None = None
        self.shown_at = time.monotonic()
        self.over = threading.Event()
        self.failures = _Failures(self._write)

    def show(self, snapshot: Snapshot) -> None:
        first = self.snapshot is None
        self.snapshot, self.shown_at = snapshot, time.monotonic()
        if first:
            self._write(plain_line(snapshot))

    def failure(self, text: str) -> None:
        self.failures.add(text)

    def note(self, text: str) -> None:
        self._write(_note(text))

    @contextmanager
    def running(self) -> Iterator[None]:
        ticker = threading.Thread(target=self._tick, name="vidmill-progress", daemon=True)
        ticker.start()
        try:
            yield
        finally:
            self.over.set()
            ticker.join()
            self.failures.end()
            self._last_state()

    def _tick(self) -> None:
        while not self.over.wait(self.every_s):
            self._last_state()

    def _last_state(self) -> None:
        if self.snapshot:
            self._write(plain_line(_aged(self.snapshot, self.shown_at)))

    def _write(self, line: str) -> None:
        self.console.print(Text(line), soft_wrap=True)
        self.console.file.flush()


def _aged(snapshot: Snapshot, shown_at: float) -> Snapshot:
    """The snapshot now: its clocks go on, so that waiting does not look like a hang."""
    since_s = time.monotonic() - shown_at
    eta_s = None if snapshot.eta_s is None else max(0.0, snapshot.eta_s - since_s)
    return dataclasses.replace(snapshot, elapsed_s=snapshot.elapsed_s + since_s, eta_s=eta_s)


def snapshot_table(snapshot: Snapshot) -> RenderableType:
    """The live table: one row per stage, and below it shards and time; of a training, a bar and a line."""
    if isinstance(snapshot, TrainingProgress):
        return Group(
            ProgressBar(total=snapshot.steps, completed=snapshot.step, width=40), Text(f"{_clock(snapshot.elapsed_s)} {_learning(snapshot)}")
        )
    table = _table("stage", "", "done", "speed", "failed", "waiting for")
    for column in table.columns[:1] + table.columns[2:-1]:
        column.no_wrap = True
    table.columns[-1].justify = "left"
    for stage in snapshot.stages:
        bar: RenderableType = "" if not stage.total else ProgressBar(total=stage.total, completed=min(stage.done, stage.total), width=12)
        failed = Text(f"{stage.failed:,}", style="red" if stage.failed else "dim")
        waiting = Text(_waiting(stage), style="yellow", no_wrap=True, overflow="crop")
        table.add_row(Text(stage.name), bar, _count(stage), _speed(stage), failed, waiting)
    left = "" if snapshot.eta_s is None else f", about {_clock(snapshot.eta_s)} left"
    return Group(table, Text(f"{_summary(snapshot)}{left}"))


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(first, overflow="fold")
    for heading in others:
        table.add_column(heading, justify="right", overflow="fold")
    return table


def _note(text: str) -> str:
    return f"note: {one_line(text)}"


def _shards(snapshot: ProgressSnapshot) -> str:
    return f"shards {snapshot.shards_done:,}/{snapshot.shards_total:,}"


def _failed(snapshot: ProgressSnapshot) -> str:
    return f"{sum(stage.failed for stage in snapshot.stages):,} failed"


def _learning(progress: TrainingProgress) -> str:
    """`step 1,200/2,000, distance 0.0123, 12.3 steps/s, 0:01:05 left`."""
    parts = [f"step {progress.step:,}/{progress.steps:,}"]
    if progress.distance is not None:
        parts.append(f"distance {progress.distance:.5f}")
    parts.append(f"{progress.per_s:,.2f} steps/s")
    if progress.eta_s is not None:
        parts.append(f"{_clock(progress.eta_s)} left")
    return ", ".join(parts) + (f" (waits for {progress.waiting})" if progress.waiting else "")


def _summary(snapshot: Snapshot) -> str:
    if isinstance(snapshot, TrainingProgress):
        return plain_line(snapshot)
    return f"{_shards(snapshot)}, {_failed(snapshot)}, {_clock(snapshot.elapsed_s)} elapsed"


def _count(stage: StageProgress) -> str:
    total = "" if stage.total is None else f"/{stage.total:,}"
    return f"{stage.done:,}{total} {stage.unit}"


def _speed(stage: StageProgress) -> str:
    """`12.3/s`, or `2.0/min` where that says more."""
    return f"{stage.per_s:,.1f}/s" if stage.per_s >= 0.1 or not stage.per_s else f"{60 * stage.per_s:,.1f}/min"


def stage_cells(stage: StageProgress) -> tuple[str, str, str, str, str]:
    """A row of the table in words: stage, done, speed, failed, waiting for."""
    return stage.name, _count(stage), _speed(stage), f"{stage.failed:,}", _waiting(stage)


def _waiting(stage: StageProgress) -> str:
    return one_line(stage.waiting or "")


def _clock(seconds: float) -> str:
    """H:MM:SS; hours go beyond 24, so that nobody mistakes days for minutes."""
    whole = max(0, round(seconds)) if math.isfinite(seconds) else 0
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def _printable(text: str) -> str:
    return "\n".join(one_line(line) for line in text.split("\n"))


def _jsonable(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Enum():
            return _jsonable(value.value)
        case None | bool() | int() | str():
            return value
        case BaseModel():
            return _jsonable(value.model_dump())
        case Mapping():
            return {str(_jsonable(key)): _jsonable(inner) for key, inner in value.items()}
        case date() | datetime():
            return value.isoformat()
        case PurePath():
            return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {part.name: _jsonable(getattr(value, part.name)) for part in dataclasses.fields(value)}
    return [_jsonable(inner) for inner in value]
