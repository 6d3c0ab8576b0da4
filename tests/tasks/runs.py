"""Whole runs in this process, stage after stage as the pipeline chains them, with small networks and without Ray."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from flows.preflight import backfill_plan
from infra import storage
from infra.backfill import BackfillConfig
from infra.settings import LimitsConfig, RunConfig, SourceKind
from models.recipe import Recipe
from tasks.deleted import drop_shards
from tasks.encoded import Failure, Outcome
from tasks.enhance_workers import EnhanceWorker, read_clips
from tasks.feature import model_specs, tagger_specs
from tasks.isolate import Decoder
from tasks.labels import Labels, read_labels
from tasks.leftovers import delete_published_staging
from tasks.membership import note_members
from tasks.plan import RunPlan, enhancement, from_embeddings, from_source, manifest_columns, overlay_work, plan_run
from tasks.publish import PublishContext, publish_shard
from tasks.record import RunSummary, Status, new_run_id, summarize, write_record
from tasks.select import Selection, selection_of
from tasks.source import LOOSE
from tasks.tag_workers import TagWorker, read_stored
from tasks.tally import Tally
from tasks.verify import altered_files
from tasks.workers import ClipWorker, RecordWorker, read_parcels
from tests.corpus import config_for
from tests.tasks.networks import entry
from tests.tasks.restorers import brighteners


def GUARD() -> None:  # noqa: N802 (a test puts its own there)
    """Nobody takes the output over."""


def settings(folder: Path, source: dict[str, Any], **more: Any) -> RunConfig:
    """A run with the small networks into `folder/out`."""
    own = [entry(folder), entry(folder, "Picky")]
    return config_for(source, more.pop("output", folder / "out"), **{"embed": ["grey"], "tag": [], "models": own, **more})


def run(config: RunConfig, *, select: Sequence[str] = ()) -> RunSummary:
    """Plan, compute, publish, report; a retry where something is selected."""
    selection = selection_of(select) if select else None
    for uri in altered_files(config.output, selection) if selection and selection.takes_altered() else ():
        storage.delete(uri)
    return _carried_out(planned(config, selection))


def backfill(config: RunConfig, *, select: Sequence[str] = (), **more: Any) -> RunSummary:
    """Add the named features to the output of that run, as `vidmill backfill` does.

    Args:
        config: whose output it is.
        select: clips.
        more: what is added: embed, tag, enhance; models.
    """
    return backfilled(BackfillConfig.model_validate({"output": config.output, "select": [*select], **more}))


def backfilled(asked: BackfillConfig) -> RunSummary:
    """Plan a backfill, compute, publish, report."""
    with patch.object(Recipe, "check"):
        plan = backfill_plan(asked)
    return _carried_out(plan)


def _carried_out(plan: RunPlan) -> RunSummary:
    config, run_id, tally = plan.config, new_run_id(), Tally()
    delete_published_staging(plan)
    if plan.dropped:
        write_record(plan, run_id, "running")
        drop_shards(config.output, plan.dropped, GUARD)
    if config.source.kind in LOOSE and plan.work and plan.base is None:
        note_members(config.output, plan.corpus)
    labels = read_labels(plan.corpus, manifest_columns(config))
    first = from_source(plan)
    _carry_through(first, _context(first, labels, run_id), tally, read_parcels, _worker)
    second, tagging = from_embeddings(plan), Tally()
    _carry_through(second, _context(second, labels, run_id), tagging, read_stored, _tag_worker)
    third, enhancing = enhancement(plan), Tally()
    _carry_through(third, _context(third, labels, run_id), enhancing, read_clips, _enhance_worker)
    tally = tally.joined(tagging=tagging, enhancement=enhancing)
    acts = bool(plan.work or plan.dropped)
    status: Status = "work left" if tally.problems else "done" if acts else "nothing to do"
    summary = summarize(plan, run_id, status, tally, tally.problems, 1.0)
    if acts:
        write_record(plan, run_id, summary.status, summary)
    return summary


def planned(config: RunConfig, selection: Selection | None = None) -> RunPlan:
    """The plan of a run whose recipes are stand-ins, so that nobody looks for their weights."""
    with patch.object(Recipe, "check"):
        return plan_run(config, selection)


def _context(plan: RunPlan, labels: Labels, run_id: str) -> PublishContext:
    return PublishContext(plan.config.output, run_id, plan.corpus.identity, labels, plan.labels_etags, overlay_work(plan), GUARD)


def _carry_through(
    plan: RunPlan, context: PublishContext, tally: Tally, read: Callable[..., Iterator[Any]], worker_of: Callable[..., Callable[[Any], Outcome]]
) -> None:
    """One part of a run."""
    worker = worker_of(plan.config, context.run_id) if plan.work else None
    for work in ([context.replacements] if context.replacements else []) + list(plan.work):
        assert worker is not None
        for parcel in read(work, plan.config):
            if tally.add(worker(parcel)) and work is not context.replacements:
                tally.published.append(publish_shard(context, work))


def _tag_worker(config: RunConfig, run_id: str) -> TagWorker:
    return TagWorker(config, tagger_specs(config), run_id, "")


def _enhance_worker(config: RunConfig, run_id: str) -> EnhanceWorker:
    return EnhanceWorker(config, run_id, "", tools_of=brighteners)


def _worker(config: RunConfig, run_id: str) -> ClipWorker | RecordWorker:
    """A worker whose decoder process is that of all runs of these limits; it takes longer to start than these clips to decode."""
    if config.source.kind is SourceKind.YOUTUBE8M:
        return RecordWorker(config, run_id, "")
    worker = ClipWorker(config, model_specs(config), run_id, "")
    worker.decoder.decoder = _decoder(config.limits)
    return worker


@cache
def _decoder(limits: LimitsConfig) -> Decoder:
    return Decoder(limits)


def failures_told(failures: list[Failure]) -> list[tuple[str | None, str, str]]:
    """Clip, stage and kind."""
    return [(failure.clip_id, failure.stage, str(failure.kind)) for failure in failures]
