"""A Prefect server as a process of its own, and what it was told."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tests.conftest import free_port

START_S = 120
BUSY_TRIES = 10
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@dataclass(frozen=True, slots=True)
class PrefectServer:
    """A server that runs."""

    api: str
    process: "subprocess.Popen[bytes]"

    def call(self, path: str, **body: Any) -> Any:
        """`POST /<path>`, again while its database is busy, as Prefect's own client does."""
        request = urllib.request.Request(f"{self.api}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
        for attempt in range(BUSY_TRIES):
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                if error.code != HTTPStatus.SERVICE_UNAVAILABLE or attempt == BUSY_TRIES - 1:
                    raise
            time.sleep(0.2)
        raise AssertionError("not reached")

    def flow_run(self, **identity: Any) -> dict[str, Any]:
        """The only flow run of this name or id, as soon as the server has its end."""
        for _ in range(150):
            (found,) = self.call("flow_runs/filter", flow_runs=identity)
            if found["state_type"] in ENDED:
                return dict(found)
            time.sleep(0.2)
        raise AssertionError(found["state_type"])

    def task_runs(self, run_id: str) -> dict[str, tuple[str, int]]:
        """State and number of tries of a flow run's tasks, by their names without the counter."""
        found = self.call("task_runs/filter", task_runs={"flow_run_id": {"any_": [run_id]}})
        return {run["name"].rpartition("-")[0]: (run["state_name"], run["run_count"]) for run in found}


@contextmanager
def prefect_server(home: Path) -> Iterator[PrefectServer]:
    """A server with its database in `home`."""
    port = free_port()
    environment = os.environ | {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    environment.pop("PREFECT_API_URL", None)
    command = [str(Path(sys.executable).with_name("prefect")), "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        _wait(process, f"http://127.0.0.1:{port}/api/health", home / "log")
        yield PrefectServer(f"http://127.0.0.1:{port}/api", process)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _wait(server: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    for _ in range(START_S * 5):
        if server.poll() is not None:
            break
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the Prefect server did not start: {log.read_text()[-2000:]}")
