"""What commands print: plans, summaries, verifications, models.

Each view is plain data, so `--json` prints the same thing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.console import counted, one_line, print_failures, print_outcome
from infra.problem import Problem
from models import weights
from models.catalog import built_in
from models.restorer_spec import RestorerSpec
from models.restorers import shipped
from models.spec import ModelSpec, NetworkSpec
from tasks.deleted import DeletedInputs
from tasks.plan import RunPlan
from tasks.record import CorpusCoverage, RunSummary
from tasks.shardwork import ShardWork
from tasks.verify import Verification

SHOWN = 10  # shards named in a plan


@dataclass(frozen=True, slots=True)
class WorkView:
    """One shard with work."""

    shard: str
    size_bytes: int
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlanView:
    """A plan, in numbers and names."""

    name: str
    corpus: str
    output: str
    shards: int
    done_shards: int
    size_bytes: int
    work: tuple[WorkView, ...]
    deleted: DeletedInputs = field(default_factory=DeletedInputs)

    @classmethod
    def of(cls, plan: RunPlan) -> "PlanView":
        """View of a plan."""
        work = tuple(WorkView(item.shard.name, _to_read(item), tuple(f.label for f in item.features)) for item in plan.work)
        size_bytes = sum(item.size_bytes for item in work)
        shards = len(plan.corpus.shards)
        return cls(plan.config.name, plan.corpus.identity, plan.config.output, shards, plan.done_shards, size_bytes, work, plan.deleted)


def _to_read(work: ShardWork) -> int:
    """Bytes of the source; what is made from stored embeddings reads none."""
    return 0 if all(feature.inputs for feature in work.features) else work.shard.size_bytes


def print_plan(view: PlanView, console: Console, command: str) -> None:
    """What is done, what is left, and the command that does it."""
    console.print(Text(f"{view.corpus} -> {view.output}"), soft_wrap=True)
    console.print(f"{counted(view.shards, 'shard')}, {view.done_shards:,} done, {len(view.work):,} to do ({shown_size(view.size_bytes)} to read)")
    for item in view.work[:SHOWN]:
        console.print(Text(f"  {one_line(item.shard)} ({shown_size(item.size_bytes)}): {', '.join(item.features)}"), soft_wrap=True)
    if len(view.work) > SHOWN:
        console.print(f"  and {len(view.work) - SHOWN:,} more")
    print_deleted(view.deleted, console)
    console.print(Text(f"next: {command}" if view.work or view.deleted.dropped else "nothing to do"))


def print_summary(summary: RunSummary, console: Console) -> None:
    """The outcome of a run: features, failures, coverage, and what to do next."""
    if summary.features:  # an output that could not be read has none to show
        print_outcome(summary.features, console)
        print_failures(summary.failures, console)
        console.print(Text(_coverage_line(summary.coverage)), soft_wrap=True)
    print_deleted(summary.deleted, console)
    for notice in summary.notices:
        console.print(Text(f"note: {one_line(notice)}"), soft_wrap=True)
    for problem in summary.problems:
        console.print(Text.assemble(("left: ", "red"), one_line(problem)), soft_wrap=True)
    console.print(Text(f"{summary.status}: {_did(summary)}"), soft_wrap=True)
    if summary.report:
        console.print(Text(f"report: {one_line(summary.report)}"), soft_wrap=True)
    console.print(Text(f"next: {_next(summary)}"), soft_wrap=True)


def _did(summary: RunSummary) -> str:
    if summary.status == "nothing to do":
        return f"{counted(summary.shards, 'shard')} published already, for every feature asked for"
    more = "".join(f", {count:,} {done}" for count, done in ((summary.tagged, "tagged"), (summary.enhanced, "enhanced")) if count)
    clips = f"{counted(summary.clips, 'clip')}{more} in {summary.elapsed_s:.1f} s"
    return f"{clips}, {summary.shards_published:,} of {counted(summary.shards, 'shard')} published by this run"


def _next(summary: RunSummary) -> str:
    if summary.status in ("done", "nothing to do"):
        return f"vidmill status {summary.output}"
    if summary.features and not summary.coverage.present:
        return "correct the source, then run the same command again"
    if summary.status == "too many failures":
        return f"vidmill status {summary.output}; mend the source, or raise --limits.max-failed and run the same command again"
    return "run the same command again to go on; finished work is kept"


def print_deleted(deleted: DeletedInputs, console: Console) -> None:
    """What the source has no more, where there is such a thing."""
    gone = (("keep", "kept", deleted.kept, deleted.kept_clips), ("drop", "dropped", deleted.dropped, deleted.dropped_clips))
    for mode, done, inputs, clips in gone:
        if inputs:
            told = f"not in the source any more: {counted(inputs, 'input')} with {counted(clips, 'clip')}, {done} (source.deleted: {mode})"
            console.print(told, soft_wrap=True)
    if deleted.lost_clips:
        console.print(f"gone with changed archives: {counted(deleted.lost_clips, 'clip')}", soft_wrap=True)


def _coverage_line(coverage: CorpusCoverage) -> str:
    if not coverage.annotated:
        return f"{counted(coverage.present, 'clip')} present, {coverage.ignored:,} other files ignored"
    return (
        f"{counted(coverage.annotated, 'clip')} annotated: {coverage.absent:,} absent; {coverage.present:,} present: "
        f"{coverage.unannotated:,} unannotated, {coverage.replaced:,} replaced; {coverage.ignored:,} other files ignored"
    )


def print_verification(found: Verification, console: Console) -> None:
    """What was proved, or every fault."""
    for check in found.features:
        left_out = f" + {check.omitted:,} left out by a selection" if check.omitted else ""
        told = f"{check.folder}: {check.rows:,} rows + {check.failed:,} failures{left_out} in {counted(check.shards, 'shard')}"
        console.print(Text(told + ", others need none" * check.partial), soft_wrap=True)
    for note in found.notes:
        console.print(Text(f"note: {one_line(note)}"), soft_wrap=True)
    for fault in found.faults:
        console.print(Text(f"fault: {one_line(str(fault))}", style="red"), soft_wrap=True)
    proved = f"{counted(found.files, 'file')} unaltered; every planned clip is one row or one failure, none twice"
    console.print(Text(counted(len(found.faults), "fault") if found.faults else proved), soft_wrap=True)


@dataclass(frozen=True, slots=True)
class ModelView:
    """One built-in model."""

    name: str
    task: tuple[str, ...]
    input: str
    licence: str
    trained_on: str
    weights: str
    size_bytes: int | None  # None: the weights' package is not installed
    missing: str | None  # what to do then


def model_views() -> tuple[ModelView, ...]:
    """The built-in models, with their weights looked for."""
    return (*map(_model_view, built_in()), *map(_restorer_view, shipped()))


def _restorer_view(spec: RestorerSpec) -> ModelView:
    window = f"RGB of this frame and the {spec.ahead} after it, with a memory of those before" if spec.ahead else "RGB of one frame"
    return ModelView(spec.name, (spec.does,), f"{window}, any size", spec.licence, spec.trained_on, spec.weights, *_size_or_missing(spec))


def _size_or_missing(spec: NetworkSpec) -> tuple[int | None, str | None]:
    try:
        return weights.fetch(spec.weights, spec.sha256).stat().st_size, None
    except Problem as problem:
        return None, str(problem)


def _model_view(spec: ModelSpec) -> ModelView:
    geometry = spec.input.geometry
    shape = f"shorter side to {geometry.resize} px, bicubic, centre {geometry.crop} px"
    eats = f"{shape}, (rgb - {_numbers(spec.input.mean)}) / {_numbers(spec.input.std)}"
    return ModelView(spec.name, spec.task, eats, spec.licence, spec.trained_on, spec.weights, *_size_or_missing(spec))


def print_models(views: Sequence[ModelView], console: Console) -> None:
    """One row per model."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("model", "task", "licence", "trained on", "weights"):
        table.add_column(heading, overflow="fold")
    for view in views:
        size = "not installed" if view.size_bytes is None else shown_size(view.size_bytes)
        table.add_row(view.name, ", ".join(view.task), view.licence, view.trained_on, size)
    console.print(table)
    for view in views:
        if view.missing:
            console.print(Text(view.missing), soft_wrap=True)
    console.print("next: vidmill run --embed NAME --tag NAME ...")


def _numbers(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:g}' for value in values)}]"


def shown_size(size_bytes: float) -> str:
    """`1.5 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:,.1f} TB"
