"""`vidmill train tagger`: what a person sees and finds, first with the training in this process, then, nightly, as a process on Ray."""

import json
import signal
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import tasks.trainers
from flows import cli
from flows import train_tagger as flow
from infra.cluster import Resources
from models.tagger import Tagger, read_shape
from tasks.train_tagger import TaggerJob
from tasks.training import Place
from tests import planted
from tests.corpus import table
from tests.flows.program import program, until

Screen = pytest.CaptureFixture[str]
Command = Callable[..., tuple[int, str, str]]
TINY = ("--steps", "30", "--batch", "16", "--held-out", "0.3", "--threads", "1")
END_S = 600  # these learn for real, on a machine that may be busy


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> str:
    return planted.mixtures(tmp_path_factory.mktemp("mixtures"), 60)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, one_core: None) -> list[TaggerJob]:
    """Trains in this process; what was asked for is recorded."""
    jobs = []

    class Onlooker:
        def __init__(self, show: Callable[[Any], None], note: Callable[[str], None]) -> None:
            self.show, self.note = show, note

        def progress(self, found: object) -> bool:
            self.show(found)
            return False

    def in_process(
        train: Callable[..., None], job: TaggerJob, *, workers: int, on_gpus: bool, show: Callable[[Any], None], note: Callable[[str], None]
    ) -> None:
        jobs.append(job)
        train(job, Place(0, 1, torch.device("cpu")), Onlooker(show, note))

    monkeypatch.setattr(flow, "ray_session", lambda *_, **__: nullcontext(Resources(2, 0)))
    monkeypatch.setattr(tasks.trainers, "train_on_ray", in_process)
    monkeypatch.chdir(tmp_path)
    return jobs


