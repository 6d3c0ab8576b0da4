"""Ray sessions: what goes wrong is one line, and what the process had stays."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from infra.cluster import Resources, ray_session
from infra.problem import Problem
from infra.settings import ClusterConfig
from tests.conftest import free_port

QUIET_SESSION = """
import signal, sys
from pathlib import Path
from infra.cluster import ray_session
from infra.logs import quiet_to
from infra.settings import ClusterConfig
signal.signal(signal.SIGTERM, signal.default_int_handler)
with quiet_to(Path(sys.argv[1])), ray_session(ClusterConfig(cpus=1)) as found:
    import ray
    answer = ray.get(ray.remote(lambda: 6 * 7).remote())
print(found.cpus, answer, signal.getsignal(signal.SIGTERM) is signal.default_int_handler)
"""


def test_a_ray_that_is_there_is_used_and_kept(ray_here: None) -> None:
    import ray

    with ray_session(ClusterConfig()) as found:
        assert found == Resources(cpus=2, gpus=0)
    assert ray.is_initialized()


def test_a_session_of_its_own_is_quiet_locked_and_keeps_the_handler(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {"HOME": str(tmp_path)}
    command = [sys.executable, "-c", QUIET_SESSION, str(tmp_path / "log")]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (0, "1 42 True\n", "")
    assert not (tmp_path / ".ray").exists()
    assert "Token authentication is disabled" not in (tmp_path / "log").read_text()


def test_a_cluster_that_does_not_answer_is_one_line_at_once() -> None:
    address = f"127.0.0.1:{free_port()}"
    with (
        pytest.raises(Problem, match=re.escape(f"cluster.address {address}: Connection refused; start Ray there")),
        ray_session(ClusterConfig(address=address)),
    ):
        pass


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("ray://127.0.0.1:10001", "Ray Data does not work over Ray Client"),
        ("http://127.0.0.1:8265", "takes jobs"),
        ("ftp://x", "is no address of a Ray cluster"),
    ],
)
def test_an_address_that_no_driver_can_join_names_the_command_that_can(address: str, cause: str) -> None:
    """Ray Data over Ray Client dies of an AttributeError (2.60: 'Worker' object has no attribute 'core_worker')."""
    with (
        pytest.raises(Problem, match=re.escape(f"cluster.address {address}: {cause}; ") + ".*`vidmill submit`"),
        ray_session(ClusterConfig(address=address)),
    ):
        pass


def test_a_machine_too_busy_to_start_ray_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise Exception("The current node timed out during startup. This could happen because\nthe GCS is overloaded.")  # as Ray does

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    told = r"^Ray did not start on this machine: The current node timed out.*; when the machine is less busy, run the same command again$"
    with pytest.raises(Problem, match=told), ray_session(ClusterConfig()):
        pass


OPEN = "is another machine, and Ray's token authentication is off; start Ray there and run vidmill here with RAY_AUTH_MODE=token"


@pytest.mark.parametrize(
    ("address", "variables"),
    [
        ("192.0.2.7:6379", {}),
        ("head.example:6379", {}),
        ("[2001:db8::7]:6379", {"RAY_AUTH_MODE": "disabled"}),
        ("auto", {"RAY_ADDRESS": "192.0.2.7:6379"}),
    ],
)
def test_an_open_cluster_on_another_machine_is_refused(address: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """P12: without the check anyone who reaches that port runs code beside our data and credentials."""
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Problem, match=re.escape(OPEN)), ray_session(ClusterConfig(address=address)):
        pass


@pytest.mark.parametrize(
    ("address", "variables", "insecure"),
    [
        ("127.0.0.1:1", {}, False),
        ("localhost:1", {}, False),
        ("[::1]:1", {}, False),
        ("192.0.2.7:1", {}, True),
        ("192.0.2.7:1", {"RAY_AUTH_MODE": "token"}, False),
    ],
)
def test_what_may_be_joined(address: str, variables: dict[str, str], insecure: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("infra.cluster.REACHABLE_S", 0.2)
    with pytest.raises(Problem, match="start Ray there, or leave the address out"), ray_session(ClusterConfig(address=address, insecure=insecure)):
        pass
