"""What a command costs: wall seconds, CPU seconds and peak memory of its whole process tree.

    command --forks--> workers, raylet, ...      each /proc/<pid>/stat read 5 times a second, each smaps_rollup 2 times a second

CPU is the sum over all processes ever seen of their own user and system time at the last look, so that processes nobody waits for (Ray ignores
SIGCHLD) count like all others; what a process burns between the last look and its end is lost, at most `CPU_EVERY_S` each. Memory is the
largest sum of PSS (a page shared by n processes counts 1/n in each) at one look. Detached descendants stay below this process, because it is
their subreaper. Knows Linux and nothing of what runs.
"""

import ctypes
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
CPU_EVERY_S, PSS_EVERY_S = 0.2, 0.5
LINGER_S = 30  # Ray's processes may outlive the command
TICKS = os.sysconf("SC_CLK_TCK")
RAY_PARTS = ("raylet", "gcs_server", "/ray/dashboard/", "/ray/_private/", "/ray/autoscaler/")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command took."""

    wall_s: float  # until the command itself ended
    cpu_s: float  # user and system, of all its processes
    peak_pss_mb: float
    pss_mb: dict[str, float]  # at the peak, by role: driver, workers, ray
    processes: int  # ever seen
    exit_code: int


@dataclass(frozen=True, slots=True)
class Process:
    """One look at one process."""

    pid: int
    parent: int
    started: int  # in ticks since boot: tells a reused pid
    cpu_s: float  # its own, without its children's


@dataclass(slots=True)
class _Ledger:
    cpu_s: dict[tuple[int, int], float] = field(default_factory=dict)
    peak: dict[str, float] = field(default_factory=dict)

    def note_cpu(self, processes: Sequence[Process]) -> None:
        self.cpu_s.update({(process.pid, process.started): process.cpu_s for process in processes})

    def note_pss(self, processes: Sequence[Process], root: int) -> None:
        now = dict.fromkeys(("driver", "workers", "ray"), 0.0)
        for process in processes:
            now[_role(process.pid, root)] += _pss_mb(process.pid)
        if sum(now.values()) > sum(self.peak.values()):
            self.peak = now


def measure(command: Sequence[str], *, log: Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Cost:
    """Run a command to its end, with its output in `log`."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before, ledger = {process.pid for process in descendants()}, _Ledger()
    with log.open("wb") as output:
        started_s = time.perf_counter()
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=cwd, env=env)
    _watch(child.pid, before, ledger)
    wall_s = time.perf_counter() - started_s
    ledger.note_cpu(_below(before))  # a zombie still tells its time
    exit_code = child.wait()
    _wait_for_the_rest(before, ledger)
    return Cost(wall_s, sum(ledger.cpu_s.values()), sum(ledger.peak.values()), ledger.peak, len(ledger.cpu_s), exit_code)


def _watch(root: int, before: set[int], ledger: _Ledger) -> None:
    """Look again and again until the command ends."""
    ended, next_pss_s = os.pidfd_open(root), time.perf_counter()
    try:
        while not select.select([ended], [], [], CPU_EVERY_S)[0]:
            processes = _below(before)
            ledger.note_cpu(processes)
            if time.perf_counter() >= next_pss_s:
                ledger.note_pss(processes, root)
                next_pss_s = time.perf_counter() + PSS_EVERY_S
    finally:
        os.close(ended)


def _wait_for_the_rest(before: set[int], ledger: _Ledger) -> None:
    """What the command left behind ends by itself, or is ended after `LINGER_S`."""
    patience_s = time.perf_counter() + LINGER_S
    while left := _below(before):
        ledger.note_cpu(left)
        for process in left:
            if time.perf_counter() > patience_s:
                os.kill(process.pid, signal.SIGKILL)
            if process.parent == os.getpid():
                os.waitpid(process.pid, os.WNOHANG)
        time.sleep(CPU_EVERY_S)


def _below(before: set[int]) -> list[Process]:
    return [process for process in descendants() if process.pid not in before]


def descendants() -> list[Process]:
    """Every process below this one."""
    children: dict[int, list[Process]] = {}
    for process in _all():
        children.setdefault(process.parent, []).append(process)
    found, todo = [], [os.getpid()]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += [process.pid for process in below]
    return found


def _all() -> Iterator[Process]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path(f"/proc/{name}/stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue  # it ended meanwhile
            values = stat.rpartition(")")[2].split()  # proc(5); the name before may hold anything
            yield Process(int(name), int(values[1]), int(values[19]), (int(values[11]) + int(values[12])) / TICKS)


def _pss_mb(pid: int) -> float:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    line = next((line for line in rollup.splitlines() if line.startswith("Pss:")), "Pss: 0 kB")
    return int(line.split()[1]) / 1024


def _role(pid: int, root: int) -> str:
    if pid == root:
        return "driver"
    try:
        command = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "workers"
    is_worker = command.startswith("ray::") or "default_worker.py" in command
    return "ray" if not is_worker and any(part in command for part in RAY_PARTS) else "workers"
