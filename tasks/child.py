"""A process of its own for media nobody vouches for: a clip that crashes, hangs or eats memory costs one process and becomes one failure.

    owner --start--> tasks.decoder or tasks.encoder --job--> answers
                            |
                            died: another one, at most ATTEMPTS times -> CRASH, or OOM
                            silent for clip_timeout_s: killed         -> TIMEOUT
                            over max_memory_bytes: killed             -> TOO_LARGE

The file stays here: the process asks for its bytes and has neither credentials nor a name to open. Knows processes and nothing of codecs.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import BufferTooShort
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock
from typing import BinaryIO, TypeVar

from infra.problem import Problem
from models.picture import Picture, PictureFormat
from tasks.clip import ClipError, FailureKind, out_of_memory
from tasks.wire import (
    LONGEST_WRITE_BYTES,
    Answer,
    EncodeJob,
    Ended,
    Failed,
    Job,
    ReadRequest,
    Reread,
    Samples,
    StreamJob,
    Write,
    Written,
    receive,
    receive_picture,
    send_job,
    send_next,
)

ATTEMPTS = 3
START_S = 60.0
WATCH_S = 0.1  # between two looks at a silent process; it can take some hundred MB in that time
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STARTER = ThreadPoolExecutor(1, "children")  # Linux ends a child that asks for it with the thread that started it, so one that lives on does
PRIVATE = ("AWS_", "RAY_", "PREFECT_")  # variables that may hold what media must never be near to

A = TypeVar("A", bound=Answer)
B = TypeVar("B", bound=Answer)
T = TypeVar("T")


class SharedFile:
    """A file that several threads read, each where it likes."""

    def __init__(self, file: BinaryIO) -> None:
        """Args: file: seekable."""
        self._file, self._lock = file, Lock()
        self.size_bytes = file.seek(0, os.SEEK_END)

    def read_at(self, offset: int, size: int) -> bytes:
        """A part of the file; fewer bytes at its end."""
        with self._lock:
            self._file.seek(offset)
            return self._file.read(size)


class Died(Exception):
    """The process is gone; the message says of what."""

    def __init__(self, cause: str, *, name: str, began: bool, signal: int = 0) -> None:
        super().__init__(cause)
        self.name = name
        self.began = began  # the job; else it died before any media came near it
        self.signal = signal


def persistently(attempt: Callable[[], T]) -> T:
    """The result of the first attempt of ATTEMPTS in which no process dies.

    Raises:
        ClipError: CRASH; OOM where the system killed them.
        Problem: they do not even start.
    """
    for _ in range(ATTEMPTS):
        try:
            return attempt()
        except Died as died:
            last = died
    if not last.began:
        raise Problem(f"the {last.name} process does not start ({last}); `vidmill doctor` tries it, and its own words are in the log")
    times = f"the {last.name} died ({last}) in each of {ATTEMPTS} attempts"
    if last.signal == signal.SIGKILL:
        raise ClipError(FailureKind.OOM, f"{times}, from outside; give the machine more memory, or lower --limits.max-memory-bytes", ATTEMPTS)
    raise ClipError(FailureKind.CRASH, f"{times}; remove the clip or fetch it again", ATTEMPTS)


class Employer:
    """Has one process for job after job: started when it is needed, anew after a death, ended with this object."""

    def __init__(self, name: str) -> None:
        """Args: name: decoder or encoder, as the module in `tasks`."""
        self._name = name
        self._child: Child | None = None

    @contextmanager
    def child(self) -> Iterator["Child"]:
        """A process for one job; one that is left in the middle of it is of no more use."""
        child, self._child = self._child or Child(self._name), None
        try:
            yield child
        finally:
            if child.is_idle:
                self._child = child
            else:
                child.end()


class Child:
    """One process and the connection to it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_idle = True
        self._began = False
        ours, theirs = socket.socketpair()
        with theirs:
            # -P: a folder the user stands in may hold a `tasks` of its own.
            command = [sys.executable, "-P", "-m", f"tasks.{name}", str(theirs.fileno()), str(os.getpid())]
            environment = {name: value for name, value in os.environ.items() if not name.startswith(PRIVATE)}
            self._process = _STARTER.submit(_start, command, environment, theirs.fileno()).result()
        self._connection = Connection(ours.detach())
        self.end = weakref.finalize(self, _end, self._process, self._connection)

    def kill(self) -> None:
        """End the process; whoever waits for it in another thread learns that it died."""
        self._process.kill()

    def begin(self, job: Job | StreamJob | EncodeJob, file: "SharedFile", sink: BinaryIO | None = None) -> None:
        """Give it a job.

        Args:
            file: what it raises is raised here, and its time does not count.
            sink: receives what the process writes, and gives it back.

        Raises:
            Died: the process died, here and in all that follows.
            Problem: it does not start in time.
        """
        self.is_idle, self._began = False, False
        with self._translated():
            self._await_ready()
            self._began = True
            self._file, self._sink, self._written_bytes = file, sink, 0
            self._limits, self._most_bytes = job.limits, self._resident_bytes() + job.limits.max_memory_bytes
            self.renew_patience()
            send_job(self._connection, job)

    def renew_patience(self) -> None:
        """From now on it may take clip_timeout_s again."""
        self._left_s = self._limits.clip_timeout_s

    def answer(self, kind: type[A], *ends: type[B]) -> A | B:
        """What it says next, its wishes for bytes fulfilled; raises ClipError for what it failed with, TIMEOUT, TOO_LARGE."""
        with self._translated():
            said = self._hear()
            if isinstance(said, Failed):
                self.is_idle = True
                raise ClipError(said.kind, said.message)
            kinds: tuple[type[A] | type[B], ...] = (kind, *ends)
            if isinstance(said, kinds):
                self.is_idle = isinstance(said, Samples | Ended | Written)
                return said
            raise ValueError(f"{type(said).__name__} is no answer")

    def tell(self, picture: Picture | Ended | None) -> None:
        """The next picture, the end, or (None) that the next one is wanted."""
        with self._translated():
            send_next(self._connection, picture)

    def planes(self, pts: int, form: PictureFormat) -> Picture:
        """The planes of a picture that it has announced."""
        with self._translated():
            return receive_picture(self._connection, pts, form)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            code = self._process.wait()
            cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            raise Died(cause, name=self.name, began=self._began, signal=max(0, -code)) from error
        except (ValueError, KeyError, TypeError, BufferTooShort) as error:
            raise Died(f"it said nonsense: {error}", name=self.name, began=self._began) from error

    def _await_ready(self) -> None:
        if not self._connection.poll(START_S):
            raise Problem(f"the {self.name} process did not start within {START_S:.0f} s; run the same command again when the machine is less busy")
        self._connection.recv_bytes()

    def _hear(self) -> Answer:
        while True:
            since_s = time.monotonic()
            self._watch()
            message = receive(self._connection)
            self._left_s -= time.monotonic() - since_s
            if isinstance(message, ReadRequest):
                self._connection.send_bytes(self._file.read_at(message.offset, message.size))
            elif isinstance(message, Reread):
                self._output().seek(message.offset)
                self._connection.send_bytes(self._output().read(message.size))
            elif isinstance(message, Write):
                self._write(message)
            else:
                return message

    def _write(self, message: Write) -> None:
        if not 0 <= message.offset <= self._written_bytes + LONGEST_WRITE_BYTES:
            raise ValueError(f"bytes for {message.offset:,} where {self._written_bytes:,} are written")
        self._output().seek(message.offset)
        self._output().write(message.data)
        self._written_bytes = max(self._written_bytes, message.offset + len(message.data))
        self.renew_patience()

    def _output(self) -> BinaryIO:
        if self._sink is None:
            raise ValueError("it writes, and nothing is to be written")
        return self._sink

    def _watch(self) -> None:
        """Wait for a message; raises ClipError when time or memory is used up."""
        limits, end_s = self._limits, time.monotonic() + self._left_s
        while not self._connection.poll(min(WATCH_S, max(end_s - time.monotonic(), 0.0))):
            if self._resident_bytes() > self._most_bytes:
                raise out_of_memory(limits.max_memory_bytes, self.doing)
            if time.monotonic() >= end_s:
                raise ClipError(FailureKind.TIMEOUT, f"{self.doing} took over {limits.clip_timeout_s:g} s (raise it with --limits.clip-timeout-s)")

    @property
    def doing(self) -> str:
        """What a decoder does is decoding, what an encoder does is encoding."""
        return self.name.removesuffix("er") + "ing"

    def _resident_bytes(self) -> int:
        """Memory that the process takes (proc(5): statm, second field, in pages); 0 where the system does not tell."""
        try:
            return int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]) * PAGE_BYTES
        except OSError:
            return 0


def _start(command: list[str], environment: dict[str, str], descriptor: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, pass_fds=[descriptor], env=environment, stdin=subprocess.DEVNULL)


def _end(process: "subprocess.Popen[bytes]", connection: Connection) -> None:
    connection.close()
    process.kill()
    process.wait()
