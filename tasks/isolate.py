"""A decoder in a process of its own: a clip that crashes, hangs or eats memory costs one process and becomes one failure.

    Decoder --start--> tasks.decoder --job--> samples
                            |
                            died: another one, at most ATTEMPTS times -> CRASH
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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import BinaryIO

from infra.problem import Problem
from infra.settings import LimitsConfig
from models.spec import Geometry
from tasks.clip import ClipError, ClipInfo, FailureKind, Window, out_of_memory
from tasks.wire import Failed, Job, ReadRequest, Samples, receive, send_job

ATTEMPTS = 3
START_S = 60.0
WATCH_S = 0.1  # between two looks at a silent process; it can take some hundred MB in that time
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STARTER = ThreadPoolExecutor(1, "decoders")  # Linux ends a child that asks for it with the thread that started it, so one that lives on does
PRIVATE = ("AWS_", "RAY_", "PREFECT_")  # variables that may hold what media must never be near to


class Decoder:
    """Decodes files; its process is started when it is needed, anew after a death, and ends with this object."""

    def __init__(self, limits: LimitsConfig) -> None:
        self._limits = limits
        self._process: _Process | None = None

    def decode(self, file: BinaryIO, *, fps: float, window: Window | None, geometries: Sequence[Geometry]) -> Samples:
        """Sampled frames of a clip, cut to what the models eat.

        Args:
            file: seekable; what it raises is raised here, and its time does not count.
            fps: as `tasks.decode.open_clip`, like `window`.
            geometries: of the squares wanted.

        Raises:
            ClipError: as `tasks.decode.open_clip`; also CRASH, TIMEOUT, and TOO_LARGE for memory.
            Problem: the process does not start.
        """
        return self._asked(Job(_size(file), self._limits, window, fps, tuple(geometries)), file)

    def probe(self, file: BinaryIO) -> ClipInfo:
        """What a whole video is; raises as `decode`."""
        return self._asked(Job(_size(file), self._limits), file).info

    def _asked(self, job: Job, file: BinaryIO) -> Samples:
        for _ in range(ATTEMPTS):
            try:
                return self._conversation(job, file)
            except _Died as died:
                last = died
        if not last.began:
            raise Problem(f"the decoder process does not start ({last}); `vidmill doctor` tries it, and its own words are in the log")
        times = f"the decoder died ({last}) in each of {ATTEMPTS} attempts"
        if last.signal == signal.SIGKILL:
            raise ClipError(FailureKind.OOM, f"{times}, from outside; give the machine more memory, or lower --limits.max-memory-bytes", ATTEMPTS)
        raise ClipError(FailureKind.CRASH, f"{times}; remove the clip or fetch it again", ATTEMPTS)

    def _conversation(self, job: Job, file: BinaryIO) -> Samples:
        """One try; a process that was left in the middle of a job is of no more use."""
        process, self._process = self._process or _Process(), None
        try:
            answer = process.answer(job, file)
        except BaseException:
            process.end()
            raise
        self._process = process
        if isinstance(answer, Failed):
            raise ClipError(answer.kind, answer.message)
        return answer


class _Died(Exception):
    """The process is gone; the message says of what."""

    def __init__(self, cause: str, *, began: bool, signal: int = 0) -> None:
        super().__init__(cause)
        self.began = began  # the job; else it died before any media came near it
        self.signal = signal


class _Process:
    """One decoder process and the connection to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            # -P: a folder the user stands in may hold a `tasks` of its own.
            command = [sys.executable, "-P", "-m", "tasks.decoder", str(theirs.fileno()), str(os.getpid())]
            environment = {name: value for name, value in os.environ.items() if not name.startswith(PRIVATE)}
            self._process = _STARTER.submit(_start, command, environment, theirs.fileno()).result()
        self._connection = Connection(ours.detach())
        self.end = weakref.finalize(self, _end, self._process, self._connection)

    def answer(self, job: Job, file: BinaryIO) -> Samples | Failed:
        """Do a job.

        Raises:
            _Died: the process died.
            ClipError: TIMEOUT.
            Problem: it does not start in time.
        """
        began = False
        try:
            self._await_ready()
            began = True
            return self._converse(job, file)
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            code = self._process.wait()
            raise _Died(signal.Signals(-code).name if code < 0 else f"exit code {code}", began=began, signal=max(0, -code)) from error
        except (ValueError, KeyError, TypeError) as error:
            raise _Died(f"it said nonsense: {error}", began=began) from error

    def _await_ready(self) -> None:
        if not self._connection.poll(START_S):
            raise Problem(f"the decoder process did not start within {START_S:.0f} s; run the same command again when the machine is less busy")
        self._connection.recv_bytes()

    def _converse(self, job: Job, file: BinaryIO) -> Samples | Failed:
        left_s, most_bytes = job.limits.clip_timeout_s, self._resident_bytes() + job.limits.max_memory_bytes
        send_job(self._connection, job)
        while True:
            since_s = time.monotonic()
            self._watch(job.limits, left_s, most_bytes)
            message = receive(self._connection)
            left_s -= time.monotonic() - since_s
            if not isinstance(message, ReadRequest):
                return message
            file.seek(message.offset)
            self._connection.send_bytes(file.read(message.size))

    def _watch(self, limits: LimitsConfig, left_s: float, most_bytes: int) -> None:
        """Wait for a message; raises ClipError when time or memory is used up."""
        end_s = time.monotonic() + left_s
        while not self._connection.poll(min(WATCH_S, max(end_s - time.monotonic(), 0.0))):
            if self._resident_bytes() > most_bytes:
                raise out_of_memory(limits.max_memory_bytes)
            if time.monotonic() >= end_s:
                raise ClipError(FailureKind.TIMEOUT, f"decoding took over {limits.clip_timeout_s:g} s (raise it with --limits.clip-timeout-s)")

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


def _size(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)
