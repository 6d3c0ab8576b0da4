"""Ray Jobs: a command that an existing cluster runs by itself, found again by its name.

    vidmill-k400-1f0c2ab94d3e-1    ended
    vidmill-k400-1f0c2ab94d3e-2    running      a name and a counter, for Ray refuses an id that was used

Knows Ray's job server, its tokens and its logs; knows nothing of what the command does.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from infra.cluster import JOB_SCHEMES, check_token
from infra.problem import Problem
from infra.settings import ClusterConfig

PATIENCE_S = 60.0  # with a server that does not answer; the job goes on meanwhile
AGAIN_S = 2.0
STOP_S = 90  # a run ends within 30 s; Ray's own patience is 3 s, and then it kills
OVERRIDING = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # the first things Ray's client looks at, whatever address it is given
CHATTY = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk", "ray._private.runtime_env.packaging")


class ServerGone(Problem):
    """The job server does not answer any more; the job may go on."""

    @property
    def passing(self) -> bool:
        """Nothing is wrong with what was asked."""
        return True


@dataclass(frozen=True, slots=True)
class Job:
    """One job as the server knows it."""

    id: str
    status: str  # PENDING RUNNING STOPPED SUCCEEDED FAILED
    exit_code: int | None  # of its command, where that ended by itself
    message: str

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.status in ("STOPPED", "SUCCEEDED", "FAILED")


def jobs_address(cluster: ClusterConfig) -> str:
    """Where jobs are submitted: the configuration's http address, or else the environment's.

    Raises:
        Problem: there is none, or it is open to anyone.
    """
    chosen = cluster.address if (cluster.address or "").startswith(tuple(f"{scheme}://" for scheme in JOB_SCHEMES)) else None
    address = chosen or os.environ.get("RAY_API_SERVER_ADDRESS")
    if not address:
        said = f"cluster.address {cluster.address}: takes no jobs" if cluster.address else "cluster.address: is not given"
        raise Problem(f"{said}; name the cluster's dashboard, --cluster.address http://HOST:8265, or set RAY_API_SERVER_ADDRESS")
    check_token(cluster.model_copy(update={"address": address}))
    return address


class Jobs:
    """The jobs of a cluster."""

    def __init__(self, address: str) -> None:
        """Args: address: of the dashboard, http or https.

        Raises:
            Problem: nothing answers there, or it refuses the token.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        from ray.job_submission import JobSubmissionClient

        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
        self._address = address
        with _only_address(), self._told():
            self._client = JobSubmissionClient(address)

    def of(self, name: str) -> list[Job]:
        """All jobs of that name, oldest first."""
        with self._told():
            found = [_job(details) for details in self._client.list_jobs() if (details.submission_id or "").rpartition("-")[0] == name]
        return sorted(found, key=lambda job: int(job.id.rpartition("-")[2]))

    def job(self, id: str) -> Job:
        """One job."""
        with self._told():
            return _job(self._client.get_job_info(id))

    def begin(self, name: str, command: str, *, environment: Mapping[str, Any], metadata: Mapping[str, str]) -> Job:
        """The job of that name: the running one, or a new one.

        Args:
            name: without the counter.
            command: for the shell, run on the cluster.
            environment: a Ray runtime environment; what it names here is uploaded.
            metadata: shown by Ray beside the job.

        Raises:
            Problem: the server refuses it.
        """
        for _ in range(3):
            known = self.of(name)
            if known and not known[-1].ended:
                return known[-1]
            id = f"{name}-{int(known[-1].id.rpartition('-')[2]) + 1 if known else 1}"
            more = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S)}}
            with self._told():
                try:
                    self._client.submit_job(entrypoint=command, submission_id=id, runtime_env={**environment, **more}, metadata=dict(metadata))
                except RuntimeError as error:
                    if "already exists" not in str(error):  # somebody else's, submitted meanwhile
                        raise
        return self.of(name)[-1]

    def stop(self, id: str) -> Job:
        """Stop a job and wait for its end."""
        with self._told():
            self._client.stop_job(id)
        end_s = time.monotonic() + STOP_S + PATIENCE_S
        while not (job := self.job(id)).ended and time.monotonic() < end_s:
            time.sleep(0.5)
        return job

    def follow(self, id: str, take: Callable[[str], None]) -> Job:
        """Hand on every line that the job writes, from its first one, until it ends.

        Raises:
            ServerGone: the server was silent for a minute.
        """
        seen, heard_s = _Lines(take), time.monotonic()
        while True:
            try:
                asyncio.run(self._tail(id, seen))
                job = _job(self._client.get_job_info(id))
                heard_s = time.monotonic()
                if job.ended:
                    seen.end()
                    return job
            except (OSError, RuntimeError, aiohttp.ClientError) as error:  # requests' errors are OSErrors
                if time.monotonic() - heard_s > PATIENCE_S:
                    raise ServerGone(f"{self._address}: {_first_line(error)}; the job may go on: submit the same again to follow it") from error
            time.sleep(AGAIN_S)
            seen.again()

    async def _tail(self, id: str, seen: "_Lines") -> None:
        async for text in self._client.tail_job_logs(id):
            seen.add(text)

    @contextmanager
    def _told(self) -> Iterator[None]:
        from ray.exceptions import RayError

        try:
            yield
        except (OSError, RuntimeError, RayError) as error:
            raise self._problem(error) from error

    def _problem(self, error: Exception) -> Problem:
        from ray.exceptions import AuthenticationError

        if isinstance(error, AuthenticationError):
            fix = "set RAY_AUTH_MODE=token and the RAY_AUTH_TOKEN of the cluster"
        elif isinstance(error, OSError):
            fix = "start Ray there (`ray start --head`, of an installation with ray[default]), or correct the address"
        else:
            fix = "look at the cluster's dashboard"
        return Problem(f"{self._address}: {_first_line(error)}; {fix}")


class _Lines:
    """Lines of a text that comes in pieces, and may come again from its start."""

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take, self._rest, self._skip, self._length = take, "", 0, 0

    def add(self, text: str) -> None:
        new = text[self._skip :]
        self._skip = max(0, self._skip - len(text))
        self._length += len(new)
        *lines, self._rest = (self._rest + new).split("\n")
        for line in lines:
            self._take(line)

    def again(self) -> None:
        self._skip = self._length

    def end(self) -> None:
        if self._rest:
            self._take(self._rest)


@contextmanager
def _only_address() -> Iterator[None]:
    """The address that was chosen counts, not the environment's."""
    kept = {name: os.environ.pop(name) for name in OVERRIDING if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def _job(details: Any) -> Job:
    return Job(details.submission_id, str(details.status.value), details.driver_exit_code, details.message or "")


def _first_line(error: Exception) -> str:
    lines = [line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
