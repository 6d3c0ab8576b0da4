"""One log file takes everything that is printed while a run goes on; only our own console keeps the terminal.

    print, logging, warnings ----+
    libav, Ray's C++, raylet ----+--> descriptors 1 and 2 --> the log file
    vidmill's table, result  ------> Streams.stderr, Streams.stdout --> where 1 and 2 led before

Knows descriptors and Python's logging; knows nothing of what is logged, nor of remote storage.
"""

import ctypes
import io
import logging
import os
import sys
import warnings
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from infra.problem import Problem
from infra.secret import Secrets

LINE_FORMAT: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


@dataclass(frozen=True, slots=True)
class Streams:
    """Where a person looks: text files on what descriptors 1 and 2 led to, terminal or not."""

    stdout: TextIO
    stderr: TextIO


class SecretFilter(logging.Filter):
    """Replaces secrets in a record's message and traceback by `[NAME]`."""

    def __init__(self) -> None:
        super().__init__()
        self.redact = Secrets().redact

    def filter(self, record: logging.LogRecord) -> bool:
        """Keeps every record, without its secrets."""
        message = record.getMessage()
        if (redacted := self.redact(message)) != message:
            record.msg, record.args = redacted, ()
        if record.exc_info:
            record.exc_text = self.redact(record.exc_text or logging.Formatter().formatException(record.exc_info))
        if record.stack_info:
            record.stack_info = self.redact(record.stack_info)
        return True


@contextmanager
def quiet_to(log_path: Path) -> Iterator[Streams]:
    """Send all output of this process, and of processes started meanwhile, to `log_path` (appended to, folders made).

    Where `sys.stdout` or `sys.stderr` has no descriptor (a test's capture), the stream itself is yielded. Everything is put back on leaving,
    whatever happened. May be nested; descriptors belong to the process, so not for two threads at once.

    Raises:
        Problem: the log file cannot be written.
    """
    log = _open_log(log_path)
    with ExitStack() as undo:
        streams = Streams(undo.enter_context(_kept(sys.stdout)), undo.enter_context(_kept(sys.stderr)))
        undo.callback(log.flush)
        undo.enter_context(_descriptors_to(log.fileno()))
        undo.enter_context(redirect_stdout(log))
        undo.enter_context(redirect_stderr(log))
        undo.enter_context(_secrets_redacted())
        undo.enter_context(_logging_to(log))
        undo.enter_context(_warnings_logged())
        yield streams


def redact_file(path: Path) -> None:
    """Replace secrets in a log, also those that were printed without a logger, by whoever; nothing where there is no such file."""
    if not path.exists():
        return
    secrets, clean = Secrets(), path.with_suffix(".clean")
    exact: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
    with path.open(**exact) as lines, clean.open("w", **exact) as target:
        target.writelines(map(secrets.redact, lines))
    clean.replace(path)


def _open_log(path: Path) -> TextIO:
    """A text file that stays usable after the run.

    Handlers that libraries made meanwhile keep it and write to it while the interpreter exits; its descriptor goes with the last of them.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError as error:
        raise Problem(f"{path}: the log file cannot be written ({error.strerror}); make its folder writable or choose another output") from None
    log = open(descriptor, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    weakref.finalize(log, os.close, descriptor).atexit = False
    return log


@contextmanager
def _kept(stream: TextIO) -> Iterator[TextIO]:
    stream.flush()
    try:
        descriptor = os.dup(stream.fileno())  # not inherited by processes started meanwhile
    except (OSError, io.UnsupportedOperation):
        yield stream
        return
    with open(descriptor, "w", encoding=stream.encoding, errors="backslashreplace", buffering=1) as kept:
        yield kept


@contextmanager
def _descriptors_to(target: int) -> Iterator[None]:
    originals = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    _flush_c()  # what C code holds back belongs to where it was printed
    for descriptor in originals:
        os.dup2(target, descriptor)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):  # libraries that took them earlier have written to them meanwhile
            stream.flush()
        _flush_c()
        for descriptor, original in originals.items():
            os.dup2(original, descriptor)
            os.close(original)


def _flush_c() -> None:
    ctypes.CDLL(None).fflush(None)


@contextmanager
def _secrets_redacted() -> Iterator[None]:
    """For every record of every logger: a filter on our handler would miss handlers that libraries made."""
    make, secrets = logging.getLogRecordFactory(), SecretFilter()

    def make_redacted(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        try:
            secrets.filter(record)
        except Exception:  # a message that does not fit its arguments is still told, and still without secrets
            record.msg, record.args = secrets.redact(f"{record.msg} {record.args}"), ()
        return record

    logging.setLogRecordFactory(make_redacted)
    try:
        yield
    finally:
        logging.setLogRecordFactory(make)


@contextmanager
def _logging_to(log: TextIO) -> Iterator[None]:
    root, handler = logging.getLogger(), logging.StreamHandler(log)
    level = root.level
    handler.setFormatter(logging.Formatter(LINE_FORMAT))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


@contextmanager
def _warnings_logged() -> Iterator[None]:
    """Like logging.captureWarnings, which cannot be nested."""
    show = warnings.showwarning

    def log_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any) -> None:
        logging.getLogger("py.warnings").warning("%s:%d: %s: %s", filename, lineno, category.__name__, message)

    warnings.showwarning = log_warning
    try:
        yield
    finally:
        warnings.showwarning = show
