"""A real head node of Ray, with dashboard, job server and token authentication, in processes that end with the test."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.conftest import free_port
from tests.flows.program import MARK

START_S = 90
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Head:
    """Where it is and what it asks for."""

    address: str  # of the cluster, for drivers on this machine
    dashboard: str  # for jobs
    token: str

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a program that may use it."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}


@contextmanager
def head_node(*, cpus: int) -> Iterator[Head]:
    """A cluster of one node, whose workers import this repository."""
    mark, folder = uuid.uuid4().hex, tempfile.mkdtemp(prefix="vm", dir="/tmp")  # sockets have short names
    ports = [free_port() for _ in range(5)]
    found = Head(f"127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}", uuid.uuid4().hex * 2)
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", f"--temp-dir={folder}", f"--num-cpus={cpus}",
               "--object-store-memory=300000000", f"--port={ports[0]}", f"--dashboard-port={ports[1]}", f"--dashboard-agent-listen-port={ports[2]}",
               f"--metrics-export-port={ports[3]}", f"--ray-client-server-port={ports[4]}"]  # fmt: skip
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # a job's `python` is this one
    more = {"PATH": path, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", MARK: mark}
    with (Path(folder) / "log").open("wb") as log:
        started = subprocess.Popen(
            command, env={**clean, **found.environment, **more}, cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        _wait(started, found, Path(folder) / "log")
        yield found
    finally:
        started.terminate()
        while left := [process for process in psutil.process_iter() if _has(process, mark)]:  # one that dies may have started another
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, 10)
        started.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _has(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark
    except psutil.Error:
        return False


def _wait(started: "subprocess.Popen[bytes]", head: Head, log: Path) -> None:
    request = urllib.request.Request(f"{head.dashboard}/api/jobs/", headers={"Authorization": f"Bearer {head.token}"})
    end_s = time.monotonic() + START_S
    while time.monotonic() < end_s and started.poll() is None:
        try:
            urllib.request.urlopen(request, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the head node did not start: {log.read_text()[-2000:]}")
