"""A training that was stopped ends with the very weights of one that was not; it learns; what is wrong with it is a Problem."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from infra.problem import Problem
from infra.training import RestorerTask
from tasks import checkpoint, scores, train_restorer
from tasks.learn import network_of
from tasks.progress import TrainingProgress
from tasks.scores import scores_of
from tasks.train_restorer import Job, train
from tasks.training import Place
from tests.footage import listed, write_photographs
from tests.tasks.test_learn import TINY

pytestmark = pytest.mark.usefixtures("one_core")
HERE = Place(0, 1, torch.device("cpu"))


@dataclass
class Watcher:
    """Sees everything, and stops at a step."""

    stop_at: int = 1 << 30
    seen: list[TrainingProgress] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def progress(self, found: TrainingProgress) -> bool:
        self.seen.append(found)
        return found.step >= self.stop_at

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "SEQUENCES", dict.fromkeys(RestorerTask, 4))
    monkeypatch.setattr(scores, "FRAMES", {RestorerTask.DENOISE: 3, RestorerTask.UPSCALE_X2: 1})
    monkeypatch.setattr(scores, "SIDE", dict.fromkeys(RestorerTask, 64))
    monkeypatch.setattr("tasks.training.TOLD_EVERY_S", 0.0)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("photographs"), 5)


@pytest.fixture
def job(photographs: Path, tmp_path: Path) -> Callable[..., Job]:
    def make(task: RestorerTask = RestorerTask.UPSCALE_X2, output: str = "out", **more: object) -> Job:
        *learned, held_out = listed(photographs)
        usual = Job(TINY[task], "digest", tuple(learned), (held_out,), str(tmp_path / output), None, 1, 1, 1 << 30, 1e9)
        return replace(usual, **more)  # type: ignore[arg-type]

    return make


def weights(job: Job) -> dict[str, Tensor]:
    found = checkpoint.load_checkpoint(checkpoint.checkpoint_uri(job.output, job.recipe.task))
    assert found is not None
    assert found["learner"]["step"] == job.recipe.steps
    return dict(found["learner"]["network"])


@pytest.mark.parametrize("task", RestorerTask)
def test_a_stopped_training_goes_on_to_the_very_same_weights(task: RestorerTask, job: Callable[..., Job]) -> None:
    undisturbed, stopped = job(task, "a"), job(task, "b")
    train(undisturbed, HERE, Watcher())
    train(stopped, HERE, Watcher(stop_at=4))
    with pytest.raises(AssertionError):
        weights(stopped)
    train(stopped, HERE, Watcher())
    wanted = weights(undisturbed)
    for name, weight in weights(stopped).items():
        assert torch.equal(weight, wanted[name]), name


def test_a_killed_training_goes_on_from_its_last_checkpoint(job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not on the disk is gone: the worker dies in the middle of a batch, without a word."""
    undisturbed, killed = job(output="a"), job(output="b", checkpoint_s=0.0)
    train(undisturbed, HERE, Watcher())
    moved = train_restorer.Learner._moved

    def dies(self: train_restorer.Learner, tensor: Tensor) -> Tensor:
        if self.step == 7:
            raise KeyboardInterrupt
        return moved(self, tensor)

    monkeypatch.setattr(train_restorer.Learner, "_moved", dies)
    with pytest.raises(KeyboardInterrupt):
        train(killed, HERE, Watcher())
    monkeypatch.setattr(train_restorer.Learner, "_moved", moved)
    watcher = Watcher()
    train(killed, HERE, watcher)
    assert watcher.seen[0].step == 7
    wanted = weights(undisturbed)
    assert all(torch.equal(weight, wanted[name]) for name, weight in weights(killed).items())


