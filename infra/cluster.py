"""The Ray cluster a run works on: one started here, or one that exists.

Knows Ray's start-up and shutdown, and which resources there are; nothing of the work.
"""

import ipaddress
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from infra.problem import Problem
from infra.settings import ClusterConfig

# Parcels in flight are some tens of MiB; the rest of the default (30 % of the memory) would only be resident cost.
OBJECT_STORE_BYTES = 1 << 30
OOM_RETRIES = 3  # of a task whose worker Ray killed for memory; its own default is endless
REACHABLE_S = 10.0


@dataclass(frozen=True, slots=True)
class Resources:
    """What the cluster offers."""

    cpus: int
    gpus: int


class NotStarted(Problem):
    """Ray did not come up on this machine, or was killed while it did."""

    @property
    def passing(self) -> bool:
        """Nothing is wrong with what was asked."""
        return True


@contextmanager
def ray_session(cluster: ClusterConfig, *, preload: Sequence[str] = ()) -> Iterator[Resources]:
    """Connect to the cluster, or start one on this machine, and let go of it at the end; a Ray this process already has is used and kept.

    Args:
        cluster: where the work runs.
        preload: modules that the workers of a cluster started here import first of all. Ray puts the current folder before everything else
            on their path, where packages of the same name may lie.

    Raises:
        Problem: the cluster is open to anyone or cannot be reached, Ray does not start here, or there is no CPU.
    """
    _check_token(cluster)
    _check_reachable(cluster.address)
    _prepare_environment(cluster)
    import ray  # costs half a second, and a run with nothing to do needs none of it

    ours = not ray.is_initialized()
    try:
        if ours:
            with _signals_kept():
                _start(cluster, preload)
        yield _resources(cluster)
    finally:
        if ours:
            ray.shutdown()


def _prepare_environment(cluster: ClusterConfig) -> None:
    """Ray reads its variables when it is imported; what the user set stays."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if not cluster.address and "RAY_AUTH_MODE" not in os.environ and "ray" not in sys.modules:
        os.environ["RAY_AUTH_MODE"] = "token"  # only this process and its children may use its cluster
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray keeps one for ever, in ~/.ray/auth_token


def _start(cluster: ClusterConfig, preload: Sequence[str]) -> None:
    import ray

    local: dict[str, Any] = {
        "num_cpus": cluster.cpus,
        "num_gpus": cluster.gpus,
        "object_store_memory": OBJECT_STORE_BYTES,
        "include_dashboard": False,
        "_system_config": {"preload_python_modules": list(preload), "task_oom_retries": OOM_RETRIES},
    }
    try:
        ray.init(address=cluster.address or "local", log_to_driver=False, **({} if cluster.address else local))
    except Exception as error:  # Ray says a plain Exception when the machine is too busy to start it in 30 s
        cause = str(error).strip().partition("\n")[0].rstrip(".")
        if cluster.address:
            raise Problem(f"cluster.address {cluster.address}: {cause}; start Ray there, or leave the address out") from error
        raise NotStarted(f"Ray did not start on this machine: {cause}; when the machine is less busy, run the same command again") from error


def _check_token(cluster: ClusterConfig) -> None:
    """Ray runs what anyone who reaches it sends, unless it asks for a token."""
    address = os.environ.get("RAY_ADDRESS") if cluster.address == "auto" else cluster.address
    host, _ = _host_and_port(address)
    if not host or _is_loopback(host) or cluster.insecure or os.environ.get("RAY_AUTH_MODE") == "token":
        return
    raise Problem(
        f"cluster.address {address}: is another machine, and Ray's token authentication is off; start Ray there and run vidmill here with "
        f"RAY_AUTH_MODE=token and one RAY_AUTH_TOKEN, or, on a network you trust, say --cluster.insecure"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _host_and_port(address: str | None) -> tuple[str, str]:
    """Empty where Ray itself finds the cluster."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    return (host.strip("[]"), port) if port.isdigit() else ("", "")


def _check_reachable(address: str | None) -> None:
    """Ray itself tries for minutes before it says so."""
    host, port = _host_and_port(address)
    if not host:
        return
    try:
        socket.create_connection((host, int(port)), REACHABLE_S).close()
    except (OSError, OverflowError) as error:
        raise Problem(f"cluster.address {address}: {getattr(error, 'strerror', None) or error}; start Ray there, or leave the address out") from error


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray's own handler of SIGTERM exits at once with 1; whoever started the run decides what it means."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _resources(cluster: ClusterConfig) -> Resources:
    import ray

    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cpus = int(found.get("CPU", 0))
    if not cpus:
        raise Problem(f"cluster.address {cluster.address or 'local'}: the cluster has no CPU; wait for its nodes")
    return Resources(cpus, int(found.get("GPU", 0)) if cluster.gpus is None else cluster.gpus)
