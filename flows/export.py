"""One export from the command line: progress on stderr while it goes on, what it left on stdout.

No flow: it computes nothing, starts no Ray, and a second call goes on where the first one was stopped.
"""

import sys
import time
from collections.abc import Callable
from typing import TypeVar

from rich.console import Console
from rich.text import Text

from flows.console import console_on, counted, one_line, progress
from tasks.export_youtube8m import Export, ExportSummary, export
from tasks.progress import ProgressSnapshot, StageProgress

Summary = TypeVar("Summary")


def export_youtube8m(asked: Export) -> ExportSummary:
    """Export while a person watches; raises as `tasks.export_youtube8m.export`."""
    return watched(lambda show: export(asked, show), "shards")


def watched(exporting: Callable[[Callable[[int, int], None]], Summary], unit: str) -> Summary:
    """Run an export and show how far it is.

    Args:
        exporting: takes what it is to call with the number of units that are done, and of all.
        unit: what is counted.
    """
    started_s, before = time.monotonic(), -1

    with progress(console_on(sys.stderr)) as display:

        def show(done: int, total: int) -> None:
            nonlocal before
            before, elapsed_s = done if before < 0 else before, time.monotonic() - started_s
            per_s = (done - before) / elapsed_s
            stage = StageProgress("export", done, total, unit, 0, per_s)
            display.show(ProgressSnapshot((stage,), done, total, elapsed_s, (total - done) / per_s if per_s else None))

        return exporting(show)


def print_export(summary: ExportSummary, console: Console) -> None:
    """What became what, what lacks, and what comes next."""
    lines = [f"{name:5} <- {table}{_lacking(summary, name)}" for name, table in summary.features.items()]
    lines.append(f"{counted(summary.records, 'record')} in {counted(summary.shards, 'shard')}, {summary.level} level")
    if summary.failed:
        lines.append(f"note: {counted(summary.failed, 'clip')} of the corpus failed and {'is' if summary.failed == 1 else 'are'} no record")
    for line in lines:
        console.print(Text(one_line(line)), soft_wrap=True)
    for problem in summary.problems:
        console.print(Text.assemble(("left: ", "red"), one_line(problem)), soft_wrap=True)
    did = "everything is there already" if summary.status == "nothing to do" else f"{counted(summary.written, 'shard')} written, {_size(summary)}"
    console.print(Text(one_line(f"{summary.status}: {did}, in {summary.to}")), soft_wrap=True)
    if summary.vocabulary:
        console.print(Text(one_line(f"labels: {summary.vocabulary}")), soft_wrap=True)


def _lacking(summary: ExportSummary, name: str) -> str:
    count = summary.lacking[name]
    return f" ({counted(count, 'record')} without)" if count else ""


def _size(summary: ExportSummary) -> str:
    return f"{summary.size_bytes / 1e6:,.1f} MB"
