"""One worker's training of a restorer, from the last checkpoint to the scores; all workers do the same at the same time.

    files of this rank -> pool -> batches, ahead of time -> learner -> checkpoint ... -> checkpoint -> scores
                                                               | gradients averaged over the workers

The first worker reports, writes checkpoints and judges. Knows nothing of Ray.
"""

import math
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from infra.problem import Problem
from infra.storage import ObjectInfo
from models.network import has_bfloat16
from tasks import checkpoint
from tasks.batches import batches
from tasks.cores import use_cores
from tasks.learn import Batch, Learner, Recipe, network_of
from tasks.pool import Pool
from tasks.progress import TrainingProgress
from tasks.scores import Score, scores_of

TOLD_EVERY_S = 1.0
GPU_LOADERS = 4
MOST_DISTANCE = 1.0  # of black from white


@dataclass(frozen=True, slots=True)
class Job:
    """A training, for whoever carries it out."""

    recipe: Recipe
    digest: str  # of recipe, corpus and beginning
    learned: tuple[ObjectInfo, ...]
    held_out: tuple[ObjectInfo, ...]
    output: str
    start: str | None
    threads: int | None
    loaders: int | None
    pool_bytes: int
    checkpoint_s: float


@dataclass(frozen=True, slots=True)
class Place:
    """Where one worker stands among the others."""

    rank: int
    local_workers: int  # on its machine
    device: torch.device


class Onlooker(Protocol):
    """Whoever wants to know how it goes."""

    def progress(self, found: TrainingProgress) -> bool:
        """How far it is; the answer is whether to stop."""

    def note(self, text: str) -> None:
        """Something a person should know."""


