"""train-restorer: from photographs and videos to the weights of a denoiser or upscaler, and their card.

    plan -> lease -> learn (Ray Train) -> publish

Runs as a Prefect flow, with a server or a temporary one, and as the plain function `train_restorer.fn` without any.
"""

import hashlib
from dataclasses import dataclass

from prefect import flow

from flows.demo import source_video
from flows.licences import read_licences
from flows.options import command_of
from flows.step import in_flow_run, step
from flows.training import Outcome, check_room, show_outcome
from flows.watch import WATCHER, chosen_run_id, note
from infra import storage
from infra.cluster import ray_session
from infra.lease import lease
from infra.problem import Problem
from infra.training import RestorerConfig
from tasks import checkpoint
from tasks.card import SCORE_COLUMNS, Training, card, metadata, score_row, scores_in
from tasks.learn import VERSION, Recipe, network_of, recipe_of
from tasks.material import Split, material_of, split_of
from tasks.scores import Score
from tasks.train_restorer import Job, train
from tasks.training_manifest import Manifest

QUICK_CORPUS = ("bikes.mp4", "bigbuckbunny.mp4")  # of the demo; its other two are too small to learn from
QUICK_REMARK = (
    "Learned with `--quick`, to show that it works: few steps and, where no corpus was named, two videos of the demo. The repository's bench judges "
    "by these very videos, so such weights are never the ones it ships."
)


@dataclass(frozen=True, slots=True)
class RestorerSummary:
    """How a training ended."""

    head = SCORE_COLUMNS

    task: str
    status: Outcome
    steps: int
    scores: tuple[Score, ...]
    weights: str
    card: str

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The scores, for people."""
        return [score_row(score) for score in self.scores]

    @property
    def outcome(self) -> str:
        """In a line."""
        return f"{self.task}: {self.status}; PSNR in dB on held-out files, after {self.steps:,} steps"


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What is to be learned, from what."""

    asked: RestorerConfig  # as it was given
    config: RestorerConfig  # with whole addresses
    split: Split
    start: str | None  # address and digest of the weights it begins with
    known: Manifest[Recipe] | None  # of what the output holds already

    def manifest(self, workers: int) -> Manifest[Recipe]:
        """What is learned, where so many do it."""
        recipe = recipe_of(self.config, workers=workers)
        return Manifest(recipe, self.split.digest, self.config.held_out, self.start, VERSION, files=self.split.listed)


