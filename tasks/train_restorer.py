"""One worker's training of a restorer, from the last checkpoint to the scores; all workers do the same at the same time.

    files of this rank -> pool -> batches, ahead of time -> learner -> checkpoint ... -> checkpoint -> scores
                                                               | gradients averaged over the workers

The first worker reports, writes checkpoints and judges. Knows nothing of Ray.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from infra.problem import Problem
from infra.storage import ObjectInfo
from tasks import checkpoint
from tasks.batches import batches
from tasks.keeper import Keeper
from tasks.learn import Batch, Learner, Recipe, network_of
from tasks.pool import Pool
from tasks.progress import TrainingProgress
from tasks.scores import scores_of
from tasks.training import Onlooker, Place, Speed, agreed, cores_of

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


def train(job: Job, place: Place, onlooker: Onlooker) -> None:
    """Learn what is left, write a checkpoint, judge once all is learned; or stop at a checkpoint when told to.

    Raises:
        Problem: the corpus is of no use, a checkpoint is not readable, or storage fails.
    """
    threads = cores_of(job.threads, place)
    torch.manual_seed(job.recipe.seed)
    network = network_of(job.recipe.task)
    if job.start:
        checkpoint.begin_with(network, job.start)
    learner = Learner(network, job.recipe, place.device)
    keeper = Keeper(
        checkpoint.checkpoint_uri(job.output, job.recipe.task), learner, place,
        digest=job.digest, threads=threads, checkpoint_s=job.checkpoint_s, check=lambda: _check(learner),
    )  # fmt: skip
    keeper.go_on()
    if not learner.done:
        _learn(job, place, onlooker, learner, keeper)
    if learner.done and place.rank == 0 and not keeper.scores:
        onlooker.progress(TrainingProgress(learner.step, job.recipe.steps, None, 0.0, 0.0, None, "the held-out files to be judged"))
        keeper.judged(scores_of(job.recipe.task, learner.network, job.held_out, seed=job.recipe.seed, told=onlooker.note))


def _learn(job: Job, place: Place, onlooker: Onlooker, learner: Learner, keeper: Keeper) -> None:
    recipe = job.recipe
    pool = Pool(
        _share(job.learned, recipe.workers, place.rank), frames=recipe.frames, side=recipe.side, bound_bytes=job.pool_bytes,
        seed=recipe.seed, rank=place.rank, told=onlooker.note,
    )  # fmt: skip
    speed = Speed(learner)
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
            if place.rank == 0:
                _keep_unfallen(job, learner)
            keeper.passed()
            if agreed(stop, place.device):
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


def _keep_unfallen(job: Job, learner: Learner) -> None:
    """Weights of the last batch before the rate falls, to begin a longer training with."""
    recipe, step = job.recipe, learner.step
    stays = int(recipe.steps * (1 - recipe.fall))
    if step - recipe.batch_steps < stays <= step:
        checkpoint.save_weights(checkpoint.before_fall_uri(job.output, recipe.task), learner.network.state_dict(), {"step": str(step)})


def _check(learner: Learner) -> None:
    distance = float(learner.distance)
    if not distance < MOST_DISTANCE or not all(bool(weight.isfinite().all()) for weight in learner.network.parameters()):
        found = f"at step {learner.step:,} its pictures were {distance:g} away from the clean ones, and white is 1 from black"
        raise Problem(f"training: the network came apart: {found}; name a lower --rate and another --output")
