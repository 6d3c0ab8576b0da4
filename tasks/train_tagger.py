"""One worker's training of a tagger, from the last checkpoint to the scores; all workers do the same at the same time.

    pieces of this rank -> stream -> batches -> learner -> checkpoint ... -> checkpoint -> scores
                                               | gradients averaged over the workers

The first worker reports, writes checkpoints and judges. Knows nothing of Ray.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import nn

from infra.problem import Problem
from models.tagger import padded, scored, spread
from tasks import checkpoint
from tasks.frame_features import values_of
from tasks.keeper import Keeper
from tasks.learn_tagger import TaggerLearner, TaggerRecipe, batch_of, prior_of, shape_of
from tasks.progress import TrainingProgress
from tasks.tagger_corpus import Corpus
from tasks.tagger_labels import Key
from tasks.tagger_scores import Rated, TaggerScore, scores_of
from tasks.tagger_stream import Example, Stream
from tasks.training import Onlooker, Place, Speed, agreed, cores_of

JUDGED_TOGETHER = 64  # clips, or segments


@dataclass(frozen=True, slots=True)
class TaggerJob:
    """A training, for whoever carries it out."""

    recipe: TaggerRecipe
    corpus: Corpus
    digest: str  # of recipe and corpus
    output: str
    threads: int | None
    checkpoint_s: float


def name_of(network: str) -> str:
    """What a tagger's files are called."""
    return f"tagger-{network}"


def train(job: TaggerJob, place: Place, onlooker: Onlooker) -> None:
    """Learn what is left, write a checkpoint, judge once all is learned; or stop at a checkpoint when told to.

    Raises:
        Problem: the corpus is of no use, a checkpoint is not readable, or storage fails.
    """
    recipe, threads = job.recipe, cores_of(job.threads, place)
    torch.manual_seed(recipe.seed)
    learner = TaggerLearner(shape_of(recipe, job.corpus), recipe, prior_of(job.corpus), place.device)
    keeper = Keeper(
        checkpoint.checkpoint_uri(job.output, name_of(recipe.network)), learner, place,
        digest=job.digest, threads=threads, checkpoint_s=job.checkpoint_s, check=lambda: _check(learner),
    )  # fmt: skip
    keeper.go_on()
    if not learner.done:
        _learn(job, place, onlooker, learner, keeper)
    if learner.done and place.rank == 0 and not keeper.scores:
        onlooker.progress(TrainingProgress(learner.step, recipe.steps, None, 0.0, 0.0, None, "the held-out clips to be judged"))
        keeper.judged(judged(learner.network.eval(), _stream(job, place), recipe.judged, device=place.device))


def _learn(job: TaggerJob, place: Place, onlooker: Onlooker, learner: TaggerLearner, keeper: Keeper) -> None:
    speed = Speed(learner)
    if place.rank == 0:
        onlooker.progress(speed.now("the features to be read"))
    for examples in _batches(_stream(job, place), learner):
        if learner.step == speed.first:
            speed.begin()
        speed.distances.append(learner.learn(batch_of(examples, len(job.corpus.labels))))
        stop = speed.due() and place.rank == 0 and onlooker.progress(speed.now())
        keeper.passed()
        if agreed(stop, place.device):
            break
    keeper.keep()


def _stream(job: TaggerJob, place: Place) -> Stream:
    recipe = job.recipe
    return Stream(
        job.corpus, frames=recipe.frames, seed=recipe.seed, bound_bytes=recipe.buffer_bytes, rank=place.rank, workers=recipe.workers
    )  # fmt: skip


def _batches(stream: Stream, learner: TaggerLearner) -> Iterator[list[Example]]:
    """The batches that are left."""
    batch = learner.recipe.batch
    examples = stream.learned(learner.step * batch)
    for _ in range(learner.step, learner.recipe.steps):
        yield list(islice(examples, batch))


def judged(network: nn.Module, stream: Stream, most: int, *, device: torch.device) -> list[TaggerScore]:
    """Every measure over the held-out examples.

    Args:
        most: examples.
    """
    labels = len(stream.corpus.labels)
    scores, truth = [], []
    positives: list[int] = []
    rated: list[tuple[int, float, bool]] = []
    examples = stream.held_out(most)
    while together := list(islice(examples, JUDGED_TOGETHER)):
        scores.append(scored(network, *padded([spread(_values(example), stream.frames) for example in together]), device=device))
        truth.append(batch_of(together, labels).truth.numpy().astype(bool))
        positives.extend(example.positives for example in together)
        rated.extend(_rated(network, together, stream, device))
    return scores_of(np.concatenate(scores), np.concatenate(truth), np.array(positives), prior_of(stream.corpus), _table(rated))


def _values(example: Example, start: int = 0, stop: int | None = None) -> np.ndarray:
    return np.concatenate([values_of(part[start:stop]) for part in example.inputs], axis=1)


def _rated(network: nn.Module, examples: list[Example], stream: Stream, device: torch.device) -> Iterator[tuple[int, float, bool]]:
    """Label, score and truth of every rated segment that lies inside the frames; a second is a frame."""
    asked: dict[tuple[int, int, int], list[tuple[Key, bool]]] = {}
    for index, example in enumerate(examples):
        for rated in example.segments:
            if rated.start_s < min(rated.end_s, len(example.inputs[0])):
                asked.setdefault((index, rated.start_s, rated.end_s), []).append((rated.key, rated.right))
    places = iter(asked.items())
    while together := list(islice(places, JUDGED_TOGETHER)):
        frames = [spread(_values(examples[index], start, stop), stream.frames) for (index, start, stop), _ in together]
        scores = scored(network, *padded(frames), device=device)
        for row, (_, said) in enumerate(together):
            for key, right in said:
                column = stream.column(key)
                yield column, float(scores[row, column]), right


def _table(rated: list[tuple[int, float, bool]]) -> Rated | None:
    if not rated:
        return None
    label, score, right = zip(*rated, strict=True)
    return Rated(np.array(label), np.array(score), np.array(right, bool))


def _check(learner: TaggerLearner) -> None:
    loss = float(learner.loss)
    if not np.isfinite(loss) or not all(bool(weight.isfinite().all()) for weight in learner.network.parameters()):
        raise Problem(f"training: the network came apart at step {learner.step:,}, its loss is {loss:g}; name a lower --rate and another --output")
