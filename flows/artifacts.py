"""What a run shows on its page of Prefect.

    progress-<output>    percent of the work under way, and below it a row per stage; rewritten while the run goes on
    outcome-<output>     a row per feature: shards, rows, failures
    failures-<output>    a row per kind: how many, an example, the command that repeats it
    record-<output>      where the run's record lies

Every run on an output uses the same keys, so that Prefect shows their history. A server that is slow or gone changes nothing of the run.
"""

import hashlib
import logging
import re
import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows.console import Progress, counted, one_line, stage_cells
from flows.step import in_flow_run
from flows.watch import WATCHER
from infra import storage
from infra.secret import Secrets
from tasks.outcome import FailureGroup
from tasks.progress import Snapshot, TrainingProgress
from tasks.record import RunSummary, record_uri

PROGRESS_EVERY_S = 5.0
LAST_WORD_S = 10.0  # for the last progress of a run, before its page is left as it is
ALMOST = 99.0  # percent, while something is still to be published
NAME_LETTERS = 40  # of a key; the digest tells outputs apart whose names agree

log = logging.getLogger("vidmill")


def key_of(kind: str, output: str) -> str:
    """A key as Prefect wants it, of lower-case letters, digits and dashes: `outcome-k400-1f0c9a2e`."""
    address = storage.normal(output)
    name = re.sub(r"[^a-z0-9]+", "-", address.rpartition("/")[2].lower())[:NAME_LETTERS].strip("-")
    return "-".join(part for part in (kind, name, hashlib.sha256(address.encode()).hexdigest()[:8]) if part)


def show_summary(summary: RunSummary) -> None:
    """Outcome, failures and record of a run that has ended, where Prefect watches."""
    if not in_flow_run():
        return
    try:
        _outcome(summary)
        _failures(summary)
        if summary.status != "nothing to do":
            _record(summary)
    except Exception:  # httpx's, Prefect's, and whatever lies below
        log.exception("the Prefect server was not told the outcome")


@contextmanager
def shown_progress(output: str) -> Iterator[None]:
    """Show on Prefect's page how far the run inside the block has come; whoever watched before goes on doing so."""
    if not in_flow_run():
        yield
        return
    page = PageProgress(WATCHER.get(), key_of("progress", output))
    token = WATCHER.set(page)
    thread = threading.Thread(target=copy_context().run, args=(page.keep_telling,), name="vidmill-page", daemon=True)
    thread.start()
    try:
        yield
    finally:
        WATCHER.reset(token)
        page.over.set()
        thread.join(LAST_WORD_S)


class PageProgress:
    """Hands everything on to another watcher, and the newest snapshot every few seconds to Prefect's page."""

    def __init__(self, inner: Progress, key: str) -> None:
        self.over = threading.Event()
        self._inner, self._key = inner, key
        self._newest: Snapshot | None = None
        self._told: Snapshot | None = None
        self._artifact: UUID | None = None
        self._reachable = True

    def show(self, snapshot: Snapshot) -> None:
        """Keep it for the page; no request is made here."""
        self._newest = snapshot
        self._inner.show(snapshot)

    def failure(self, text: str) -> None:
        """The page counts failures when the run is over."""
        self._inner.failure(text)

    def note(self, text: str) -> None:
        """The page has the log."""
        self._inner.note(text)

    def keep_telling(self) -> None:
        """Tell the server until the run is over, and once more then."""
        while not self.over.wait(PROGRESS_EVERY_S):
            self._tell()
        self._tell()

    def _tell(self) -> None:
        newest = self._newest
        if newest is None or newest is self._told:
            return
        try:
            self._send(percent_of(newest), _described(newest))
            self._told, self._reachable = newest, True
        except Exception as error:  # httpx's, Prefect's, and whatever lies below
            if self._reachable:
                log.warning("the Prefect server is not told how far the run is: %s", error)
            self._reachable = False

    def _send(self, percent: float, description: str) -> None:
        if self._artifact is None:
            self._artifact = cast(UUID, create_progress_artifact(percent, key=self._key, description=description))
        else:
            update_progress_artifact(self._artifact, percent, description=description)


def percent_of(snapshot: Snapshot) -> float:
    """Percent of the work under way: by clips as soon as their number is known, until then by archives; 100 when all is published."""
    if isinstance(snapshot, TrainingProgress):
        return 100.0 * snapshot.step / max(snapshot.steps, 1)
    *before, publish = snapshot.stages
    if publish.done == publish.total:
        return 100.0
    furthest = next((stage for stage in reversed(before) if stage.total), None)
    return min(ALMOST, 100.0 * furthest.done / (furthest.total or 1)) if furthest else 0.0


def _described(snapshot: Snapshot) -> str:
    """A row per stage, as the terminal has it."""
    if isinstance(snapshot, TrainingProgress):
        return f"step {snapshot.step:,} of {snapshot.steps:,}"
    heading = "| stage | done | speed | failed | waiting for |\n| --- | ---: | ---: | ---: | --- |"
    return "\n".join([heading, *(f"| {' | '.join(stage_cells(stage))} |" for stage in snapshot.stages)])


def _outcome(summary: RunSummary) -> None:
    rows = [{"feature": found.feature, "shards": found.files, "rows": found.rows, "failed": found.failed} for found in summary.features]
    said = f"{summary.status}: {summary.clips:,} clips in {summary.elapsed_s:.0f} s, run {summary.run_id}"
    problems = [f"- {_text(problem)}" for problem in summary.problems]
    create_table_artifact(rows, key=key_of("outcome", summary.output), description="\n".join([said, *problems]))


def _failures(summary: RunSummary) -> None:
    """Also of a run without any, or an earlier run's would go on being shown as the newest."""
    rows = [_failure_row(group, summary.output) for group in summary.failures]
    said = f"{counted(sum(group.count for group in summary.failures), 'failure')} in {_text(storage.normal(summary.output))}, by kind"
    create_table_artifact(rows, key=key_of("failures", summary.output), description=said)


def _failure_row(group: FailureGroup, output: str) -> dict[str, Any]:
    selector = next(iter(group.selectors), f"kind:{group.kind}")
    example = next(iter(group.examples), "")
    again = f"vidmill retry {shlex.quote(storage.normal(output))} --select {shlex.quote(selector)}"
    return {"kind": group.kind, "failures": group.count, "again": _text(again), "example": _text(example)}


def _record(summary: RunSummary) -> None:
    uri, key = record_uri(storage.normal(summary.output), summary.run_id), key_of("record", summary.output)
    said = f"What run {summary.run_id} was asked, what it did and what it left."
    if "://" in uri:
        create_link_artifact(uri, key=key, link_text=uri, description=said)
    else:
        create_markdown_artifact(f"{said}\n\n    {uri}\n", key=key, description="the run's record")


def _text(text: str) -> str:
    """Names of files and members are a stranger's bytes, and what a store says may hold a secret."""
    return one_line(Secrets().redact(text))
