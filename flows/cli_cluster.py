"""`vidmill submit`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows import config_file
from flows.arguments import DONE, INTERRUPTED, config_argument, json_option
from flows.console import console_on, print_error, print_json
from flows.options import ConfigCommand, config_options

if TYPE_CHECKING:
    from flows.submit import Submission
    from infra.jobs import Job


@click.command(cls=ConfigCommand)
@config_argument
@click.option("--stop", "action", flag_value="stop", help="stop the job of this configuration and wait for its end")
@click.option("--no-wait", "action", flag_value="leave", help="print the job's id and do not follow it")
@json_option
@config_options
def submit(config: Path | None, action: str | None, as_json: bool, overrides: dict[str, Any]) -> int:
    """Run on an existing Ray cluster, as a job that goes on without this terminal; the same command follows it again."""
    from flows.submit import Submission

    submission = Submission.of(config_file.load(config, overrides))
    if action == "stop":
        stopped = submission.stop()
        print(f"{stopped.id}: {stopped.status.lower()}" if stopped else f"{submission.name}: no such job is running")
        return DONE
    job = submission.begin()
    if action == "leave":
        print(job.id)
        return DONE
    return _followed(submission, job, as_json)


def _followed(submission: "Submission", job: "Job", as_json: bool) -> int:
    from flows.show import print_summary
    from flows.submit import follow

    print(f"job {job.id}: Ctrl-C leaves it alone, the same command follows it again, and with --stop stops it", file=sys.stderr, flush=True)
    try:
        ending = follow(submission, job)
    except KeyboardInterrupt:
        print_error(f"job {job.id} goes on without you; the same command follows it again, and with --stop stops it", sys.stderr)
        return INTERRUPTED
    if ending.summary and as_json:
        print_json(ending.summary, sys.stdout)
    elif ending.summary:
        print_summary(ending.summary, console_on(sys.stdout))
    elif ending.code == INTERRUPTED:
        print_error(f"job {job.id} was stopped; what was finished is kept, submit the same again to go on", sys.stderr)
    return ending.code
