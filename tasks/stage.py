"""A stage: what it runs, on how many workers, with which resources. The one place that calls `map_batches`.

    Stage("decode", DecodeWorker, workers=4, cpus=0.9)

Rows travel packed: one row is one parcel, one parcel is one block, so Ray neither splits nor gathers what a stage sized. A parcel brings along
what each stage spent on it, so that the driver knows which stage the others wait for.
"""

import pickle
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray.data
from ray.util.annotations import RayDeprecationWarning

from tasks.stint import Stint, Way

# Loss of a node restarts its actors and tasks; one that dies wherever it runs must not do so for ever, as is Ray's default. Nodes that come
# and go (spot) may be lost often, and what clips do to a decoder ends a child process and no worker (`tasks.child`).
RESTARTS = 3
RESTARTS_ELASTIC = 20


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of every clip's way."""

    name: str
    worker: Callable[..., Any]  # a generator function (tasks), or a class with __call__ (actors)
    arguments: tuple[Any, ...] = ()  # of the function after the parcel, or of the class
    workers: int | None = None  # actors; None runs tasks
    cpus: float = 1.0
    gpus: float = 0.0
    elastic: bool = False  # nodes come and go: `workers` is what there are at the start
    most: int | None = None  # workers, where elastic; None for as many as fit

    @property
    def restarts(self) -> int:
        """Losses of its worker, or of the node, that a task or actor survives."""
        return RESTARTS_ELASTIC if self.elastic else RESTARTS

    @property
    def pool(self) -> ray.data.ActorPoolStrategy:
        """Its actors: all from the start, then as many as the cluster takes."""
        if not self.elastic:
            return ray.data.ActorPoolStrategy(size=self.workers)
        return ray.data.ActorPoolStrategy(min_size=1, max_size=self.most, initial_size=self.workers)


def pack(value: object, way: Way = ()) -> pa.Table:
    """One row that holds `value` and its way."""
    return pa.table({"packed": pa.array([pickle.dumps((value, way), protocol=5)], pa.large_binary())})


def unpack(batch: pa.Table) -> Iterator[tuple[Any, Way]]:
    """The values of packed rows, with their ways."""
    for packed in batch["packed"]:
        yield pickle.loads(packed.as_buffer())


class StageTask:
    """Runs a generator function over packed rows."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for value, way in unpack(batch):
            resumed_s = ended_s = time.monotonic()
            for made in self.stage.worker(value, *self.stage.arguments):
                stint = Stint(self.stage.name, time.monotonic() - resumed_s, resumed_s - ended_s)
                ended_s = time.monotonic()
                yield pack(made, (*way, stint))
                resumed_s = time.monotonic()


class StageActor:
    """Runs a worker object, built once per actor, over packed rows."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.worker = stage.worker(*stage.arguments)
        self.ended_s = time.monotonic()

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for value, way in unpack(batch):
            began_s = time.monotonic()
            made = self.worker(value)
            stint = Stint(self.stage.name, time.monotonic() - began_s, began_s - self.ended_s)
            self.ended_s = time.monotonic()
            yield pack(made, (*way, stint))


def apply(dataset: "ray.data.Dataset", stage: Stage) -> "ray.data.Dataset":
    """Append a stage to a dataset."""
    options: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow", "num_cpus": stage.cpus, "num_gpus": stage.gpus or None}
    if stage.workers is None:
        return _bounded(dataset, StageTask(stage).__call__, **options, max_retries=stage.restarts)
    options |= {"fn_constructor_args": (stage,), "compute": stage.pool}
    return _bounded(dataset, StageActor, **options, max_restarts=stage.restarts, max_task_retries=stage.restarts)


def _bounded(dataset: "ray.data.Dataset", work: Any, **options: Any) -> "ray.data.Dataset":
    with warnings.catch_warnings():
        # Ray 2.60 deprecates passing limits of restarts and names no other way to end its default, endless ones.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        return dataset.map_batches(work, **options)
