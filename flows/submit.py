"""A run as a Ray Job: submitted, found again, followed, stopped.

    configuration -> name of the job -> running?  yes: follow it
                                                  no: a new one -> follow it -> its summary and exit code

What is not running can be submitted again; what is running is found by the same configuration from anywhere.
"""

import hashlib
import json
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from flows.arguments import DONE, INCOMPLETE, INTERRUPTED, USAGE
from flows.console import one_line
from flows.job import RESULT
from infra import code
from infra.jobs import Job, Jobs, jobs_address
from infra.problem import Problem
from infra.secret import Secrets
from infra.settings import RunConfig
from tasks.record import RunSummary, from_anywhere

COMMAND: Final = "exec python -P -m flows.job run.json"
NAME_CHARACTERS: Final = 40


@dataclass(frozen=True, slots=True)
class Submission:
    """A configuration as a job of a cluster."""

    config: RunConfig  # as it runs there
    name: str  # of the job, without its counter
    jobs: Jobs

    @classmethod
    def of(cls, config: RunConfig) -> "Submission":
        """The job that this configuration is, on the cluster it names.

        Raises:
            Problem: no cluster is named, or it cannot be reached.
        """
        address = jobs_address(config.cluster)
        there = _on_the_cluster(config)
        return cls(there, job_name(there), Jobs(address))

    def begin(self) -> Job:
        """The running job, or a new one.

        Raises:
            Problem: the cluster refuses it.
        """
        own = [model.factory.partition(":")[0] for model in self.config.models if model.factory]
        metadata = {"name": self.config.name, "output": self.config.output}
        with tempfile.TemporaryDirectory(prefix="vidmill-") as folder:
            (Path(folder) / "run.json").write_text(self.config.model_dump_json(indent=2), encoding="utf-8")
            environment = code.environment(self.config.cluster.code, own, Path(folder))
            return self.jobs.begin(self.name, COMMAND, environment=environment, metadata=metadata)

    def stop(self) -> Job | None:
        """Stop the running job and wait for its end; None where none runs."""
        known = self.jobs.of(self.name)
        return self.jobs.stop(known[-1].id) if known and not known[-1].ended else None


def job_name(config: RunConfig) -> str:
    """The same for the same work: its name, and 12 hex digits of everything it was asked."""
    asked = config.model_dump(mode="json", exclude={"cluster"})
    name = re.sub(r"[^A-Za-z0-9]+", "-", config.name).strip("-")[:NAME_CHARACTERS]
    return f"vidmill-{name or 'run'}-{hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]}"


def _on_the_cluster(config: RunConfig) -> RunConfig:
    """As the job gets it: every address from anywhere, the cluster the one it runs on, which was found safe from here."""
    values = from_anywhere(config)
    return RunConfig.model_validate({**values, "cluster": {**values["cluster"], "address": "auto", "insecure": True}})


@dataclass(slots=True)
class Listener:
    """Takes a job's lines: progress goes to stderr, the result is kept."""

    secrets: Secrets
    result: dict[str, Any] | None = None

    def __call__(self, line: str) -> None:
        """Take one line."""
        if line.startswith(RESULT):
            self.result = json.loads(line.removeprefix(RESULT))
        else:
            print(one_line(self.secrets.redact(line.expandtabs())), file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended, as its exit code and, where it came to one, its summary."""

    code: int
    summary: RunSummary | None


def follow(submission: Submission, job: Job) -> Ending:
    """Show what a job writes until it ends.

    Raises:
        Problem: the cluster ended it; it says why.
        ServerGone: the cluster does not answer any more.
    """
    listener = Listener(Secrets())
    ended = submission.jobs.follow(job.id, listener)
    summary = TypeAdapter(RunSummary).validate_python(listener.result) if listener.result else None
    if ended.status == "STOPPED":
        return Ending(INTERRUPTED, None)
    if ended.status == "SUCCEEDED":
        return Ending(DONE, summary)
    if ended.exit_code in (INCOMPLETE, USAGE, INTERRUPTED):
        return Ending(ended.exit_code, summary)
    raise JobFailed(f"job {ended.id}: {_cause(ended)}; look at its log above, then submit the same again")


class JobFailed(Problem):
    """The command did not come to its end; what is finished is kept."""

    @property
    def passing(self) -> bool:
        """The same command goes on with what is left."""
        return True


def _cause(job: Job) -> str:
    lines = [line for line in job.message.splitlines() if line.strip()]
    return one_line(lines[0]).rstrip(".:") if lines else f"ended with {job.exit_code}"
