"""What `vidmill status` prints: features by shards done, each shard where they are few, failures by kind. And what `vidmill prune` does.

Each view is plain data, so `--json` prints the same thing.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.console import counted, one_line, print_failures
from flows.show import print_deleted, shown_size
from infra.problem import Problem
from tasks.coverage import Cell, FeatureCoverage, coverage
from tasks.deleted import DeletedInputs
from tasks.failure_groups import joined_groups
from tasks.outcome import FailureGroup
from tasks.prune import Pruning
from tasks.published import FAILURES_FOLDER, known_files
from tasks.record import last_record
from tasks.versions import versions_of

FEW_SHARDS = 20  # that are shown one by one without being asked for


@dataclass(frozen=True, slots=True)
class OutputView:
    """What an output holds."""

    output: str
    run_id: str
    status: str
    shards: int
    features: tuple[FeatureCoverage, ...]
    failures: tuple[FailureGroup, ...]
    deleted: DeletedInputs = field(default_factory=DeletedInputs)  # as the last run that ended found

    @classmethod
    def of(cls, output: str, *, by_shard: bool) -> "OutputView":
        """Read the state of an output, where there are many shards without each of them unless `by_shard`.

        Raises:
            Problem: no run is recorded there.
        """
        record = last_record(output)
        if record is None:
            raise Problem(f"{output}: no vidmill run is recorded there; check the path, or run `vidmill run` first")
        shards = record["shards"]
        failures = known_files(output, FAILURES_FOLDER, frozenset(shards))
        found = coverage(output, versions_of(output, record), shards, {shard: known.footer.empty for shard, known in failures.items()})
        if not by_shard and len(shards) > FEW_SHARDS:
            found = [replace(feature, by_shard=None) for feature in found]
        groups = joined_groups(group for known in failures.values() for group in known.groups)
        deleted = DeletedInputs(**(record["summary"] or {}).get("deleted", {}))
        return cls(output, record["run_id"], record["status"], len(shards), tuple(found), groups, deleted)


def print_output(view: OutputView, console: Console) -> None:
    """Features by shards done, failures by kind."""
    console.print(Text(f"{view.output}: last run {view.run_id}, {view.status}, {counted(view.shards, 'shard')}"), soft_wrap=True)
    marks = [chr(ord("a") + number) if number < 26 else str(number) for number in range(len(view.features))]
    console.print(_matrix(view.features, marks))
    if any(feature.by_shard for feature in view.features):
        console.print(_by_shard(view.features, marks))
    print_failures(view.failures, console, output=view.output)
    print_deleted(view.deleted, console)
    for line in _remarks(view):
        console.print(Text(line), soft_wrap=True)
    console.print(Text(f"next: vidmill verify {shlex.quote(view.output)}"), soft_wrap=True)


def _matrix(features: Sequence[FeatureCoverage], marks: Sequence[str]) -> Table:
    table = _table("", "feature", "", *("done", "partial", "missing", "rows", "failed", "covered"))
    for mark, feature in zip(marks, features, strict=True):
        counts = (feature.done, feature.partial, feature.missing, feature.rows, feature.failed)
        shown = ("-" if count is None else f"{count:,}" for count in counts)
        percent = "-" if feature.percent is None else f"{feature.percent:.1f} %"
        table.add_row(mark, Text(one_line(feature.label)), "" if feature.state == "current" else feature.state, *shown, percent)
    return table


def _by_shard(features: Sequence[FeatureCoverage], marks: Sequence[str]) -> Table:
    shown = [(mark, feature.by_shard) for mark, feature in zip(marks, features, strict=True) if feature.by_shard]
    table = _table("shard", *(mark for mark, _ in shown))
    for shard in shown[0][1]:
        table.add_row(Text(one_line(shard)), *(_cell(cells[shard]) for _, cells in shown))
    return table


def _cell(cell: Cell) -> str:
    if cell.state == "missing":
        return "-"
    return (
        f"{cell.rows + cell.failed:,}" if cell.state == "done" else f"{cell.rows + cell.failed:,}/{'?' if cell.clips is None else f'{cell.clips:,}'}"
    )


def _remarks(view: OutputView) -> list[str]:
    states = {feature.state for feature in view.features}
    old = f"old: another version of the model is current; `vidmill prune {shlex.quote(view.output)}` lists what may go"
    return ["other: the last run did not ask for it"] * ("other" in states) + [old] * ("old" in states)


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("", "feature", "shard") else "right", overflow="fold")
    return table


def print_pruning(pruning: Pruning, console: Console, *, deleted: bool) -> None:
    """What went or may go, what stays and why."""
    for version in pruning.old:
        size = f"{counted(version.files, 'file')}, {shown_size(version.size_bytes)}"
        console.print(Text(f"{'deleted' if deleted else 'old'}: {one_line(version.label)} ({size}): {one_line(version.why)}"), soft_wrap=True)
    for kept in pruning.kept:
        console.print(Text(f"kept: {one_line(kept.label)}: {one_line(kept.why)}"), soft_wrap=True)
    files, size_bytes = sum(version.files for version in pruning.old), sum(version.size_bytes for version in pruning.old)
    total = f"{counted(len(pruning.old), 'old version')}, {counted(files, 'file')}, {shown_size(size_bytes)}"
    console.print(f"{total} {'deleted' if deleted else 'may go; nothing was deleted'}" if pruning.old else "nothing to prune")
    told = f"prune {shlex.quote(pruning.output)} --yes" if pruning.old and not deleted else f"status {shlex.quote(pruning.output)}"
    console.print(Text(f"next: vidmill {told}"), soft_wrap=True)