def train(job: Job, place: Place, onlooker: Onlooker) -> None:
    """Learn what is left, write a checkpoint, judge once all is learned; or stop at a checkpoint when told to.

    Raises:
        Problem: the corpus is of no use, a checkpoint is not readable, or storage fails.
    """
    threads = job.threads or max(1, (os.cpu_count() or 1) // place.local_workers)
    use_cores(threads)
    torch.manual_seed(job.recipe.seed)
    network = network_of(job.recipe.task)
    if job.start:
        checkpoint.begin_with(network, job.start)
    learner = Learner(network, job.recipe, place.device)
    keeper = _Keeper(job, place, learner, threads)
    keeper.go_on()
    if not learner.done:
        _learn(job, place, onlooker, keeper)
    if learner.done and place.rank == 0 and not keeper.scores:
        onlooker.progress(TrainingProgress(learner.step, job.recipe.steps, None, 0.0, 0.0, None, "the held-out files to be judged"))
        keeper.judged(scores_of(job.recipe.task, learner.network, job.held_out, seed=job.recipe.seed, told=onlooker.note))


def _learn(job: Job, place: Place, onlooker: Onlooker, keeper: "_Keeper") -> None:
    recipe, learner = job.recipe, keeper.learner
    pool = Pool(
        _share(job.learned, recipe.workers, place.rank), frames=recipe.frames, side=recipe.side, bound_bytes=job.pool_bytes,
        seed=recipe.seed, rank=place.rank, told=onlooker.note,
    )  # fmt: skip
    speed = _Speed(learner)
    try:
        if place.rank == 0:
            onlooker.progress(speed.now("the corpus to be read"))
        pool.read()
        loaders = job.loaders or (GPU_LOADERS if place.device.type == "cuda" else 1)
        coming = batches(recipe, pool, step=learner.step, rank=place.rank, loaders=loaders, finish=_pinned if place.device.type == "cuda" else None)
        speed.begin()
        for batch in coming:
            speed.distances.extend(learner.learn(batch))
            stop = speed.due() and place.rank == 0 and onlooker.progress(speed.now())
            keeper.passed()
            if _agreed(stop, place.device):
                coming.close()
                break
    finally:
        pool.close()
    keeper.keep()


def _share(files: Sequence[ObjectInfo], workers: int, rank: int) -> Sequence[ObjectInfo]:
    """The files of one worker; all of them where there is not one for each."""
    return files[rank::workers] if len(files) >= workers else files


def _pinned(batch: Batch) -> Batch:
    return Batch(batch.clean.pin_memory(), batch.given.pin_memory())


def _agreed(stop: bool, device: torch.device) -> bool:
    """What the first worker was told, for all of them."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return stop
    told = torch.tensor(float(stop), device=device)
    dist.broadcast(told, 0)
    return bool(told)


class _Speed:
    """Counts what is told of a training."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner
        self.distances: list[Tensor] = []  # since the last telling
        self.told_s = -math.inf
        self.begin()

    def begin(self) -> None:
        """From here on it learns."""
        self.first, self.began_s = self.learner.step, time.monotonic()

    def due(self) -> bool:
        """Whether it is time to tell."""
        return time.monotonic() - self.told_s >= TOLD_EVERY_S

    def now(self, waiting: str | None = None) -> TrainingProgress:
        """How far it is."""
        self.told_s = time.monotonic()
        elapsed_s, learner = self.told_s - self.began_s, self.learner
        per_s = (learner.step - self.first) / elapsed_s if elapsed_s else 0.0
        eta_s = (learner.recipe.steps - learner.step) / per_s if per_s else None
        distance = float(torch.stack(self.distances).mean()) if self.distances else None
        self.distances.clear()
        return TrainingProgress(learner.step, learner.recipe.steps, distance, per_s, elapsed_s, eta_s, waiting)


class _Keeper:
    """The checkpoint of a training: what the learner needs to go on, and what the card says of the way here."""

    def __init__(self, job: Job, place: Place, learner: Learner, threads: int) -> None:
        self.job, self.learner, self.writes = job, learner, place.rank == 0
        self.uri = checkpoint.checkpoint_uri(job.output, job.recipe.task)
        self.machine = machine_of(place.device, threads)
        self.machines: list[str] = []
        self.scores: list[Score] = []
        self.earlier_s, self.began_s, self.kept_s = 0.0, time.monotonic(), time.monotonic()

    def go_on(self) -> None:
        """Take up what is there."""
        found = checkpoint.load_checkpoint(self.uri)
        if found is None:
            return
        if found["digest"] != self.job.digest:
            raise Problem(f"{self.uri}: is of another recipe or corpus; remove it to begin anew, or name another --output")
        self.learner.restore(found["learner"])
        self.machines, self.earlier_s = list(found["machines"]), found["elapsed_s"]
        self.scores = [Score(**score) for score in found["scores"]]

    def passed(self) -> None:
        """A batch was learned from: write what is due."""
        recipe, step = self.job.recipe, self.learner.step
        stays = int(recipe.steps * (1 - recipe.fall))
        if self.writes and step - recipe.batch_steps < stays <= step:
            checkpoint.save_weights(checkpoint.before_fall_uri(self.job.output, recipe.task), self.learner.network.state_dict(), {"step": str(step)})
        if time.monotonic() - self.kept_s >= self.job.checkpoint_s:
            self.keep()

    def judged(self, scores: list[Score]) -> None:
        """The end."""
        self.scores = scores
        self.keep()

    def keep(self) -> None:
        """Write a checkpoint.

        Raises:
            Problem: the network has come to nothing; what was written before stays.
        """
        self.kept_s = time.monotonic()
        if not self.writes:
            return
        learner, distance = self.learner, float(self.learner.distance)
        if not distance < MOST_DISTANCE or not all(bool(weight.isfinite().all()) for weight in learner.network.parameters()):
            found = f"at step {learner.step:,} its pictures were {distance:g} away from the clean ones, and white is 1 from black"
            raise Problem(f"training: the network came apart: {found}; name a lower --rate and another --output")
        if self.machine not in self.machines:
            self.machines.append(self.machine)
        elapsed_s = self.earlier_s + time.monotonic() - self.began_s
        told = {"digest": self.job.digest, "elapsed_s": elapsed_s, "machines": self.machines, "scores": [asdict(score) for score in self.scores]}
        checkpoint.save_checkpoint(self.uri, {**told, "learner": learner.state()})


def machine_of(device: torch.device, threads: int) -> str:
    """What a training ran on, for its card."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    kind = "bfloat16" if has_bfloat16(device) else "float32"
    return f"{name}, {threads} threads, {kind}, torch {torch.__version__}, Python {platform.python_version()}"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