def test_many_loaders_and_a_pool_that_changes_learn_the_same_each_time(job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.pool.PERIOD_BATCHES", 3)
    small = {"pool_bytes": 7 * 3 * 176 * 176 // 2}
    one, many = job(output="a", **small), job(output="b", loaders=3, **small)
    train(one, HERE, Watcher())
    train(many, HERE, Watcher(stop_at=5))
    train(many, HERE, Watcher())
    wanted = weights(one)
    assert all(torch.equal(weight, wanted[name]) for name, weight in weights(many).items())


def test_learning_brings_the_network_nearer_to_the_held_out_pictures(job: Callable[..., Job]) -> None:
    task = RestorerTask.UPSCALE_X2
    learning = job(recipe=replace(TINY[task], steps=30, batch=4, rate=4e-3))
    torch.manual_seed(1)
    (before,) = scores_of(task, network_of(task), learning.held_out, seed=1, told=print)
    watcher = Watcher()
    train(learning, HERE, watcher)
    found = checkpoint.load_checkpoint(checkpoint.checkpoint_uri(learning.output, task))
    assert found is not None
    assert found["scores"][0]["after_db"] > before.after_db + 0.5
    distances = [seen.distance for seen in watcher.seen if seen.distance is not None]
    assert sum(distances[-5:]) < 0.8 * sum(distances[:5])
    assert [seen.step for seen in watcher.seen if seen.distance is not None] == list(range(1, 31))


def test_weights_before_the_fall_are_kept_and_can_be_begun_with(job: Callable[..., Job]) -> None:
    first = job(recipe=replace(TINY[RestorerTask.UPSCALE_X2], fall=0.4))
    train(first, HERE, Watcher())
    uri = checkpoint.before_fall_uri(first.output, first.recipe.task)
    assert checkpoint.metadata_of(uri) == {"step": str(int(first.recipe.steps * (1 - first.recipe.fall)))}
    network = network_of(first.recipe.task)
    checkpoint.begin_with(network, uri)
    second, fresh = job(output="second", start=uri), job(output="fresh")
    watchers = Watcher(stop_at=1), Watcher(stop_at=1)
    train(second, HERE, watchers[0])
    train(fresh, HERE, watchers[1])
    begun, anew = (next(seen.distance for seen in watcher.seen if seen.distance) for watcher in watchers)
    assert begun != anew


def test_what_is_done_is_not_done_again(job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    done = job()
    train(done, HERE, Watcher())
    monkeypatch.setattr(train_restorer, "Pool", None)
    monkeypatch.setattr(train_restorer, "scores_of", None)
    watcher = Watcher()
    train(done, HERE, watcher)
    assert watcher.seen == []


def test_a_checkpoint_of_something_else_is_refused(job: Callable[..., Job]) -> None:
    train(job(), HERE, Watcher(stop_at=1))
    with pytest.raises(Problem, match="another recipe or corpus"):
        train(job(digest="other"), HERE, Watcher())


def test_a_damaged_checkpoint_is_refused(job: Callable[..., Job]) -> None:
    path = Path(checkpoint.checkpoint_uri(job().output, RestorerTask.UPSCALE_X2))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PK\x03\x04 no checkpoint")
    with pytest.raises(Problem, match="is no checkpoint of a training; remove it"):
        train(job(), HERE, Watcher())


@pytest.mark.parametrize("factor", [float("nan"), 1e6])
def test_a_network_that_comes_apart_ends_the_training_and_does_not_replace_the_checkpoint(
    job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    """A rate that was too high for long made finite weights whose pictures were 30,000 away from the clean ones."""
    train(job(), HERE, Watcher(stop_at=2))
    path = Path(checkpoint.checkpoint_uri(job().output, RestorerTask.UPSCALE_X2))
    before = path.read_bytes()
    monkeypatch.setattr("tasks.learn.distance", lambda found, clean: (found - clean).abs().sum() * factor)
    with pytest.raises(Problem, match=r"came apart: at step 12 its pictures were .* name a lower --rate"):
        train(job(), HERE, Watcher())
    assert path.read_bytes() == before


def test_only_the_first_worker_writes_and_each_has_its_own_files(job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []
    real = train_restorer.Pool

    def pool(files: tuple[object, ...], **more: object) -> object:
        shares.append(set(files))
        return real(files, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(train_restorer, "Pool", pool)
    two = job(recipe=replace(TINY[RestorerTask.UPSCALE_X2], workers=2))
    train(two, replace(HERE, rank=1), Watcher())
    assert not Path(two.output).exists()
    train(two, HERE, Watcher())
    assert shares[0] | shares[1] == set(two.learned)
    assert not shares[0] & shares[1]


def test_a_training_in_s3(job: Callable[..., Job], bucket: str) -> None:
    train(job(output="a"), HERE, Watcher())
    there = job(output="ignored")
    there = replace(there, output=f"s3://{bucket}/out")
    train(there, HERE, Watcher(stop_at=3))
    train(there, HERE, Watcher())
    wanted = weights(job(output="a"))
    assert all(torch.equal(weight, wanted[name]) for name, weight in weights(there).items())


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    uri = str(tmp_path / "w.safetensors")
    checkpoint.save_weights(uri, nn.Linear(1, 1).state_dict(), {})
    with pytest.raises(Problem, match="weights of another network"):
        checkpoint.begin_with(network_of(RestorerTask.DENOISE), uri)
    shutil.copy(__file__, uri)
    with pytest.raises(Problem, match="is not safetensors"):
        checkpoint.begin_with(network_of(RestorerTask.DENOISE), uri)
