"""The Ray cluster a run works on: one started here, or one that exists.

Knows Ray's start-up and shutdown, and which resources there are; nothing of the work.
"""

import ipaddress
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from infra import code, nodes
from infra.problem import Problem
from infra.settings import ClusterConfig

# Parcels in flight are some tens of MiB; the rest of the default (30 % of the memory) would only be resident cost.
OBJECT_STORE_BYTES = 1 << 30
OOM_RETRIES = 3  # of a task whose worker Ray killed for memory; its own default is endless
REACHABLE_S = 10.0
JOB_SCHEMES = ("http", "https")


@dataclass(frozen=True, slots=True)
class Resources:
    """What the cluster offers now."""

    cpus: int
    gpus: int
    elastic: bool = False  # nodes may join and leave while the work goes on
    most_gpus: int | None = None  # as `gpus`, however many join


class NotStarted(Problem):
    """Ray did not come up on this machine, or was killed while it did."""

    @property
    def passing(self) -> bool:
        """Nothing is wrong with what was asked."""
        return True


def _unheard(_: str) -> None:
    """Nobody listens."""


@contextmanager
def ray_session(
    cluster: ClusterConfig, *, preload: Sequence[str] = (), own: Sequence[str] = (), tell: Callable[[str], None] = _unheard
) -> Iterator[Resources]:
    """Connect to the cluster, or start one on this machine, and let go of it at the end; a Ray this process already has is used and kept.

    Args:
        cluster: where the work runs.
        preload: modules of vidmill's that the workers import first of all. Ray puts the current folder before everything else on their path,
            where packages of the same name may lie.
        own: modules of the user's that the workers import.
        tell: is told what is waited for.

    Raises:
        Problem: the cluster is open to anyone, cannot be reached, has another code or no node; or Ray does not start here.
    """
    _check_kind(cluster.address)
    check_token(cluster)
    _check_reachable(cluster.address)
    _prepare_environment(cluster)
    import ray  # costs half a second, and a run with nothing to do needs none of it

    ours = not ray.is_initialized()
    try:
        if ours:
            with _signals_kept():
                _start(cluster, preload, own)
        if ours and cluster.address:
            name = f"cluster.address {cluster.address}"
            nodes.await_nodes(name, gpus=cluster.gpus or 0, tell=tell)
            nodes.check_code(name, (*preload, *own))
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


def _start(cluster: ClusterConfig, preload: Sequence[str], own: Sequence[str]) -> None:
    import ray

    local: dict[str, Any] = {
        "num_cpus": cluster.cpus,
        "num_gpus": cluster.gpus,
        "object_store_memory": OBJECT_STORE_BYTES,
        "include_dashboard": False,
        "_system_config": {"preload_python_modules": list(preload), "task_oom_retries": OOM_RETRIES},
    }
    try:
        with tempfile.TemporaryDirectory(prefix="vidmill-") as folder:  # uploaded by the time it goes
            there = {"runtime_env": code.lacking(code.environment(cluster.code, own, Path(folder)))} if cluster.address else {}
            ray.init(address=cluster.address or "local", log_to_driver=False, **(there if cluster.address else local))
    except Problem:
        raise
    except Exception as error:  # Ray says a plain Exception when the machine is too busy to start it in 30 s
        cause = str(error).strip().partition("\n")[0].rstrip(".")
        if cluster.address:
            fix = "start Ray there and, if this is another machine, here too (`ray start --address`), or send the run with `vidmill submit`"
            raise Problem(f"cluster.address {cluster.address}: {cause}; {fix}") from error
        raise NotStarted(f"Ray did not start on this machine: {cause}; when the machine is less busy, run the same command again") from error


def _check_kind(address: str | None) -> None:
    """A driver runs on a node of the cluster: Ray Data does not work through Ray Client, and an http address takes jobs."""
    scheme, rest, _ = (address or "").partition("://")
    if not rest:
        return
    if scheme == "ray":
        cause = "Ray Data does not work over Ray Client"
    elif scheme in JOB_SCHEMES:
        cause = "takes jobs"
    else:
        cause = "is no address of a Ray cluster"
    fix = "run this on a machine of the cluster with HOST:6379 or auto, or use `vidmill submit` with http://HOST:8265"
    raise Problem(f"cluster.address {address}: {cause}; {fix}")


def check_token(cluster: ClusterConfig) -> None:
    """Ray runs what anyone who reaches it sends, unless it asks for a token.

    Raises:
        Problem: the address is another machine's, and no token is asked for.
    """
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
    scheme, found, _ = (address or "").partition("://")
    if found and scheme in JOB_SCHEMES:
        return urlsplit(address or "").hostname or "", ""
    host, _, port = (address or "").rpartition(":")
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
    found = nodes.resources()
    gpus = int(found.get("GPU", 0)) if cluster.gpus is None else cluster.gpus
    return Resources(int(found.get("CPU", 0)), gpus, bool(cluster.address), cluster.gpus)
