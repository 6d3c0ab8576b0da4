"""One run at a time on one output: a small object that the running one keeps rewriting.

    take --create--> held --heartbeat every 10 s--> held ... --delete--> free
             |                                       |
             there: fresh -> Problem                 someone else's: lost
                    stale -> replace if unchanged (one winner)

Stale: its process on this machine is gone, or no heartbeat for 60 s by the store's clock. Some stores that speak S3 ignore If-None-Match or
If-Match; that is found out, and then the lease only turns away who comes while its holder can be seen. Knows storage, and nothing of what a run
does.
"""

import getpass
import json
import logging
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
LOOK_S = 5.0  # between two looks of a run that waits
NO_VERSION = '"00000000000000000000000000000000"'  # an ETag no object has
_live: set[str] = set()  # tokens of leases that this process has, or is about to have
TRIES = 20  # takeovers lost in a row before giving up


class Occupied(Problem):
    """Another run holds the output."""


class LeaseLost(Problem):
    """Another run took the output over while this one could not renew its lease."""

    @property
    def passing(self) -> bool:
        """What is left can be done by the next run."""
        return True


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

    def __init__(self, uri: str, holder: Holder, version: str, *, exclusive: bool = True) -> None:
        self.waited = False  # for another run, which may have changed the output
        self._uri, self._holder, self._version, self._exclusive = uri, holder, version, exclusive
        self._taken = False
        self._renewed_s = time.monotonic()
        self._renewing = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> bool:
        """Whether another run is known to have it."""
        return self._taken

    def check(self) -> None:
        """Make sure that it is held; one that is overdue (the disk stood still, the machine slept) is renewed here unless somebody took it.

        Raises:
            LeaseLost: another run has it.
            StorageError: overdue, and the store does not say.
        """
        if time.monotonic() - self._renewed_s > STALE_S:
            self._renew()
        if self._taken:
            late = f"when this one had not renewed it for {STALE_S:.0f} s"
            raise LeaseLost(f"{self._uri}: another run took this output over, {late}; run this one again")

    def confirm(self) -> None:
        """As `check`, and ask the store who has it: a process that slept, or was stopped, does not know how long.

        Raises:
            LeaseLost: not this one.
            StorageError: the store does not say.
        """
        self.check()
        self._taken = self._taken or not self._is_ours()
        self.check()

    @property
    def notices(self) -> tuple[str, ...]:
        """What whoever started the run should know."""
        if self._exclusive:
            return ()
        return (f"{self._uri}: this store ignores conditions on writing, so it cannot keep two runs apart; see to it that only one writes here",)

    def release(self) -> None:
        """Stop renewing, and delete the object if it is still ours. A store that fails now only makes the next run wait."""
        self._stop.set()
        self._thread.join(STALE_S)
        _live.discard(self._holder.token)
        if not self._taken:
            try:
                if self._exclusive or self._is_ours():
                    storage.delete_if(self._uri, self._version)
            except storage.StorageError:
                return

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S) and not self._taken:
            try:
                self._renew()
            except storage.StorageError:
                continue  # `check` sees when this has lasted too long

    def _renew(self) -> None:
        with self._renewing:
            began_s = time.monotonic()
            version = self._rewritten(_encode(replace(self._holder, heartbeat_at=_now())))
            if version is None:
                self._taken = True
            else:
                self._version, self._renewed_s = version, began_s

    def _rewritten(self, data: bytes) -> str | None:
        """The new version, or None where somebody else's lease is there."""
        if self._exclusive:
            return storage.replace_if(self._uri, data, self._version)
        return _overwrite(self._uri, data) if self._is_ours() else None

    def _is_ours(self) -> bool:
        found = _seen(self._uri)
        return found is not None and _decode(self._uri, found.data).token == self._holder.token


@contextmanager
def lease(output: str, *, run_id: str, patience_s: float = 0.0) -> Iterator[Lease]:
    """Hold an output while the block runs.

    Args:
        output: folder or s3:// prefix; the object is `_wip/lease.json` in it.
        run_id: named to whoever is turned away.
        patience_s: how long to wait for another run to end before being turned away.

    Raises:
        Occupied: another run holds it; one line says which, where, since when, and what to do.
        Problem: what is there is no lease, or runs race for it without end.
        StorageError: the output cannot be written.
    """
    held = _in_turn(f"{output.rstrip('/')}/_wip/lease.json", run_id, time.monotonic() + patience_s)
    try:
        yield held
    finally:
        held.release()


def _in_turn(uri: str, run_id: str, until_s: float) -> Lease:
    waited = False
    while True:
        try:
            held = _take(uri, _myself(run_id))
        except Occupied as occupied:
            if time.monotonic() >= until_s:
                raise
            if not waited:
                logging.getLogger(__name__).warning("waiting for the output: %s", occupied)
            waited = True
            time.sleep(LOOK_S)
        else:
            held.waited = waited
            return held


def _take(uri: str, me: Holder) -> Lease:
    _live.add(me.token)
    try:
        return _taken(uri, me)
    except BaseException:
        _live.discard(me.token)
        raise


def _taken(uri: str, me: Holder) -> Lease:
    for _ in range(TRIES):
        found = _seen(uri)  # first, because a store may ignore that something is there
        if found is not None:
            _refuse_living(uri, found)
        try:
            version = _put(uri, _encode(me), found)
        except storage.StorageError as error:
            if error.cause is not storage.Cause.NOT_OFFERED:
                raise
            return Lease(uri, me, _overwrite(uri, _encode(me)), exclusive=False)
        if version is not None and (storage.always_conditional(uri) or _keeps_conditions(uri, me)):
            return Lease(uri, me, version)
        if version is not None:
            return Lease(uri, me, _overwrite(uri, _encode(me)), exclusive=False)
    raise Problem(f"{uri}: many runs want this output at once; let one of them finish")


def _seen(uri: str) -> storage.Versioned | None:
    try:
        return storage.read_versioned(uri)
    except storage.NotFound:
        return None


def _refuse_living(uri: str, found: storage.Versioned) -> None:
    """Raise Problem where the lease is in good hands."""
    holder = _decode(uri, found.data)
    if not _dead(holder) and found.age_s <= STALE_S:
        raise Occupied(_refusal(uri, holder, found.age_s))


def _put(uri: str, data: bytes, found: storage.Versioned | None) -> str | None:
    """The new version, or None: somebody was faster."""
    return storage.create_exclusive(uri, data) if found is None else storage.replace_if(uri, data, found.version)


def _keeps_conditions(uri: str, me: Holder) -> bool:
    """Whether the store refuses to replace our lease, as it must; one that does not has put a copy there that is ours but for the token."""
    other = _encode(replace(me, token=uuid.uuid4().hex))
    return storage.create_exclusive(uri, other) is None and storage.replace_if(uri, other, NO_VERSION) is None


def _overwrite(uri: str, data: bytes) -> str:
    storage.write_bytes(uri, data)
    return storage.read_versioned(uri).version


def _dead(holder: Holder) -> bool:
    """Whether its process on this machine has ended, or is this one and has let go of it, which the store did not hear."""
    if holder.machine == "" or holder.machine != _machine():
        return False
    return holder.process != _process(holder.pid) or (holder.pid == os.getpid() and holder.token not in _live)


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
