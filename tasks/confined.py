"""What a process that handles media nobody vouches for is: it serves one owner over one connection, and has nothing else.

    job -> bytes on request -> answers          no credentials, no file it could open or write, an end with its owner

What a clip does to a process it does to this one alone: `tasks.child` watches its time and memory, and another is started.
"""

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Generic, TypeVar

from infra.settings import LimitsConfig
from tasks.clip import ClipError, FailureKind, out_of_memory
from tasks.wire import Answer, EncodeJob, Failed, Job, StreamJob, receive_job, request_bytes, send_answer

ORPHAN_S = 30.0  # after a job's time is over; by then its owner has ended this process, if there is one
HEADROOM_BYTES = 4 << 30  # libav takes a refusal for damage, so its largest request, 2 GiB, is left to the watch, which sees what is really used
PR_SET_PDEATHSIG = 1  # linux/prctl.h

AnyJob = TypeVar("AnyJob", bound=Job | StreamJob | EncodeJob)


class Owner(Generic[AnyJob]):
    """Who asked for a job, and holds the file."""

    def __init__(self, connection: Connection, job: AnyJob) -> None:
        self.connection, self.job = connection, job

    def alarm(self) -> None:
        """An owner that lives ends this process in time; an alarm nobody handles ends it where there is none."""
        signal.setitimer(signal.ITIMER_REAL, self.job.limits.clip_timeout_s + ORPHAN_S)

    @contextmanager
    def patience(self) -> Iterator[None]:
        """While it is the owner's turn, for as long as it likes; an owner that dies closes the connection."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        yield
        self.alarm()


class Source:
    """The owner's file, read through the connection."""

    def __init__(self, owner: Owner[AnyJob]) -> None:
        self._owner, self._size = owner, owner.job.size_bytes
        self._position = 0

    def read(self, size: int) -> bytes:
        if self._position >= self._size:
            return b""
        with self._owner.patience():
            data = request_bytes(self._owner.connection, self._position, size)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = max(0, offset + (0, self._position, self._size)[whence])
        return self._position

    def tell(self) -> int:
        return self._position

    def seekable(self) -> bool:
        return True


Work = Callable[[Owner[AnyJob]], Answer]


def run(work: Work[AnyJob], *, doing: str) -> None:
    """Serve the connection whose descriptor is the first argument, for the process that is the second.

    Args:
        work: does one job; its answer ends it.
        doing: what it does, for people.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner
    _end_with_the_owner()
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(limit, (0, 0))
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the owner is gone
        _serve(Connection(int(sys.argv[1])), work, doing)


def _serve(connection: Connection, work: Work[AnyJob], doing: str) -> None:
    """Do jobs until the owner is gone."""
    while True:
        connection.send_bytes(b"ready")
        owner = Owner(connection, receive_job(connection))
        owner.alarm()
        send_answer(connection, _answer(owner, work, doing))  # type: ignore[arg-type] # the owner sends the jobs that this process was made for
        signal.setitimer(signal.ITIMER_REAL, 0)


def _answer(owner: Owner[AnyJob], work: Work[AnyJob], doing: str) -> Answer:
    limits = owner.job.limits
    try:
        with _memory_limited(limits):
            return work(owner)
    except ClipError as error:
        return Failed(error.kind, error.message)
    except MemoryError:
        return Failed(FailureKind.TOO_LARGE, out_of_memory(limits.max_memory_bytes, doing).message)
    except Exception as error:  # a bug of ours or of PyAV's, which a video of a kind never seen has found
        return Failed(FailureKind.CRASH, f"{doing} failed: {type(error).__name__}: {error}; remove the clip, and tell vidmill's developers")


@contextmanager
def _memory_limited(limits: LimitsConfig) -> Iterator[None]:
    """What the owner's watch is too slow for: a request far beyond the limit fails, in C as in Python. Linux only."""
    if sys.platform != "linux":
        yield
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_data_bytes() + limits.max_memory_bytes + HEADROOM_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def _end_with_the_owner() -> None:
    """Where the system can do it: also in the middle of a clip that hangs. The owner starts this process in a thread that lives as long as itself."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(sys.argv[2]):
            sys.exit()


def _data_bytes() -> int:
    """Private memory of this process, as RLIMIT_DATA counts it (proc(5): statm, sixth field, in pages)."""
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
