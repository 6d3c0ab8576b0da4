"""A tagger learns what was planted, order only where its network can; stopped or killed it ends with the very weights of one that was not."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from infra import storage
from infra.problem import Problem
from infra.training import TaggerConfig
from tasks import checkpoint, train_tagger
from tasks.learn_tagger import TaggerLearner, recipe_of
from tasks.tagger_corpus import Corpus, corpus_of
from tasks.tagger_labels import Sides
from tasks.train_tagger import TaggerJob, name_of, train
from tests import planted
from tests.tasks.test_train_restorer import HERE, Watcher

pytestmark = pytest.mark.usefixtures("one_core")
HELD_OUT = 0.3


@pytest.fixture(scope="module")
def mixtures(tmp_path_factory: pytest.TempPathFactory) -> str:
    return planted.mixtures(tmp_path_factory.mktemp("mixtures"), 160)


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> str:
    return planted.orders(tmp_path_factory.mktemp("orders"), 600)


@cache
def corpus(features: str) -> Corpus:
    return corpus_of(features, [], Sides(HELD_OUT), labels=100, frames=300, piece_bytes=1 << 30)


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., TaggerJob]:
    def make(features: str, network: str = "moe", output: str = "out", checkpoint_s: float = 1e9, **more: object) -> TaggerJob:
        config = TaggerConfig.model_validate({"network": network, "hidden": 32, "clusters": 4, "batch": 16, "buffer_bytes": 1 << 20, **more})
        found = corpus(features)
        return TaggerJob(recipe_of(config, found, workers=1), found, "digest", str(tmp_path / output), 1, checkpoint_s)

    return make


def state(job: TaggerJob) -> dict[str, object]:
    found = checkpoint.load_checkpoint(checkpoint.checkpoint_uri(job.output, name_of(job.recipe.network)))
    assert found is not None
    return found


def weights(job: TaggerJob) -> dict[str, Tensor]:
    learner = state(job)["learner"]
    assert isinstance(learner, dict)
    assert learner["step"] == job.recipe.steps
    return dict(learner["network"])


def scores(job: TaggerJob) -> dict[str, tuple[float, float]]:
    train(job, HERE, Watcher())
    return {score["metric"]: (score["prior"], score["value"]) for score in state(job)["scores"]}  # type: ignore[attr-defined]


@pytest.mark.parametrize("network", ["moe", "netvlad"])
def test_a_mixture_is_learned_by_pooling(network: str, mixtures: str, job: Callable[..., TaggerJob]) -> None:
    found = scores(job(mixtures, network, steps=80))
    assert found.keys() == {"GAP@20", "Hit@1", "PERR", "mAP", "segments MAP@100000"}
    assert all(prior < 0.6 for prior, _ in found.values())
    assert all(value > 0.95 for _, value in found.values())


@pytest.mark.parametrize(("network", "asked"), [("lstm", {"steps": 250, "rate": 3e-3}), ("transformer", {"steps": 600, "rate": 5e-4, "hidden": 64})])
def test_an_order_is_learned_by_networks_that_see_it(network: str, asked: dict[str, object], orders: str, job: Callable[..., TaggerJob]) -> None:
    found = scores(job(orders, network, **asked))
    assert found["Hit@1"][1] > 0.85
    assert found["GAP@20"][1] > 0.9 > 0.6 > found["GAP@20"][0]


@pytest.mark.parametrize("network", ["moe", "netvlad"])
def test_an_order_is_not_learned_by_pooling(network: str, orders: str, job: Callable[..., TaggerJob]) -> None:
    """A video of A before B has the very mean of one of B before A; what the tagger says of it is a coin's word."""
    assert 0.3 < scores(job(orders, network, steps=250, rate=3e-3))["Hit@1"][1] < 0.7


@pytest.mark.parametrize("network", ["moe", "lstm", "netvlad", "transformer"])
def test_a_stopped_and_a_killed_training_go_on_to_the_very_same_weights(
    network: str, mixtures: str, job: Callable[..., TaggerJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not on the disk is gone: the killed one dies in the middle of a batch, without a word."""
    monkeypatch.setattr("tasks.training.TOLD_EVERY_S", 0.0)
    asked = {"steps": 14, "buffer_bytes": 1 << 20}
    undisturbed, stopped, killed = (job(mixtures, network, name, 0.0, **asked) for name in ("a", "b", "c"))
    train(undisturbed, HERE, Watcher())
    train(stopped, HERE, Watcher(stop_at=4))
    train(stopped, HERE, Watcher())
    learn = TaggerLearner.learn

    def dies(self: TaggerLearner, batch: object) -> Tensor:
        if self.step == 9:
            raise KeyboardInterrupt
        return learn(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(TaggerLearner, "learn", dies)
    with pytest.raises(KeyboardInterrupt):
        train(killed, HERE, Watcher())
    monkeypatch.setattr(TaggerLearner, "learn", learn)
    watcher = Watcher()
    train(killed, HERE, watcher)
    assert watcher.seen[0].step == 9
    wanted = weights(undisturbed)
    for other in (stopped, killed):
        assert all(torch.equal(weight, wanted[name]) for name, weight in weights(other).items())


def test_what_is_done_is_not_done_again(mixtures: str, job: Callable[..., TaggerJob], monkeypatch: pytest.MonkeyPatch) -> None:
    done = job(mixtures, steps=2)
    train(done, HERE, Watcher())
    monkeypatch.setattr(train_tagger, "Stream", None)
    watcher = Watcher()
    train(done, HERE, watcher)
    assert watcher.seen == []


def test_a_network_that_comes_apart_ends_the_training_and_does_not_replace_the_checkpoint(
    mixtures: str, job: Callable[..., TaggerJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.training.TOLD_EVERY_S", 0.0)
    going = job(mixtures, steps=6)
    train(going, HERE, Watcher(stop_at=2))
    path = Path(checkpoint.checkpoint_uri(going.output, "tagger-moe"))
    before = path.read_bytes()
    monkeypatch.setattr("tasks.learn_tagger.STEP", float("nan"))
    with pytest.raises(Problem, match=r"came apart at step 6, its loss is nan; name a lower --rate"):
        train(going, HERE, Watcher())
    assert path.read_bytes() == before


def test_only_the_first_worker_writes_and_judges(mixtures: str, job: Callable[..., TaggerJob]) -> None:
    second = job(mixtures, steps=2)
    second = replace(second, recipe=replace(second.recipe, workers=2))
    train(second, replace(HERE, rank=1), Watcher())
    assert not Path(second.output).exists()


def test_a_training_in_s3_has_the_weights_of_one_on_disk(mixtures: str, job: Callable[..., TaggerJob], bucket: str) -> None:
    here = job(mixtures, output="a", steps=4)
    train(here, HERE, Watcher())
    for path in sorted(Path(mixtures).rglob("*.parquet")):
        storage.publish_file(f"s3://{bucket}/features/{path.relative_to(mixtures)}", str(path))
    found = corpus(f"s3://{bucket}/features")
    assert (found.digest, found.labels) == (here.corpus.digest, here.corpus.labels)
    there = replace(here, corpus=found, output=f"s3://{bucket}/out")
    train(there, HERE, Watcher())
    wanted = weights(here)
    assert all(torch.equal(weight, wanted[name]) for name, weight in weights(there).items())
