"""What several commands share: their arguments, exit codes, and how a target becomes an output or a configuration."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows import config_file
from infra.problem import Problem

if TYPE_CHECKING:
    from infra.settings import RunConfig
    from tasks.record import RunSummary

DONE, INCOMPLETE, USAGE, INTERRUPTED = 0, 1, 2, 3

config_argument = click.argument("config", required=False, type=click.Path(path_type=Path), metavar="[CONFIG.yaml]")
json_option = click.option("--json", "as_json", is_flag=True, help="print the result as JSON")
target_argument = click.argument("target", metavar="OUTPUT|CONFIG.yaml")


def code_of(summary: "RunSummary") -> int:
    """The exit code of a run."""
    return DONE if summary.status in ("done", "nothing to do") else INCOMPLETE


def output_of(target: str) -> str:
    """An output by its own address, or by the configuration that names it."""
    return config_file.load(Path(target), {}).output if target.endswith((".yaml", ".yml")) else target


def config_of(target: str, overrides: dict[str, Any]) -> "RunConfig":
    """A configuration by its file, or the last run's by its output."""
    from tasks.record import last_record

    if target.endswith((".yaml", ".yml")):
        return config_file.load(Path(target), overrides)
    record = last_record(target)
    if record is None:
        raise Problem(f"{target}: no vidmill run is recorded there; check the path, or name the CONFIG.yaml of the run")
    return config_file.amended({**record["config"], "output": target}, overrides, name=f"{target}: run {record['run_id']}")
