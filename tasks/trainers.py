"""A training on Ray Train: one process per GPU, or as many as were asked for, started again after a crash.

    driver --job--> Ray Train --> workers
       ^                            |
       +-------- board <------------+      progress, notes and problems one way, the wish to stop the other

Knows Ray, nothing of networks.
"""

import logging
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ray
import ray.train
import ray.train.torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from infra.problem import Problem
from tasks.progress import TrainingProgress
from tasks.training import Onlooker, Place

J = TypeVar("J")
Train = Callable[[J, Place, Onlooker], None]  # one worker's part of a job

RESTARTS = 3  # after a worker that died; each goes on from the last checkpoint
LOOK_EVERY_S = 0.5
STOP_S = 25.0  # for the batch that is being learned from, and a checkpoint


class TrainingFailed(Problem):
    """A worker saw a problem."""

    def __init__(self, text: str, passing: bool) -> None:
        super().__init__(text)
        self._passing = passing

    @property
    def passing(self) -> bool:
        """As the worker's own."""
        return self._passing


@dataclass(slots=True)
class Seen:
    """What the workers wrote since the driver looked."""

    progress: TrainingProgress | None = None
    notes: list[str] = field(default_factory=list)
    problem: tuple[str, bool] | None = None  # what the first worker that met one ended with, and whether it may pass


class Board:
    """Where workers and driver leave each other word; a Ray actor."""

    def __init__(self) -> None:
        self.seen, self.stopping = Seen(), False

    def tell(self, progress: TrainingProgress) -> bool:
        """How far it is; answers whether to stop."""
        self.seen.progress = progress
        return self.stopping

    def note(self, text: str) -> None:
        """Something a person should know."""
        self.seen.notes.append(text)

    def fail(self, text: str, passing: bool) -> None:
        """What a worker ended with."""
        self.seen.problem = self.seen.problem or (text, passing)

    def stop(self) -> None:
        """Whoever tells next is to stop."""
        self.stopping = True

    def look(self) -> Seen:
        """What is new."""
        seen, self.seen = self.seen, Seen(problem=self.seen.problem)
        return seen


@dataclass(frozen=True, slots=True)
class Writer:
    """A worker's side of the board."""

    board: Any

    def progress(self, found: TrainingProgress) -> bool:
        """Tell, and hear whether to stop."""
        return bool(ray.get(self.board.tell.remote(found)))

    def note(self, text: str) -> None:
        """Tell."""
        ray.get(self.board.note.remote(text))


def train_on_ray(
    train: Train[J], job: J, *, workers: int, on_gpus: bool, show: Callable[[TrainingProgress], None], note: Callable[[str], None]
) -> None:
    """Train on the Ray that is connected, until all is learned and judged.

    Args:
        train: what each worker does with the job; a function that its process can import.
        on_gpus: one for each worker; else the CPU.
        show: called now and then with how far it is.
        note: called with what a person should know.

    Raises:
        Problem: as `train`.
        KeyboardInterrupt: and whatever else interrupts the driver: after a checkpoint.
    """
    board: Any = ray.remote(num_cpus=0)(Board).remote()
    ended: list[BaseException | None] = []
    thread = threading.Thread(target=_fit, args=(train, job, board, workers, on_gpus, ended), name="ray-train", daemon=True)

    def look() -> None:
        seen: Seen = ray.get(board.look.remote())
        for text in seen.notes:
            note(text)
        if seen.progress:
            show(seen.progress)
        if seen.problem:
            raise TrainingFailed(*seen.problem)

    thread.start()
    try:
        while thread.is_alive():
            thread.join(LOOK_EVERY_S)
            look()
    except TrainingFailed:
        raise
    except BaseException:
        board.stop.remote()
        thread.join(STOP_S)
        raise
    if ended and ended[0]:
        raise ended[0]


def _fit(train: Train[J], job: J, board: Any, workers: int, on_gpus: bool, ended: list[BaseException | None]) -> None:
    resources = {"CPU": 1.0, "GPU": 1.0} if on_gpus else {"CPU": 1.0}
    try:
        with tempfile.TemporaryDirectory(prefix="vidmill-") as folder:  # Ray Train wants one; checkpoints are our own
            TorchTrainer(
                _worker,
                train_loop_config={"train": train, "job": job, "board": board},
                scaling_config=ScalingConfig(num_workers=workers, use_gpu=on_gpus, resources_per_worker=resources),
                run_config=RunConfig(name="training", storage_path=folder, failure_config=FailureConfig(max_failures=RESTARTS)),
            ).fit()
        ended.append(None)
    except BaseException as error:
        logging.getLogger(__name__).exception("Ray Train failed")
        ended.append(error)


def _worker(config: Mapping[str, Any]) -> None:
    context = ray.train.get_context()
    place = Place(context.get_world_rank(), context.get_local_world_size(), ray.train.torch.get_device())
    try:
        config["train"](config["job"], place, Writer(config["board"]))
    except Problem as problem:  # trying again would not help
        ray.get(config["board"].fail.remote(str(problem), problem.passing))
