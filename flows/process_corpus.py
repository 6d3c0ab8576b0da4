"""process-corpus: from a corpus to Parquet and restored videos; what is missing is computed, what is there is left alone.

    plan -> lease -> drop -> process: decode, infer -> process: tag -> process: enhance -> report

Runs as a Prefect flow, with a server or a temporary one, and as the plain function `process_corpus.fn` without any.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Literal

from prefect import flow
from prefect.exceptions import TerminationSignal
from prefect.runtime import task_run

from flows.artifacts import show_summary
from flows.crash import is_loss, root_of
from flows.deployed import turn, under_prefect
from flows.preflight import checked_plan
from flows.step import in_flow_run, step
from flows.watch import Watch, chosen_run_id, note, note_summary
from infra.cluster import Resources, ray_session
from infra.lease import Lease
from infra.problem import Problem
from infra.settings import RunConfig, SourceKind
from infra.storage import StorageError, normal
from tasks.backfill import replanned
from tasks.deleted import drop_shards
from tasks.labels import read_labels
from tasks.leftovers import delete_leftovers, delete_published_staging
from tasks.membership import note_members
from tasks.plan import RunPlan, enhancement, from_embeddings, from_source, manifest_columns, overlay_work, staged_in_vain
from tasks.publish import PublishContext
from tasks.published import FAILURES_FOLDER, index_files
from tasks.record import CorpusCoverage, RunSummary, Status, is_news, summarize, write_record
from tasks.report import write_report
from tasks.select import Selection
from tasks.source import LOOSE
from tasks.tally import Tally

Work = Literal["decode, infer", "tag", "enhance"]  # what the stage between reading and publishing does

RETRIES = 2
RETRY_DELAY_S = 10


class RunIncomplete(Exception):
    """Work is left, or more clips failed than allowed; the summary says what and why."""

    def __init__(self, summary: RunSummary) -> None:
        super().__init__(f"{summary.name}: {summary.status}: {'; '.join(summary.problems)}")
        self.summary = summary

    @property
    def passing(self) -> bool:
        """Whether another run may mend it: of what is left, but not of clips that failed."""
        return self.summary.status != "too many failures"


@dataclass(frozen=True, slots=True)
class Processed:
    """What processing came to."""

    status: Status
    tally: Tally
    problems: tuple[str, ...]
    stopped: bool = False  # before its end
    loss: Exception | None = None  # what it was stopped by, where that was the loss of a node


IDLE = Processed("nothing to do", Tally(), ())


@flow(name="process-corpus", flow_run_name="{config.name}")
def process_corpus(config: RunConfig) -> RunSummary:
    """Compute every feature that the corpus lacks and publish it.

    Raises:
        Problem: the configuration, the source or the output is not usable; nothing was done.
        RunIncomplete: shards are left, or `limits.max_failed` was exceeded; run again to go on.
    """
    return work_through(config)


def work_through(config: RunConfig) -> RunSummary:
    """Plan, process and report; raises as `process_corpus`."""
    started_s = time.monotonic()
    with under_prefect(config.output):
        plan = plan_corpus(config)
        run_id = chosen_run_id()
        if not plan.work and not plan.dropped and not staged_in_vain(plan):
            summary = report(plan, run_id, IDLE, started_s)
            if not is_news(plan, summary):
                return complete(summary)
        with turn(config.output, run_id=run_id) as held:
            if plan.dropped or held.waited:
                plan = plan_corpus(config)  # what is dropped now was gone twice; and another run may have ended just before
            delete_published_staging(plan)
            return complete(carry_out(plan, run_id, held, started_s))


def carry_out(plan: RunPlan, run_id: str, held: Lease, started_s: float) -> RunSummary:
    """Do what is planned and report it."""
    for notice in held.notices:
        note(notice)
    plan = replace(plan, published=None)  # as it was before; and 10^5 shards take their space
    with _recorded(plan, run_id):
        _sweep(plan.config.output)
        if plan.dropped:
            drop_deleted(plan, held)
        processed = process_shards(plan, run_id, held) if plan.work else replace(IDLE, status="done" if plan.dropped else IDLE.status)
        try:
            for folder in (FAILURES_FOLDER, *(feature.folder for feature in plan.features)):
                index_files(plan.config.output, folder)
            summary = report(plan, run_id, processed, started_s)
            summary = replace(summary, notices=(*held.notices, *summary.notices))
            if summary.enhanced:
                summary = _pictured(summary, plan, run_id)
            write_record(plan, run_id, summary.status, summary)
        except StorageError as error:
            summary = _unreported(plan, run_id, processed, error, time.monotonic() - started_s)
            with suppress(StorageError):
                write_record(plan, run_id, summary.status, summary)
    return summary


@step(name="drop")
def drop_deleted(plan: RunPlan, held: Lease) -> None:
    """Delete what the output holds of inputs that are gone.

    Raises:
        LeaseLost: another run took the output over.
    """
    drop_shards(plan.config.output, plan.dropped, held.confirm)


def _pictured(summary: RunSummary, plan: RunPlan, run_id: str) -> RunSummary:
    """With a page of before and after; a table that cannot be read is a matter of `verify`, not of this run."""
    try:
        return replace(summary, report=picture_report(plan, run_id))
    except Problem as problem:
        return replace(summary, notices=(*summary.notices, f"no page of before and after: {problem}"))


def _unreported(plan: RunPlan, run_id: str, processed: Processed, error: StorageError, elapsed_s: float) -> RunSummary:
    """Of an output that cannot be read now; what was published is there, the next run finds out what is left."""
    return RunSummary(
        run_id=run_id, name=plan.config.name, output=plan.config.output, status="work left", shards=len(plan.corpus.shards),
        shards_published=len(processed.tally.published), clips=processed.tally.clips, features=(), failures=(),
        coverage=CorpusCoverage(0, 0, 0, 0, 0, 0), problems=(*processed.problems, str(error)), elapsed_s=elapsed_s,
    )  # fmt: skip


def _sweep(output: str) -> None:
    """Leftovers only take space; a store that does not list them is no obstacle."""
    try:
        found = delete_leftovers(output)
    except StorageError as error:
        logging.getLogger(__name__).info("what killed runs left stays: %s", error)
    else:
        logging.getLogger(__name__).info("%d leftovers of killed runs deleted", found)


@contextmanager
def _recorded(plan: RunPlan, run_id: str) -> Iterator[None]:
    """The record says how a run ended also when it does not come to its report."""
    write_record(plan, run_id, "running")
    try:
        yield
    except (KeyboardInterrupt, TerminationSignal):
        with suppress(StorageError):
            write_record(plan, run_id, "interrupted")
        raise
    except Exception:
        with suppress(StorageError):
            write_record(plan, run_id, "work left")
        raise


def complete(summary: RunSummary) -> RunSummary:
    """The summary of a run that did all it had to; raises RunIncomplete for any other."""
    note_summary(summary)
    show_summary(summary)
    if summary.status not in ("done", "nothing to do"):
        raise RunIncomplete(summary)
    return summary


@step(name="plan")
def plan_corpus(config: RunConfig, selection: Selection | None = None) -> RunPlan:
    """What is missing, or what a retry selects; opens no media, writes nothing."""
    return checked_plan(config, selection)


def _may_pass(task: object, run: object, state: object) -> bool:
    """Whether another try can help: a usage error stays one."""
    result = getattr(state, "result", lambda **_: None)(raise_on_failure=False)
    return not isinstance(result, Problem)


@step(name="process", retries=RETRIES, retry_delay_seconds=RETRY_DELAY_S, retry_condition_fn=_may_pass)
def process_shards(plan: RunPlan, run_id: str, held: Lease) -> Processed:
    """Compute and publish what the plan lacks; a retry plans anew, so it does only what is left.

    Raises:
        LeaseLost: another run took the output over.
    """
    if in_flow_run() and task_run.run_count > 1:
        plan = replanned(plan)
    plan = replace(plan, config=plan.config.model_copy(update={"output": normal(plan.config.output)}))  # workers may stand in another folder
    if plan.config.source.kind in LOOSE and plan.base is None:  # a backfill knows only videos that are published
        note_members(plan.config.output, plan.corpus)
    own = [model.factory.partition(":")[0] for model in plan.config.models if model.factory]
    with ray_session(plan.config.cluster, preload=("tasks.workers",), own=own, tell=note) as found:
        earlier = Tally()
        while (processed := _in_parts(plan, run_id, held, found)).loss:
            if not (processed.tally.clips or processed.tally.published):
                raise processed.loss  # nothing came of it, and nothing will
            note(f"the loss of a node ended Ray's work ({type(root_of(processed.loss)).__name__}); going on with what is left")
            earlier, plan = processed.tally.after(earlier), replanned(plan)
    return replace(processed, tally=processed.tally.after(earlier))


def _in_parts(plan: RunPlan, run_id: str, held: Lease, found: Resources) -> Processed:
    """What a plan lacks, part after part; a part may be given up for the loss of a node."""
    first = _carried_through(from_source(plan), "decode, infer", run_id, held, found)
    if first.stopped:
        return first
    second = _of_published(plan, from_embeddings, "tag", run_id, held, found)
    third = Processed("done", Tally(), ()) if second.stopped else _of_published(plan, enhancement, "enhance", run_id, held, found)
    parts = (first, second, third)
    status: Status = next((part.status for part in reversed(parts) if part.status != "done"), "done")
    tally = first.tally.joined(tagging=second.tally, enhancement=third.tally)
    loss = next((part.loss for part in parts if part.loss), None)
    return Processed(status, tally, tuple(problem for part in parts for problem in part.problems), loss=loss)


def _of_published(plan: RunPlan, part: Callable[[RunPlan], RunPlan], work: Work, run_id: str, held: Lease, found: Resources) -> Processed:
    """A part of a plan that is planned anew, from what is published by then."""
    try:
        return _carried_through(part(plan), work, run_id, held, found)
    except StorageError as error:  # what is published cannot be read now
        return Processed("work left", Tally(), (str(error),))


def _carried_through(plan: RunPlan, work: Work, run_id: str, held: Lease, found: Resources) -> Processed:
    """One part of a plan."""
    from tasks.pipeline import Run, TooManyFailures, enhance, process, tag  # brings Ray Data, which a run with nothing to do need not load

    if not plan.work:
        return Processed("done", Tally(), ())
    parses = work == "decode, infer" and plan.config.source.kind is SourceKind.YOUTUBE8M  # records bring their features
    watch, seen = Watch(plan, "parse" if parses else work), Tally()

    def counted(tally: Tally) -> None:
        nonlocal seen
        seen = tally
        held.check()
        watch.tally(tally)

    labels = read_labels(plan.corpus, manifest_columns(plan.config))
    context = PublishContext(plan.config.output, run_id, plan.corpus.identity, labels, plan.labels_etags, overlay_work(plan), held.confirm)
    run = Run(plan.config, context, plan.work, counted, watch.failure)
    try:
        tally = {"decode, infer": process, "tag": tag, "enhance": enhance}[work](run, found)
    except TooManyFailures as error:
        return Processed("too many failures", error.tally, (str(error), *error.tally.problems), stopped=True)
    except Exception as error:
        if isinstance(root := root_of(error), StorageError):  # what a worker could not stage; the rest is staged or published
            return Processed("work left", seen, (*seen.problems, str(root)), stopped=True)
        if found.elastic and is_loss(root):
            return Processed("work left", seen, (), stopped=True, loss=error)
        raise
    return Processed("work left" if tally.problems else "done", tally, tuple(tally.problems))


@step(name="report")
def report(plan: RunPlan, run_id: str, processed: Processed, started_s: float) -> RunSummary:
    """What the output holds now, from what is published."""
    summary = summarize(plan, run_id, processed.status, processed.tally, processed.problems, time.monotonic() - started_s)
    if not summary.coverage.present:
        summary = _without_clips(summary, plan)
    return summary


@step(name="picture report")
def picture_report(plan: RunPlan, run_id: str) -> str:
    """A page of before and after, from what is published; its address."""
    return write_report(plan.config.output, run_id, plan.config.name, plan.features, [shard.name for shard in plan.corpus.shards])


def _without_clips(summary: RunSummary, plan: RunPlan) -> RunSummary:
    """A corpus without clips is no success, however well it was read."""
    config, ignored = plan.config, summary.coverage.ignored
    reason = (
        f"source.uri {config.source.uri}: no clip in {summary.shards} shards, {ignored} other files ignored; "
        f"check source.uri, or source.kind, which is {config.source.kind}"
    )
    return replace(summary, status="work left", problems=(*summary.problems, reason))
