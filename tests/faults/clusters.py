"""Ray clusters of several nodes for tests, each with a token, nodes that can be lost, and S3 that tells which node wrote what.

    HostCluster     every node is a host of `tests.hosts`: an address, a name, processes and shared memory of its own
    RayletCluster   every node is a raylet of `ray.cluster_utils` beside the others, for machines that allow no hosts

GPUs are pretended: Ray places work by them, and torch finds none.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.conftest import MOTO
from tests.faults.proxy import Proxy, proxy_to
from tests.flows.program import CONFIG_VARIABLES, until
from tests.hosts import Host, Lan, Refused, lan

ROOT = Path(__file__).parents[2]
GCS_PORT, S3_PORT = 6379, 5000
START_S = 120
STORE_BYTES = 100 << 20
FRAGMENT = r"/_wip/.*/embeddings/.*\.fragment"
# Ray takes a node that is silent for lost after 15 s to a minute; a test has not so long.
IMPATIENT = {"RAY_health_check_initial_delay_ms": "1000", "RAY_health_check_period_ms": "500", "RAY_health_check_timeout_ms": "2000"}
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": os.urandom(32).hex(), "RAY_USAGE_STATS_ENABLED": "0"}
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
LIVE = """
import sys, time, ray
ray.init(sys.argv[1], log_to_driver=False)
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[2]):
    time.sleep(0.1)
"""


class Nodes(Protocol):
    """What both kinds can do."""

    kind: str
    endpoint: str  # of S3, from here
    environment: dict[str, str]  # of what runs on the nodes

    @property
    def address(self) -> str:
        """Of Ray's head."""

    def add(self, name: str, *, cpus: int, gpus: int) -> None:
        """Start a node; it joins some seconds later."""

    def program(self, *command: object) -> "subprocess.Popen[str]":
        """Run a program on the head, which computes nothing."""

    def lose(self, name: str) -> None:
        """Kill a node at once."""

    def staged(self, name: str) -> int:
        """Fragments with embeddings that a node has put into S3."""

    def decodes(self, name: str) -> bool:
        """Whether a decoder runs on a node."""


def await_nodes(cluster: Nodes, count: int) -> None:
    """Wait until so many nodes live, the head included."""
    asking = cluster.program(sys.executable, "-c", LIVE, cluster.address, count)
    _, complaint = asking.communicate(timeout=START_S)
    assert asking.returncode == 0, complaint


def _environment(endpoint: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in CONFIG_VARIABLES and not name.startswith("AWS_")}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return kept | CREDENTIALS | TOKEN | IMPATIENT | {"AWS_ENDPOINT_URL": endpoint, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}


class HostCluster:
    """Nodes that are hosts; the head's processes and the driver run on one, the S3 server on the switch."""

    def __init__(self, net: Lan, folder: Path) -> None:
        self.net, self.folder = net, folder
        self.kind = "hosts in network namespaces"
        self.endpoint = f"http://{net.switch.address}:{S3_PORT}"
        self.environment = _environment(self.endpoint) | {"VIDMILL_CACHE": "/tmp/ray/vidmill"}  # a folder of each host's own
        self.head = net.add("head")
        self._serve()
        self._join(self.head, "--head", "--port", GCS_PORT, "--num-cpus", 0, "--num-gpus", 0, "--include-dashboard", "false")

    @property
    def address(self) -> str:
        return f"{self.head.address}:{GCS_PORT}"

    def add(self, name: str, *, cpus: int, gpus: int) -> None:
        self._join(self.net.add(name), "--address", self.address, "--num-cpus", cpus, "--num-gpus", gpus)

    def program(self, *command: object) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.head.within(*command), env=self.environment, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def lose(self, name: str) -> None:
        self.net.hosts[name].power_off()

    def staged(self, name: str) -> int:
        puts = rf'^{re.escape(self.net.hosts[name].address)} .*"PUT [^"]*{FRAGMENT}[^"]*" 200'
        return len(re.findall(puts, (self.folder / "s3.log").read_text(), re.MULTILINE))

    def decodes(self, name: str) -> bool:
        return self.net.hosts[name].runs("tasks.decoder")

    def _serve(self) -> None:
        server = [Path(sys.executable).with_name("moto_server"), "-H", self.net.switch.address, "-p", S3_PORT]
        with (self.folder / "s3.log").open("wb") as log:
            self.net.switch.start(*server, output=log, environment=self.environment | MOTO)

    def _join(self, host: Host, *arguments: object) -> None:
        start = [Path(sys.executable).with_name("ray"), "start", "--block", "--node-ip-address", host.address, "--include-log-monitor", "false"]
        with (self.folder / f"{host.name}.log").open("wb") as log:
            host.start(*start, "--object-store-memory", STORE_BYTES, *arguments, output=log, environment=self.environment)


class RayletCluster:
    """Nodes that are raylets side by side; each reaches S3 through a proxy of its own, which counts."""

    def __init__(self, endpoint: str, folder: Path, stack: ExitStack) -> None:
        self.endpoint, self.folder, self.stack = endpoint, folder, stack
        self.kind = "raylets of ray.cluster_utils"
        self.environment = _environment(endpoint)
        self.proxies: dict[str, Proxy] = {}
        command = [sys.executable, "-m", "tests.faults.raylets"]
        self.raylets = subprocess.Popen(command, env=self.environment, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.callback(self._end)
        self.address = str(self._ask("add", name="head", num_cpus=0))

    def add(self, name: str, *, cpus: int, gpus: int) -> None:
        proxy = self.proxies[name] = self.stack.enter_context(proxy_to(self.endpoint))
        own = self.environment | {"AWS_ENDPOINT_URL": proxy.url, "VIDMILL_CACHE": str(self.folder / name)}
        self._ask("add", name=name, num_cpus=cpus, num_gpus=gpus, env_vars=own)

    def program(self, *command: object) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            list(map(str, command)), env=self.environment, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def lose(self, name: str) -> None:
        self._ask("lose", name=name)

    def staged(self, name: str) -> int:
        return self.proxies[name].count("PUT", path=f".*{FRAGMENT}")

    def decodes(self, name: str) -> bool:
        return bool(self._ask("runs", name=name, what="tasks.decoder"))

    def _ask(self, order: str, **arguments: Any) -> Any:
        assert self.raylets.stdin
        assert self.raylets.stdout
        self.raylets.stdin.write(json.dumps({"order": order, **arguments}) + "\n")
        self.raylets.stdin.flush()
        return json.loads(self.raylets.stdout.readline())

    def _end(self) -> None:
        self.raylets.communicate(timeout=START_S)


@contextmanager
def on_hosts(folder: Path) -> Iterator[HostCluster]:
    """A cluster of hosts, the head alone.

    Raises:
        Refused: this machine allows none.
    """
    with lan() as net:
        cluster = HostCluster(net, folder)
        until(lambda: b"Running on" in (folder / "s3.log").read_bytes(), timeout_s=START_S)
        yield cluster


@contextmanager
def on_raylets(folder: Path, request: pytest.FixtureRequest) -> Iterator[RayletCluster]:
    """A cluster of raylets, the head alone."""
    with ExitStack() as stack:
        yield RayletCluster(request.getfixturevalue("s3"), folder, stack)


def hosts_allowed() -> str | None:
    """Why this machine allows no hosts; None where it does."""
    try:
        with lan():
            return None
    except Refused as reason:
        return str(reason)