@pytest.fixture
def command(here: list[TaggerJob], features: str, capsys: Screen) -> Command:
    """`vidmill train tagger` over the planted features, here."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.execute(["train", "tagger", "--features", features, "--output", "out", *arguments])
        screen = capsys.readouterr()
        return code, screen.out, screen.err

    return run


def test_a_training_leaves_a_tagger_a_card_and_a_table(command: Command, features: str) -> None:
    code, out, err = command(*TINY)
    assert code == cli.DONE, err
    assert [line.split()[0] for line in out.splitlines()[1:5]] == ["GAP@20", "Hit@1", "PERR", "mAP"]
    assert "moe: done; scores on held-out clips, after 30 steps" in out
    assert "step 30/30" in err.splitlines()[-1]
    shape = read_shape("out/tagger-moe.safetensors")
    assert (shape.network, set(shape.labels)) == ("moe", {"ant", "bee", "cat", "dog", "eel", "5"})
    assert [(source.model, source.width) for source in shape.inputs] == [("yt8m-inception3", 1024), ("yt8m-vggish", 128)]
    card = Path("out/tagger-moe.md").read_text()
    for words in (
        "claims no score on the real YouTube-8M",
        "| GAP@20 |",
        "| segments MAP@100000 |",
        "torch 2",
        f"vidmill train tagger --features {features} --output out --held-out 0.3 --steps 30 --batch 16 --threads 1 --workers 1\n",
    ):
        assert words in card


def test_the_tagger_tags(command: Command, features: str) -> None:
    command(*TINY, "--steps", "80")
    tagger = Tagger("out/tagger-moe.safetensors")
    rows = table(features, "embeddings/model=yt8m-inception3")
    others = dict(zip(*(table(features, "embeddings/model=yt8m-vggish")[name].to_pylist() for name in ("clip_id", "embedding")), strict=True))
    frames = [
        torch.tensor([mean + others[clip]]).numpy() for clip, mean in zip(rows["clip_id"].to_pylist(), rows["embedding"].to_pylist(), strict=True)
    ]
    best = tagger.scores(frames).argmax(1)
    said = table(features, "clips")
    right = [
        tagger.shape.labels[column] in {name or str(key) for key, name in zip(ids, names, strict=True)}
        for column, ids, names in zip(best, said["label_ids"].to_pylist(), said["labels"].to_pylist(), strict=True)
    ]
    assert sum(right) / len(right) > 0.9


def test_a_finished_training_does_nothing_again_and_a_lost_card_comes_back(command: Command, here: list[TaggerJob]) -> None:
    assert command(*TINY)[0] == cli.DONE
    weights = Path("out/tagger-moe.safetensors")
    before = weights.read_bytes(), weights.stat().st_mtime_ns
    code, out, _ = command(*TINY, "--json")
    told = json.loads(out)
    assert (code, told["status"], told["scores"][0]["metric"], len(here)) == (cli.DONE, "nothing to do", "GAP@20", 1)
    assert (weights.read_bytes(), weights.stat().st_mtime_ns) == before
    Path("out/tagger-moe.md").unlink()
    command(*TINY)
    assert Path("out/tagger-moe.md").exists()
    assert weights.read_bytes() == before[0]


def test_what_is_no_better_than_frequencies_says_so_each_time(command: Command, here: list[TaggerJob], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.tagger_scores.global_average_precision", lambda *_: 0.3)
    for _ in range(2):
        code, out, _ = command(*TINY, "--steps", "1")
        assert (code, "moe: no better than its baseline" in out) == (cli.INCOMPLETE, True)
    assert len(here) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--steps", "9"), "holds a tagger-moe training with steps 30 (asked for: 9)"),
        (("--inputs", "yt8m-vggish"), "training with inputs "),
        (("--held-out", "0.4"), "training with held-out 0.3 (asked for: 0.4)"),
    ],
)
def test_another_recipe_in_the_same_output_is_refused(arguments: tuple[str, ...], words: str, command: Command, here: list[TaggerJob]) -> None:
    command(*TINY)
    code, out, err = command(*TINY, *arguments)
    assert (code, out, len(here), err.count("\n")) == (cli.USAGE, "", 1, 1)
    assert words in err


def test_networks_share_an_output(command: Command) -> None:
    for network in ("lstm", "netvlad", "transformer"):
        command(*TINY, "--steps", "2", "--network", network, "--hidden", "8", "--inputs", "yt8m-vggish")
    assert {path.name for path in Path("out").glob("*.safetensors")} == {f"tagger-{name}.safetensors" for name in ("lstm", "netvlad", "transformer")}
    assert read_shape("out/tagger-lstm.safetensors").width == 128


BAD = {
    "no features": (("--features", ""), ("features: none are named", "vidmill run")),
    "gone": (("--features", "gone"), ("gone: holds no embeddings",)),
    "unknown input": (("--inputs", "resnet"), ("inputs resnet", "it has yt8m-inception3, yt8m-vggish")),
    "no such split": (("--held-out-split", "val"), ("leave none to judge by", "another --held-out-split than val")),
    "output is a file": (("--output", "x.txt"), ("output x.txt", "is a file")),
    "unknown network": (("--network", "mamba"), ("--network", "one of moe, lstm, netvlad, transformer")),
    "heads": (("--network", "transformer", "--heads", "3"), ("hidden: 256 must be even, and a multiple of heads, 3",)),
    "secret": (("--features", "s3://key:secret@bucket/x"), ("credentials", "refused")),
    "too many workers": (("--workers", "3"), ("workers 3", "2 CPU cores")),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name: str, command: Command, here: list[TaggerJob]) -> None:
    arguments, words = BAD[name]
    Path("x.txt").write_text("some text")
    code, out, err = command(*TINY, *arguments)
    assert (code, out, err.count("\n")) == (cli.USAGE, "", 1), err
    assert "secret" not in err
    for word in words:
        assert word in err
    assert not here


@pytest.mark.nightly
def test_a_killed_and_a_stopped_training_end_with_the_weights_of_an_undisturbed_one(tmp_path: Path, features: str) -> None:
    """P4, on Ray: SIGKILL goes on from the last checkpoint, SIGTERM writes one first."""
    asked = ["--features", features, "--network", "lstm", "--hidden", "64", "--steps", "400", "--batch", "16", "--held-out", "0.3", "--threads", "1",
             "--checkpoint-s", "0.2", "--cluster.cpus", "2"]  # fmt: skip

    def trained(output: Path) -> int:
        with program("train", "tagger", *asked, "--output", output, cwd=tmp_path) as started:
            return started.end(END_S)[0]

    assert trained(tmp_path / "a") == 0
    for number, code in ((signal.SIGKILL, -9), (signal.SIGTERM, 3)):
        output = tmp_path / number.name
        with program("train", "tagger", *asked, "--output", output, cwd=tmp_path) as started:
            assert until((output / "checkpoints" / "tagger-lstm.pt").exists, timeout_s=END_S)
            started.process.send_signal(number)
            found, out, err = started.end(60)
            assert (found, out) == (code, ""), err
        assert not (output / "tagger-lstm.safetensors").exists()
        assert trained(output) == 0
        wanted = load_file(tmp_path / "a" / "tagger-lstm.safetensors")
        assert all(torch.equal(weight, wanted[name]) for name, weight in load_file(output / "tagger-lstm.safetensors").items())


@pytest.mark.nightly
def test_two_workers_learn_together(tmp_path: Path, features: str) -> None:
    asked = ["--features", features, "--output", "out", *TINY, "--workers", "2", "--cluster.cpus", "2", "--json"]
    with program("train", "tagger", *asked, cwd=tmp_path) as started:
        code, out, err = started.end(END_S)
    assert code == 0, err
    assert json.loads(out)["scores"][0]["value"] > 0.6
    assert "in each of 2 worker(s)" in (tmp_path / "out" / "tagger-moe.md").read_text()
