"""`vidmill train restorer`: what a person sees and finds, first with the training in this process, then, nightly, as a process on Ray."""

import json
import signal
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from prefect.settings import PREFECT_API_URL, temporary_settings
from safetensors import safe_open
from safetensors.torch import load_file

import tasks.trainers
from flows import cli
from flows import train_restorer as flow
from infra import storage
from infra.cluster import Resources
from infra.training import RestorerTask
from models.upscaler import Upscaler
from tasks import scores
from tasks.train_restorer import Job
from tasks.training import Place
from tests.flows.program import program, until
from tests.footage import write_photographs
from tests.prefect_server import prefect_server

Screen = pytest.CaptureFixture[str]
Command = Callable[..., tuple[int, str, str]]
TINY = ("--steps", "8", "--batch", "2", "--side", "32", "--threads", "1")
NIGHTLY = ("--steps", "200", "--batch", "4", "--side", "48", "--threads", "1", "--checkpoint-s", "0.2", "--cluster.cpus", "2")
END_S = 1200  # these learn for real, on a machine that may be busy


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, one_core: None) -> list[Job]:
    """Trains in this process; what was asked for is recorded."""
    jobs = []

    class Onlooker:
        def __init__(self, show: Callable[[Any], None], note: Callable[[str], None]) -> None:
            self.show, self.note = show, note

        def progress(self, found: object) -> bool:
            self.show(found)
            return False

    def in_process(
        train: Callable[..., None], job: Job, *, workers: int, on_gpus: bool, show: Callable[[Any], None], note: Callable[[str], None]
    ) -> None:
        jobs.append(job)
        train(job, Place(0, 1, torch.device("cpu")), Onlooker(show, note))

    monkeypatch.setattr(flow, "ray_session", lambda *_, **__: nullcontext(Resources(2, 0)))
    monkeypatch.setattr(tasks.trainers, "train_on_ray", in_process)
    monkeypatch.setattr(scores, "SEQUENCES", dict.fromkeys(RestorerTask, 3))
    monkeypatch.setattr(scores, "FRAMES", {RestorerTask.DENOISE: 3, RestorerTask.UPSCALE_X2: 1})
    monkeypatch.setattr(scores, "SIDE", dict.fromkeys(RestorerTask, 64))
    write_photographs(tmp_path / "corpus", 5)
    monkeypatch.chdir(tmp_path)
    return jobs


