"""The decoder process: `python -m tasks.decoder FD OWNER`. Decodes for its owner, holds no credentials, opens no file.

    job -> bytes on request -> sampled frames, cut to what the models eat

What a clip does to a process it does to this one alone: `tasks.isolate` watches its time and memory, and starts another.
"""

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from infra.settings import LimitsConfig
from models.prepare import prepare
from models.spec import Geometry
from tasks.clip import ClipError, FailureKind, Frame, out_of_memory
from tasks.decode import open_clip, probe
from tasks.wire import Failed, Job, Samples, receive_job, request_bytes, send_answer

ORPHAN_S = 30.0  # after a job's time is over; by then its owner has ended this process, if there is one
HEADROOM_BYTES = 4 << 30  # libav takes a refusal for damage, so its largest request, 2 GiB, is left to the watch, which sees what is really used
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def serve(connection: Connection) -> None:
    """Do jobs until the owner is gone."""
    while True:
        connection.send_bytes(b"ready")
        job = receive_job(connection)
        send_answer(connection, _answer(job, connection))
        signal.setitimer(signal.ITIMER_REAL, 0)


def _answer(job: Job, connection: Connection) -> Samples | Failed:
    try:
        with _memory_limited(job.limits):
            return _samples(job, cast(BinaryIO, _Source(connection, job)))
    except ClipError as error:
        return Failed(error.kind, error.message)
    except MemoryError:
        return Failed(FailureKind.TOO_LARGE, out_of_memory(job.limits.max_memory_bytes).message)
    except Exception as error:  # a bug of ours or of PyAV's, which a video of a kind never seen has found
        return Failed(FailureKind.CRASH, f"decoding failed: {type(error).__name__}: {error}; remove the clip, and tell vidmill's developers")


def _samples(job: Job, file: BinaryIO) -> Samples:
    if job.fps is None:
        return Samples(probe(file, limits=job.limits), np.empty(0, np.float32), ())
    with open_clip(file, fps=job.fps, window=job.window, limits=job.limits) as clip:
        return Samples(clip.info, *_squares(clip, job.geometries))


def _squares(frames: Iterable[Frame], geometries: tuple[Geometry, ...]) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    times: list[float] = []
    columns: list[list[np.ndarray]] = [[] for _ in geometries]
    for frame in frames if geometries else ():  # a first frame shows that it can be decoded
        times.append(frame.time_s)
        for column, geometry in zip(columns, geometries, strict=True):
            column.append(prepare(frame.rgb, geometry))
    return np.array(times, np.float32), tuple(np.stack(column) for column in columns)


class _Source:
    """The owner's file, read through the connection."""

    def __init__(self, connection: Connection, job: Job) -> None:
        self._connection, self._size = connection, job.size_bytes
        self._patience_s = job.limits.clip_timeout_s + ORPHAN_S
        self._position = 0
        self._wait()

    def read(self, size: int) -> bytes:
        if self._position >= self._size:
            return b""
        data = request_bytes(self._connection, self._position, size)
        self._wait()
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = max(0, offset + (0, self._position, self._size)[whence])
        return self._position

    def tell(self) -> int:
        return self._position

    def seekable(self) -> bool:
        return True

    def _wait(self) -> None:
        """An owner that lives ends this process in time; an alarm nobody handles ends it where there is none."""
        signal.setitimer(signal.ITIMER_REAL, self._patience_s)


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


def main() -> None:
    """Serve the connection whose descriptor is the first argument, for the process that is the second."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner
    _end_with_the_owner()
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(limit, (0, 0))
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the owner is gone
        serve(Connection(int(sys.argv[1])))


if __name__ == "__main__":
    main()
