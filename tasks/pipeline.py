"""The pipeline: shards with work in, published shards out, through one Ray Dataset.

The driver keeps counts per shard, never clips: when as many outcomes as clips have come back, the shard is published.
"""

import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import ray.data

from infra.cluster import Resources
from infra.problem import Problem
from infra.settings import RunConfig, SourceKind
from infra.storage import StorageError
from models.spec import ModelSpec
from models.tagger_spec import TaggerSpec
from tasks.encoded import Failure, Outcome
from tasks.enhance_workers import EnhanceWorker, read_clips
from tasks.feature import model_specs, tagger_specs
from tasks.publish import HoleError, PublishContext, PublishedShard, publish_shard
from tasks.shardwork import ShardWork
from tasks.stage import RESTARTS_ELASTIC, Stage, apply, pack, unpack
from tasks.tag_workers import TagWorker, read_stored
from tasks.tally import Tally, allowed_failures
from tasks.workers import ClipWorker, DecodeWorker, InferWorker, RecordWorker, read_parcels

# Two cores must hold two clip workers and a reader, or nothing moves (ray-project/ray#44687).
WORKER_CPUS = 0.9
READER_CPUS = 0.1
ENHANCE_THREADS = 2
PUBLISH_THREADS = 4


def stages(config: RunConfig, models: tuple[ModelSpec, ...], ids: tuple[str, str], found: Resources) -> tuple[Stage, ...]:
    """The stages a clip passes, in order; placement follows the cluster. `ids` are those of the run and of this try at it."""
    read = _reading(read_parcels, config, found)
    if config.source.kind is SourceKind.YOUTUBE8M:
        return (read, _on_cpus("parse", RecordWorker, (config, *ids), found))
    if not found.gpus or not models:
        return (read, _on_cpus("clip", ClipWorker, (config, models, *ids), found))
    decoders = max(1, found.cpus - found.gpus)
    return (
        read,
        Stage("decode", DecodeWorker, (config, models), decoders, cpus=WORKER_CPUS, elastic=found.elastic),
        _on_gpus("infer", InferWorker, (config, models, *ids), found),
    )


def enhance_stages(config: RunConfig, ids: tuple[str, str], found: Resources) -> tuple[Stage, ...]:
    """The stages of enhancement: an actor per GPU, else one per two cores, whose networks compute on both."""
    read = _reading(read_clips, config, found)
    if found.gpus:
        return (read, _on_gpus("enhance", EnhanceWorker, (config, *ids), found))
    threads = 1 if found.elastic else min(ENHANCE_THREADS, found.cpus)  # a node that is there or joins may have one core
    return (read, _on_cpus("enhance", EnhanceWorker, (config, *ids, threads), found, threads=threads))


def tag_stages(config: RunConfig, taggers: Sequence[TaggerSpec], ids: tuple[str, str], found: Resources) -> tuple[Stage, ...]:
    """The stages of taggers over stored embeddings: an actor per GPU, else per core."""
    place = _on_gpus if found.gpus else _on_cpus
    return (_reading(read_stored, config, found), place("tag", TagWorker, (config, taggers, *ids), found))


def _reading(worker: Callable[..., Any], config: RunConfig, found: Resources) -> Stage:
    return Stage("read", worker, (config,), cpus=READER_CPUS, elastic=found.elastic)