@pytest.fixture
def command(here: list[Job], capsys: Screen) -> Command:
    """`vidmill train restorer` with a corpus, here."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.execute(["train", "restorer", "--corpus", "corpus", "--output", "out", *arguments])
        screen = capsys.readouterr()
        return code, screen.out, screen.err

    return run


def test_a_training_leaves_weights_a_card_and_a_table(command: Command, tmp_path: Path) -> None:
    (tmp_path / "l.yaml").write_text("'*.png': CC0-1.0\n")
    code, out, err = command(*TINY, "--licences", "l.yaml")
    assert code == cli.INCOMPLETE, err  # eight steps do not beat bicubic
    assert out.splitlines()[0].split() == ["condition", "before", "after", "gain"]
    assert "upscale-x2: no better than its baseline; PSNR in dB on held-out files, after 8 steps" in out
    assert "step 0/8" in err.splitlines()[0]
    assert "step 8/8" in err.splitlines()[-1]
    network = Upscaler()
    network.load_state_dict(load_file("out/upscale-x2.safetensors"))
    with safe_open("out/upscale-x2.safetensors", "pt") as file:  # type: ignore[no-untyped-call]
        told = file.metadata()
    assert (told["task"], told["architecture"], told["steps"]) == ("upscale-x2", "upscaler-x2-1", "8")
    card = Path("out/upscale-x2.md").read_text()
    assert "CC0-1.0" in card
    assert "vidmill train restorer --corpus corpus --licences l.yaml --output out --steps 8 --batch 2 --side 32 --threads 1 --workers 1" in card
    assert told["recipe_sha256"] in card


def test_a_finished_training_does_nothing_again(command: Command, here: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores.Score, "lost", False)
    assert command(*TINY)[0] == cli.DONE
    before = Path("out/upscale-x2.safetensors").stat().st_mtime_ns
    code, out, _ = command(*TINY, "--json")
    assert (code, json.loads(out)["status"]) == (cli.DONE, "nothing to do")
    assert len(here) == 1
    assert Path("out/upscale-x2.safetensors").stat().st_mtime_ns == before


def test_a_result_that_is_no_better_stays_so(command: Command, here: list[Job]) -> None:
    codes = [command(*TINY, "--json") for _ in range(2)]
    assert [code for code, _, _ in codes] == [cli.INCOMPLETE] * 2
    assert json.loads(codes[1][1])["status"] == "no better than its baseline"
    assert len(here) == 1


def test_a_lost_card_or_weights_file_comes_back_from_the_checkpoint(command: Command, here: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    command(*TINY)
    weights, card = Path("out/upscale-x2.safetensors"), Path("out/upscale-x2.md")
    before = weights.read_bytes()
    for lost in (card, weights):
        lost.unlink()
        command(*TINY)
        assert weights.read_bytes() == before
        assert "upscaler-x2-1" in card.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--steps", "9"), ("holds a upscale-x2 training with steps 8 (asked for: 9)", "name another --output")),
        (("--seed", "2"), ("seed 1 (asked for: 2)",)),
        (("--held-out", "0.7"), ("held-out 0.1 (asked for: 0.7)",)),
        (("--corpus", "corpus,more"), ("other files in its corpus",)),
    ],
)
def test_another_recipe_in_the_same_output_is_refused(
    arguments: tuple[str, ...], words: tuple[str, ...], command: Command, here: list[Job], tmp_path: Path
) -> None:
    command(*TINY)
    write_photographs(tmp_path / "more", 1, side=200)
    code, out, err = command(*TINY, *arguments)
    assert (code, out, len(here)) == (cli.USAGE, "", 1)
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def test_two_tasks_share_an_output(command: Command, here: list[Job]) -> None:
    command(*TINY)
    command(*TINY, "--task", "denoise", "--stretch", "1")
    assert {path.name for path in Path("out").glob("*.*")} == {"upscale-x2.safetensors", "upscale-x2.md", "denoise.safetensors", "denoise.md"}
    assert [job.recipe.task for job in here] == list(reversed(RestorerTask))


BAD = {
    "no corpus": ((), ("corpus: none is named", "--quick")),
    "gone": (("--corpus", "gone"), ("gone", "not found")),
    "one file": (("--corpus", "corpus/photograph-0.png"), ("add a second file",)),
    "no pictures": (("--corpus", "."), ("no photograph or video",)),
    "output is a file": (("--corpus", "corpus", "--output", "x.txt"), ("output x.txt", "is a file")),
    "unknown task": (("--corpus", "corpus", "--task", "paint"), ("--task", "one of denoise, upscale-x2")),
    "side": (("--corpus", "corpus", "--side", "33"), ("--side", "multiple of 16")),
    "secret": (("--corpus", "s3://key:secret@bucket/x"), ("credentials", "refused")),
    "start gone": (("--corpus", "corpus", "--start", "w.safetensors"), ("w.safetensors", "not found")),
    "start is something else": (("--corpus", "corpus", "--start", "x.txt"), ("start x.txt", "is not safetensors")),
    "licences": (("--corpus", "corpus", "--licences", "x.txt"), ("licences x.txt", "GLOB: LICENCE")),
    "too many workers": (("--corpus", "corpus", "--workers", "3"), ("workers 3", "2 CPU cores")),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name: str, here: list[Job], tmp_path: Path, capsys: Screen) -> None:
    arguments, words = BAD[name]
    (tmp_path / "x.txt").write_text("some text")
    if name == "no pictures":
        for path in (tmp_path / "corpus").iterdir():
            path.unlink()
    assert cli.execute(["train", "restorer", *TINY, *arguments]) == cli.USAGE
    screen = capsys.readouterr()
    assert screen.out == ""
    assert screen.err.count("\n") == 1, screen.err
    assert "secret" not in screen.err
    for word in words:
        assert word in screen.err
    assert not here


def test_a_yaml_file_says_the_same_as_flags(here: list[Job], tmp_path: Path, capsys: Screen) -> None:
    (tmp_path / "t.yaml").write_text("task: denoise\ncorpus: [corpus]\nsteps: 4\nbatch: 1\nside: 32\nstretch: 1\nthreads: 1\noutput: out\n")
    cli.execute(["train", "restorer", "t.yaml", "--seed", "3"])
    capsys.readouterr()
    (job,) = here
    assert (job.recipe.task, job.recipe.steps, job.recipe.seed, job.output) == (RestorerTask.DENOISE, 4, 3, str(tmp_path / "out"))
    (tmp_path / "t.yaml").write_text("corpus: [corpus]\nstep: 4\n")
    assert cli.execute(["train", "restorer", "t.yaml"]) == cli.USAGE
    assert "t.yaml:2:1: step: is not a field" in (told := capsys.readouterr().err)
    assert "did you mean steps?" in told


def test_quick_learns_from_the_demos_videos_and_says_so(here: list[Job], capsys: Screen) -> None:
    cli.execute(["train", "restorer", "--quick", "--steps", "1", "--batch", "1", "--side", "32", "--threads", "1"])
    capsys.readouterr()
    (job,) = here
    assert [Path(file.uri).name for file in (*job.learned, *job.held_out)] == ["bikes.mp4", "bigbuckbunny.mp4"]
    card = Path("vidmill-restorer/upscale-x2.md").read_text()
    assert "two videos of the demo" in card
    assert "never the ones it ships" in card
    assert "vidmill train restorer --quick --steps 1 --batch 1 --side 32 --threads 1 --workers 1\n" in card


def test_an_unforeseen_error_leaves_a_log_without_secrets_and_nothing_else_leaves_one(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P12: without redact_file in flows.train what a library prints would stay in the log as it is."""
    secret = "wJalrXUtnFEMIK7MDENGbPxRfiCY"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    command(*TINY, "--corpus", "gone")
    command(*TINY)
    assert list((tmp_path / "temporary").glob("vidmill-*")) == []

    def fail(*_: object, **__: object) -> None:
        print(f"printed {secret}")
        raise RuntimeError(f"signed with {secret}")

    monkeypatch.setattr(tasks.trainers, "train_on_ray", fail)
    code, out, err = command(*TINY, "--output", "other")
    assert (code, out) == (cli.INCOMPLETE, "")
    (log,) = (tmp_path / "temporary").glob("vidmill-*/train.log")
    assert f"the traceback is in {log}" in err
    text = log.read_text()
    assert "printed [AWS_SECRET_ACCESS_KEY]" in text
    assert "RuntimeError: signed with [AWS_SECRET_ACCESS_KEY]" in text
    assert secret not in text + err


