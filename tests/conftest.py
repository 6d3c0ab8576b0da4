"""What is started once for all tests that need it: an S3 server, a Ray."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import hypothesis
import pytest
import torch

from infra.cluster import ray_session
from infra.settings import ClusterConfig
from tasks.cores import use_cores

START_S = 60
MOTO = {"S3_UPLOAD_PART_MIN_SIZE": str(1 << 16), "MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(5 << 20)}  # small parts make quick tests
PATIENCE_S = 60  # what hangs, hangs for ever
LONG = {"test_readme.py": 1000, "test_run.py": 45, "test_models.py": 35, "test_restoration.py": 20}


# By default Ray's workers yield to every other process, here to the tests beside them, and starve.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 (Ray spells it so)


hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("untimed")


def pytest_configure() -> None:
    """A shell starts what it puts in the background with SIGINT ignored, and our children would inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with many tests first, as xdist has it, which fill both cores to the end; but those of a few long tests would be left over for one."""
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: -(tests[item.path] + LONG.get(item.path.name, 0)))


@pytest.fixture
def alarm() -> Iterator[None]:
    """A test that waits for what never comes, such as a pipe's writer, fails."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"nothing came in {PATIENCE_S} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(PATIENCE_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def one_core() -> Iterator[None]:
    """Tests run side by side; torch would have each use all cores, which then wait for each other."""
    before = torch.get_num_threads()
    use_cores(1)
    yield
    use_cores(before)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Endpoint of one moto server process; this process and its children find it by their environment."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    environment = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("wb") as output:
        command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(command, env=os.environ | MOTO, stdout=output, stderr=output)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
            patch.delenv(name, raising=False)
        try:
            _wait(server, endpoint, log)
            yield endpoint
        finally:
            server.terminate()
            server.wait(10)


@pytest.fixture(scope="session")
def ray_here(s3: str) -> Iterator[None]:
    """Ray on two cores for all tests that run inside this process; its workers know the S3 server by their environment."""
    with ray_session(ClusterConfig(cpus=2)):
        yield


@pytest.fixture
def bucket(s3: str) -> str:
    """Name of a fresh, empty bucket."""
    name = f"bucket-{uuid.uuid4().hex}"
    urllib.request.urlopen(urllib.request.Request(f"{s3}/{name}", method="PUT"), timeout=10).close()
    return name


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(server: "subprocess.Popen[bytes]", endpoint: str, log: Path) -> None:
    for _ in range(START_S * 10):
        if server.poll() is not None:
            break
        try:
            urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"moto_server did not start: {log.read_text()[-2000:]} (pid {server.pid}, uid {os.getuid()})")