def _on_cpus(name: str, worker: Callable[..., Any], arguments: tuple[Any, ...], found: Resources, *, threads: int = 1) -> Stage:
    return Stage(name, worker, arguments, found.cpus // threads, cpus=WORKER_CPUS * threads, elastic=found.elastic)


def _on_gpus(name: str, worker: Callable[..., Any], arguments: tuple[Any, ...], found: Resources) -> Stage:
    """Nothing of a CPU: decoders that fill a node's cores must not keep its GPU idle."""
    return Stage(name, worker, arguments, found.gpus, cpus=0, gpus=1, elastic=found.elastic, most=found.most_gpus)


def dataset_of(work: Sequence[ShardWork], steps: Sequence[Stage]) -> "ray.data.Dataset":
    """The dataset of a run: shards through the stages."""
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = 1  # every packed row is a block of its own
    context.enable_progress_bars = False
    if any(step.elastic for step in steps):
        context.actor_pool_util_downscaling_threshold = 0.0  # while clips come slowly a worker keeps its models
        context.max_consecutive_actor_init_deaths = RESTARTS_ELASTIC
    # Not from_arrow: that runs a task per block to learn what is known here already.
    dataset: ray.data.Dataset = ray.data.from_blocks([pack(shard) for shard in work])
    for stage in steps:
        dataset = apply(dataset, stage)
    return dataset


class TooManyFailures(Exception):
    """More clips failed than `limits.max_failed` allows; what is finished stays."""

    def __init__(self, tally: Tally, allowed: int) -> None:
        super().__init__(f"{tally.failed} clips failed, and limits.max_failed allows {allowed}; look at the failures, or raise --limits.max-failed")
        self.tally = tally


@dataclass(frozen=True, slots=True)
class Run:
    """One run over one plan: what is published where, and who listens."""

    config: RunConfig
    context: PublishContext
    work: tuple[ShardWork, ...]
    on_tally: Callable[[Tally], None]  # called before a shard is published; what it raises ends the run
    on_failure: Callable[[Failure], None]


def process(run: Run, found: Resources) -> Tally:
    """Compute and publish everything the plan lacks.

    Raises:
        TooManyFailures: over `limits.max_failed`; finished shards are published, finished clips staged.
    """
    try_id = _new_try()
    wanted = {feature.model for work in run.work for feature in work.features}
    models = tuple(spec for spec in model_specs(run.config) if spec.name in wanted)  # none for records, which bring their features
    return _carried_out(run, try_id, stages(run.config, models, (run.context.run_id, try_id), found))


def tag(run: Run, found: Resources) -> Tally:
    """Tag and publish every clip whose embeddings are published and whose tags the plan's second part lacks; raises as `process`."""
    try_id, wanted = _new_try(), {feature.model for work in run.work for feature in work.features}
    taggers = tuple(spec for spec in tagger_specs(run.config) if spec.name in wanted)
    return _carried_out(run, try_id, tag_stages(run.config, taggers, (run.context.run_id, try_id), found))


def enhance(run: Run, found: Resources) -> Tally:
    """Restore and publish every clip that the plan's last part lacks; raises as `process`."""
    try_id, wanted = _new_try(), {feature.model for work in run.work for feature in work.features}
    recipes = [recipe for recipe in run.config.enhance if recipe.label in wanted]
    config = run.config.model_copy(update={"enhance": recipes})
    return _carried_out(run, try_id, enhance_stages(config, (run.context.run_id, try_id), found))


def _new_try() -> str:
    return uuid.uuid4().hex[:8]


def _carried_out(run: Run, try_id: str, steps: Sequence[Stage]) -> Tally:
    overlay = [run.context.replacements] if run.context.replacements else []
    dataset = dataset_of([replace(work, try_id=try_id) for work in (*overlay, *run.work)], steps)
    publisher = _Publisher(run)
    try:
        for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for outcome, way in unpack(batch):
                publisher.tally.spent(way)
                publisher.take(outcome)
    finally:
        publisher.finish()
    return publisher.tally


class _Publisher:
    """Counts outcomes and publishes each shard once its last clip is in, beside the clips that are still under way.

    In threads of the driver: a shard's rows are some MB, and a process of its own would cost two seconds to start.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.tally = run, Tally()
        self.work = {work.shard.name: work for work in run.work}
        self.waiting: list[ShardWork] = []  # complete, until the replacements are
        self.overlay = run.context.replacements and run.context.replacements.shard.name
        self.threads = ThreadPoolExecutor(PUBLISH_THREADS, "publish")
        self.pending: set[Future[PublishedShard]] = set()

    def take(self, outcome: Outcome) -> None:
        if outcome.fatal:
            raise Problem(outcome.fatal)
        complete = self.tally.add(outcome)
        for failure in outcome.failures:
            self.run.on_failure(failure)
        self._collect({future for future in self.pending if future.done()})
        self.run.on_tally(self.tally)
        if complete:
            self._complete(outcome.shard)
        self._check_failures()

    def finish(self) -> None:
        """Let the open publications end."""
        try:
            self._collect(self.pending)
        finally:
            self.threads.shutdown(cancel_futures=True)
        self.run.on_tally(self.tally)

    def _complete(self, shard: str) -> None:
        if shard == self.overlay:
            self.overlay = None
        else:
            self.waiting.append(self.work[shard])
        if self.overlay is None:
            self.pending |= {self.threads.submit(publish_shard, self.run.context, work) for work in self.waiting}
            self.waiting.clear()

    def _collect(self, ended: set[Future[PublishedShard]]) -> None:
        self.pending = self.pending - ended
        for future in ended:
            try:
                self.tally.published.append(future.result())
            except (HoleError, StorageError) as error:
                self.tally.problems.append(str(error))

    def _check_failures(self) -> None:
        allowed = allowed_failures(self.run.config.limits.max_failed, self.tally.clips + self.tally.known)
        if self.tally.failed > allowed:
            raise TooManyFailures(self.tally, allowed)
