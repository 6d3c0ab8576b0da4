"""train-tagger: from the features and labels of a run to the weights of a tagger, and their card.

    plan -> lease -> learn (Ray Train) -> publish

Runs as a Prefect flow, with a server or a temporary one, and as the plain function `train_tagger.fn` without any.
"""

import hashlib
from dataclasses import dataclass

from prefect import flow

from flows.options import command_of
from flows.step import in_flow_run, step
from flows.training import Outcome, check_room, show_outcome
from flows.watch import WATCHER, chosen_run_id, note
from infra import storage
from infra.cluster import ray_session
from infra.lease import lease
from infra.problem import Problem
from infra.training import TaggerConfig
from tasks import checkpoint
from tasks.learn_tagger import VERSION, TaggerRecipe, recipe_of, shape_of
from tasks.tagger_card import SCORE_COLUMNS, TaggerTraining, card, metadata, score_row, scores_in
from tasks.tagger_corpus import Corpus, corpus_of
from tasks.tagger_labels import Sides
from tasks.tagger_scores import TaggerScore
from tasks.train_tagger import TaggerJob, name_of, train
from tasks.training_manifest import Manifest


@dataclass(frozen=True, slots=True)
class TaggerSummary:
    """How a training ended."""

    head = SCORE_COLUMNS

    network: str
    status: Outcome
    steps: int
    scores: tuple[TaggerScore, ...]
    weights: str
    card: str

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The scores, for people."""
        return [score_row(score) for score in self.scores]

    @property
    def outcome(self) -> str:
        """In a line."""
        return f"{self.network}: {self.status}; scores on held-out clips, after {self.steps:,} steps"


@dataclass(frozen=True, slots=True)
class TaggerPlan:
    """What is to be learned, from what."""

    asked: TaggerConfig  # as it was given
    config: TaggerConfig  # with whole addresses
    corpus: Corpus
    known: Manifest[TaggerRecipe] | None  # of what the output holds already

    @property
    def name(self) -> str:
        """Of the tagger's files."""
        return name_of(self.config.network)

    def manifest(self, workers: int) -> Manifest[TaggerRecipe]:
        """What is learned, where so many do it."""
        recipe = recipe_of(self.config, self.corpus, workers=workers)
        return Manifest(recipe, self.corpus.digest, self.config.held_out, None, VERSION)


@flow(name="train-tagger", flow_run_name="{config.network}")
def train_tagger(config: TaggerConfig) -> TaggerSummary:
    """Train a tagger, or go on training it, and publish weights and card.

    Raises:
        Problem: the configuration, the features or the output are not usable, or the output holds something else.
        KeyboardInterrupt: a checkpoint was written; run again to go on.
    """
    plan = plan_training(config)
    if summary := finished(plan):
        return summary
    with lease(plan.config.output, run_id=chosen_run_id()) as held:
        for notice in held.notices:
            note(notice)
        manifest = learn(plan)
        held.confirm()
        return publish(plan, manifest)