@flow(name="train-restorer", flow_run_name="{config.task}")
def train_restorer(config: RestorerConfig) -> RestorerSummary:
    """Train a restorer, or go on training it, and publish weights and card.

    Raises:
        Problem: the configuration, the corpus or the output is not usable, or the output holds something else.
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
def plan_training(config: RestorerConfig) -> TrainingPlan:
    """List the corpus and compare with what the output holds; opens no media, writes nothing."""
    corpus = config.corpus or ([str(source_video(name)) for name in QUICK_CORPUS] if config.quick else [])
    if not corpus:
        raise Problem("corpus: none is named; add --corpus FOLDER, or --quick for the demo's videos")
    if storage.exists(config.output):
        raise Problem(f"output {config.output}: is a file; name a folder")
    asked, config = config, config.model_copy(update={"corpus": [storage.normal(uri) for uri in corpus], "output": storage.normal(config.output)})
    known = Manifest.read(checkpoint.manifest_uri(config.output, config.task), Recipe.of)
    split = split_of(material_of(config.corpus, known.contents() if known else {}), config.held_out)
    plan = TrainingPlan(asked, config, split, _beginning(config), known)
    read_licences(config.licences)
    if known and (other := known.difference(plan.manifest(config.workers or known.recipe.workers))):
        raise Problem(f"output {config.output}: holds a {config.task} training with {other}; name another --output, or give the same")
    return plan


def _beginning(config: RestorerConfig) -> str | None:
    if config.start is None:
        return None
    digest = hashlib.sha256(storage.read_bytes(config.start)).hexdigest()
    checkpoint.begin_with(network_of(config.task), config.start)
    return f"{config.start.rpartition('/')[2]}, SHA-256 {digest}"


def finished(plan: TrainingPlan) -> RestorerSummary | None:
    """The summary of a training that came to its end before."""
    found = checkpoint.metadata_of(checkpoint.weights_uri(plan.config.output, plan.config.task))
    if found is None:
        return None
    if plan.known is None or found.get("recipe_sha256") != plan.known.digest:
        uri = checkpoint.weights_uri(plan.config.output, plan.config.task)
        raise Problem(f"{uri}: is of another training; name another --output, or move it away")
    if not storage.exists(checkpoint.card_uri(plan.config.output, plan.config.task)):
        return None
    return _summary(plan, tuple(scores_in(found)), "nothing to do")


@step(name="learn")
def learn(plan: TrainingPlan) -> Manifest[Recipe]:
    """Learn what is left, on Ray.

    Raises:
        Problem: the corpus is of no use, or storage fails.
    """
    config = plan.config
    with ray_session(config.cluster, preload=("tasks.trainers", "tasks.train_restorer")) as found:
        from tasks.trainers import train_on_ray  # brings Ray Train, which a training with nothing to do need not load

        manifest = plan.known or plan.manifest(config.workers or max(1, found.gpus))
        check_room(manifest.recipe.workers, found)
        storage.write_bytes(checkpoint.manifest_uri(config.output, config.task), manifest.encoded())
        job = Job(
            recipe=manifest.recipe,
            digest=manifest.digest,
            learned=tuple(file.found for file in plan.split.learned),
            held_out=tuple(file.found for file in plan.split.held_out),
            output=config.output,
            start=config.start and storage.normal(config.start),
            threads=config.threads,
            loaders=config.loaders,
            pool_bytes=config.pool_bytes,
            checkpoint_s=config.checkpoint_s,
        )
        train_on_ray(train, job, workers=manifest.recipe.workers, on_gpus=found.gpus > 0, show=WATCHER.get().show, note=note)
    return manifest


@step(name="publish")
def publish(plan: TrainingPlan, manifest: Manifest[Recipe]) -> RestorerSummary:
    """Weights, then their card, out of the last checkpoint."""
    config = plan.config
    found = checkpoint.load_checkpoint(checkpoint.checkpoint_uri(config.output, config.task))
    if found is None or not found["scores"]:
        raise Problem(f"output {config.output}: the training came to no end; run the same command again")
    scores = tuple(Score(**score) for score in found["scores"])
    training = Training(
        recipe=manifest.recipe, split=plan.split, digest=manifest.digest, held_out_share=config.held_out, start=plan.start,
        licences=read_licences(config.licences), command=command_of("vidmill train restorer", plan.asked, workers=manifest.recipe.workers),
        elapsed_s=found["elapsed_s"],
        machines=found["machines"], scores=scores, remarks=(QUICK_REMARK,) if config.quick else (),
    )  # fmt: skip
    uri = checkpoint.weights_uri(config.output, config.task)
    checkpoint.save_weights(uri, found["learner"]["network"], metadata(training, found["learner"]["step"]))
    data = storage.read_bytes(uri)
    text = card(training, weights_sha256=hashlib.sha256(data).hexdigest(), weights_bytes=len(data))
    storage.write_bytes(checkpoint.card_uri(config.output, config.task), text.encode("utf-8", "backslashreplace"))
    summary = _summary(plan, scores, "done")
    if in_flow_run():
        show_outcome(summary)
    return summary


def _summary(plan: TrainingPlan, scores: tuple[Score, ...], otherwise: Outcome) -> RestorerSummary:
    config = plan.config
    return RestorerSummary(
        task=str(config.task),
        status="no better than its baseline" if any(score.lost for score in scores) else otherwise,
        steps=recipe_of(config, workers=1).steps,
        scores=scores,
        weights=checkpoint.weights_uri(config.output, config.task),
        card=checkpoint.card_uri(config.output, config.task),
    )