@pytest.mark.nightly
def test_a_training_under_prefect_shows_its_steps_and_its_scores(here: list[Job], capsys: Screen, tmp_path: Path) -> None:
    (tmp_path / "prefect").mkdir()
    with prefect_server(tmp_path / "prefect") as server, temporary_settings({PREFECT_API_URL: server.api}):
        cli.execute(["train", "restorer", "--corpus", "corpus", "--output", "out", *TINY])
        assert "after 8 steps" in capsys.readouterr().out
        run = server.flow_run(name={"any_": ["upscale-x2"]})
        assert run["state_type"] == "COMPLETED"
        assert server.task_runs(run["id"]) == {"plan": ("Completed", 1), "learn": ("Completed", 1), "publish": ("Completed", 1)}
        (artifact,) = server.call("artifacts/filter", artifacts={"flow_run_id": {"any_": [run["id"]]}})
        assert artifact["key"] == "scores"
        assert [row["condition"] for row in json.loads(artifact["data"])] == ["bicubic"]


def trained(folder: Path, output: object, *more: object) -> tuple[int, str, str]:
    with program("train", "restorer", "--corpus", folder / "corpus", "--output", output, *NIGHTLY, *more, cwd=folder) as started:
        return started.end(END_S)


def under_way(output: Path) -> Callable[[], bool]:
    return lambda: (output / "checkpoints" / "upscale-x2.pt").exists()


@pytest.mark.nightly
def test_a_killed_and_a_stopped_training_end_with_the_weights_of_an_undisturbed_one(tmp_path: Path) -> None:
    write_photographs(tmp_path / "corpus", 6, side=256)
    assert trained(tmp_path, "a")[0] in (0, 1)
    for number, code in ((signal.SIGKILL, -9), (signal.SIGTERM, 3), (signal.SIGINT, 3)):
        output = tmp_path / number.name
        arguments = ["train", "restorer", "--corpus", tmp_path / "corpus", "--output", output, *NIGHTLY]
        with program(*arguments, cwd=tmp_path) as started:
            assert until(under_way(output), timeout_s=END_S)
            started.process.send_signal(number)
            found, out, err = started.end(60)
            assert (found, out) == (code, ""), err
            assert "Traceback" not in err
            if code == 3:
                assert "interrupted" in err.splitlines()[-1]
                assert until(lambda: not started.family(), timeout_s=10), started.family()
        assert not (output / "upscale-x2.safetensors").exists()
        assert trained(tmp_path, output)[0] in (0, 1)
        assert load_all(output) == load_all(tmp_path / "a")


def load_all(output: Path) -> dict[str, list[float]]:
    return {name: weight.flatten().tolist() for name, weight in load_file(output / "upscale-x2.safetensors").items()}


@pytest.mark.nightly
def test_two_workers_learn_together_in_s3(tmp_path: Path, bucket: str) -> None:
    for path in write_photographs(tmp_path / "local", 6, side=256).iterdir():
        storage.publish_file(f"s3://{bucket}/photographs/{path.name}", str(path))
    arguments = ["--corpus", f"s3://{bucket}/photographs/", "--output", f"s3://{bucket}/out", *NIGHTLY, "--workers", "2", "--json"]
    with program("train", "restorer", *arguments, cwd=tmp_path) as started:
        code, out, err = started.end(END_S)
    assert code in (0, 1), err
    assert json.loads(out)["weights"] == f"s3://{bucket}/out/upscale-x2.safetensors"
    assert b"in each of 2 worker(s)" in storage.read_bytes(f"s3://{bucket}/out/upscale-x2.md")


@pytest.mark.nightly
def test_quick_beats_bicubic_on_its_held_out_video(tmp_path: Path) -> None:
    with program("train", "restorer", "--quick", "--json", cwd=tmp_path) as started:
        code, out, err = started.end(END_S)
    assert code == 0, err
    (score,) = json.loads(out)["scores"]
    assert score["after_db"] > score["before_db"] + 0.5