@step(name="plan")
def plan_training(config: TaggerConfig) -> TaggerPlan:
    """Join features and labels by their ids and compare with what the output holds; opens no vector, writes nothing."""
    if config.features is None:
        raise Problem("features: none are named; add --features OUTPUT of a `vidmill run`")
    if storage.exists(config.output):
        raise Problem(f"output {config.output}: is a file; name a folder")
    asked, config = config, config.model_copy(update={"features": storage.normal(config.features), "output": storage.normal(config.output)})
    assert config.features is not None
    sides = Sides(config.held_out, config.held_out_split)
    corpus = corpus_of(
        config.features, config.inputs, sides, labels=config.labels, frames=config.frames, piece_bytes=max(1, config.buffer_bytes // 2)
    )  # fmt: skip
    known = Manifest.read(checkpoint.manifest_uri(config.output, name_of(config.network)), TaggerRecipe.of)
    plan = TaggerPlan(asked, config, corpus, known)
    if known and (other := known.difference(plan.manifest(config.workers or known.recipe.workers))):
        raise Problem(f"output {config.output}: holds a {plan.name} training with {other}; name another --output, or give the same")
    _tell_left_out(corpus)
    return plan


def _tell_left_out(corpus: Corpus) -> None:
    if corpus.incomplete:
        names = ", ".join(table.model for table in corpus.tables)
        note(f"features: {corpus.incomplete:,} clips have a label but no row in each of {names}, and are left out; vidmill status shows why")


def finished(plan: TaggerPlan) -> TaggerSummary | None:
    """The summary of a training that came to its end before."""
    uri = checkpoint.weights_uri(plan.config.output, plan.name)
    found = checkpoint.metadata_of(uri)
    if found is None:
        return None
    if plan.known is None or found.get("recipe_sha256") != plan.known.digest:
        raise Problem(f"{uri}: is of another training; name another --output, or move it away")
    if not storage.exists(checkpoint.card_uri(plan.config.output, plan.name)):
        return None
    return _summary(plan, tuple(scores_in(found)), "nothing to do")


@step(name="learn")
def learn(plan: TaggerPlan) -> Manifest[TaggerRecipe]:
    """Learn what is left, on Ray.

    Raises:
        Problem: the features are of no use, or storage fails.
    """
    config = plan.config
    with ray_session(config.cluster, preload=("tasks.trainers", "tasks.train_tagger")) as found:
        from tasks.trainers import train_on_ray  # brings Ray Train, which a training with nothing to do need not load

        manifest = plan.known or plan.manifest(config.workers or max(1, found.gpus))
        check_room(manifest.recipe.workers, found)
        storage.write_bytes(checkpoint.manifest_uri(config.output, plan.name), manifest.encoded())
        job = TaggerJob(manifest.recipe, plan.corpus, manifest.digest, config.output, config.threads, config.checkpoint_s)
        train_on_ray(train, job, workers=manifest.recipe.workers, on_gpus=found.gpus > 0, show=WATCHER.get().show, note=note)
    return manifest


@step(name="publish")
def publish(plan: TaggerPlan, manifest: Manifest[TaggerRecipe]) -> TaggerSummary:
    """Weights, then their card, out of the last checkpoint."""
    config = plan.config
    found = checkpoint.load_checkpoint(checkpoint.checkpoint_uri(config.output, plan.name))
    if found is None or not found["scores"]:
        raise Problem(f"output {config.output}: the training came to no end; run the same command again")
    scores = tuple(TaggerScore(**score) for score in found["scores"])
    training = TaggerTraining(
        recipe=manifest.recipe, shape=shape_of(manifest.recipe, plan.corpus), corpus=plan.corpus, digest=manifest.digest,
        command=command_of("vidmill train tagger", plan.asked, workers=manifest.recipe.workers), elapsed_s=found["elapsed_s"],
        machines=found["machines"], scores=scores,
    )  # fmt: skip
    uri = checkpoint.weights_uri(config.output, plan.name)
    checkpoint.save_weights(uri, found["learner"]["network"], metadata(training, found["learner"]["step"]))
    data = storage.read_bytes(uri)
    text = card(training, name=plan.name, weights_sha256=hashlib.sha256(data).hexdigest(), weights_bytes=len(data))
    storage.write_bytes(checkpoint.card_uri(config.output, plan.name), text.encode("utf-8", "backslashreplace"))
    summary = _summary(plan, scores, "done")
    if in_flow_run():
        show_outcome(summary)
    return summary


def _summary(plan: TaggerPlan, scores: tuple[TaggerScore, ...], otherwise: Outcome) -> TaggerSummary:
    return TaggerSummary(
        network=str(plan.config.network),
        status=otherwise if scores[0].value > scores[0].prior else "no better than its baseline",
        steps=plan.config.steps,
        scores=scores,
        weights=checkpoint.weights_uri(plan.config.output, plan.name),
        card=checkpoint.card_uri(plan.config.output, plan.name),
    )
