"""One run at a time on one output: a small object that the running one keeps rewriting.

    take --create--> held --heartbeat every 10 s--> held ... --delete--> free
             |                                       |
             there: fresh -> Problem                 someone else's: lost
                    stale -> replace if unchanged (one winner)

Stale: its process on this machine is gone, or no heartbeat for 60 s by the store's clock. Knows storage, and nothing of what a run does.
"""

import getpass
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from infra import storage
from infra.problem import Problem

HEARTBEAT_S = 10.0
STALE_S = 60.0
TRIES = 20  # takeovers lost in a row before giving up


class LeaseLost(Problem):
    """Another run took the output over while this one could not renew its lease."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds an output; the content of the lease object."""

    run_id: str
    host: str
    pid: int
    user: str
    started_at: str  # ISO 8601, UTC, by the holder's clock
    heartbeat_at: str
    machine: str  # boot and process namespace: only there does the pid mean anything; empty where unknown
    process: str  # start time of the process, in ticks since boot
    token: str  # makes this lease unlike any other


class Lease:
    """A lease that is held, and the thread that keeps it."""

    def __init__(self, uri: str, holder: Holder, version: str) -> None:
        self._uri, self._holder, self._version = uri, holder, version
        self._taken = False
        self._renewed_s = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> bool:
        """Whether another run has it, or may have: it could not be renewed in time."""
        return self._taken or time.monotonic() - self._renewed_s > STALE_S

    def check(self) -> None:
        """Raise LeaseLost if the lease is lost."""
        if self.lost:
            raise LeaseLost(f"{self._uri}: another run took this output over, or it could not be renewed for {STALE_S:.0f} s; run this one again")

    def release(self) -> None:
        """Stop renewing, and delete the object if it is still ours. A store that fails now only makes the next run wait."""
        self._stop.set()
        self._thread.join(STALE_S)
        if not self._taken:
            try:
                storage.delete_if(self._uri, self._version)
            except storage.StorageError:
                return

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S) and not self._taken:
            try:
                self._renew()
            except storage.StorageError:
                continue  # `lost` tells when this has lasted too long

    def _renew(self) -> None:
        began_s = time.monotonic()
        version = storage.replace_if(self._uri, _encode(replace(self._holder, heartbeat_at=_now())), self._version)
        if version is None:
            self._taken = True
        else:
            self._version, self._renewed_s = version, began_s


@contextmanager
def lease(output: str, *, run_id: str) -> Iterator[Lease]:
    """Hold an output while the block runs.

    Args:
        output: folder or s3:// prefix; the object is `_wip/lease.json` in it.
        run_id: named to whoever is turned away.

    Raises:
        Problem: another run holds it; one line says which, where, since when, and what to do.
        StorageError: the output cannot be written.
    """
    held = _take(f"{output.rstrip('/')}/_wip/lease.json", _myself(run_id))
    try:
        yield held
    finally:
        held.release()


def _take(uri: str, me: Holder) -> Lease:
    for _ in range(TRIES):
        version = storage.create_exclusive(uri, _encode(me)) or _take_over(uri, me)
        if version is not None:
            return Lease(uri, me, version)
    raise Problem(f"{uri}: many runs want this output at once; let one of them finish")


def _take_over(uri: str, me: Holder) -> str | None:
    """The new version, or None: gone or changed since it was read. Raises Problem where it is in good hands."""
    try:
        found = storage.read_versioned(uri)
    except storage.NotFound:
        return None
    holder = _decode(uri, found.data)
    if not _dead(holder) and found.age_s <= STALE_S:
        raise Problem(_refusal(uri, holder, found.age_s))
    return storage.replace_if(uri, _encode(me), found.version)


def _dead(holder: Holder) -> bool:
    return holder.machine != "" and holder.machine == _machine() and holder.process != _process(holder.pid)


def _refusal(uri: str, holder: Holder, age_s: float) -> str:
    running_s = (datetime.now(UTC) - datetime.fromisoformat(holder.started_at)).total_seconds()
    return (
        f"{uri}: run {holder.run_id} of {holder.user} (host {holder.host}, pid {holder.pid}) is writing here since {max(0.0, running_s):.0f} s, "
        f"last heartbeat {age_s:.0f} s ago; wait for it, stop it, or name another output"
    )


def _myself(run_id: str) -> Holder:
    return Holder(
        run_id=run_id, host=socket.gethostname(), pid=os.getpid(), user=_user(), started_at=_now(), heartbeat_at=_now(),
        machine=_machine(), process=_process(os.getpid()), token=uuid.uuid4().hex,
    )  # fmt: skip


def _machine() -> str:
    """Host, boot and process namespace; empty where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def _process(pid: int) -> str:
    """When a process started, in ticks since boot; empty when there is none or it has ended."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else fields[18]  # proc(5): field 22, and the state is field 3


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"  # a container without a name for its user


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _encode(holder: Holder) -> bytes:
    return json.dumps(asdict(holder), indent=1).encode()


def _decode(uri: str, data: bytes) -> Holder:
    try:
        holder = Holder(**json.loads(data))
        datetime.fromisoformat(holder.started_at)
        return holder
    except (ValueError, TypeError) as error:
        raise Problem(f"{uri}: not a lease that vidmill wrote; delete it if no run is writing here") from error
