"""Bad input is one line, exit code 2, before Ray starts, and nothing is written; exit codes of everything else."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from flows import cli
from infra import cluster, disk
from tests.corpus import clip, files, name_of, write_tar
from tests.flows.program import vidmill
from tests.tasks.runs import run, settings

Screen = pytest.CaptureFixture[str]
KINETICS = ("--source.kind", "kinetics", "--source.uri")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with one good shard; Ray must not start."""
    write_tar(tmp_path / "tars" / "part_0.tar.gz", {f"{name_of(0)}.mp4": clip(0)})
    monkeypatch.chdir(tmp_path)

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(cluster, "_start", refuse)
    return tmp_path


def make(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


BAD: dict[str, tuple[Callable[[Path], object], tuple[str, ...], tuple[str, ...]]] = {
    "missing source": (lambda _: None, (*KINETICS, "gone/part_0.tar"), ("gone/part_0.tar", "not found", "check the spelling")),
    "missing folder": (lambda _: None, (*KINETICS, "gone/part_*.tar"), ("gone", "not found", "check the spelling")),
    "empty prefix": (lambda here: (here / "empty").mkdir(), (*KINETICS, "empty"), ("source.uri empty", "nothing matches", "check the path")),
    "wrong glob": (lambda _: None, (*KINETICS, "tars/train_*.tar"), ("tars/train_*.tar", "nothing matches", "check the path and the pattern")),
    "wrong kind": (lambda _: None, ("--source.kind", "files", "--source.uri", "tars"), ("part_0.tar.gz", "none of 1", "source.kind, which is files")),
    "no such kind": (lambda _: None, ("--source.kind", "kinetic", "--source.uri", "tars"), ("--source.kind", "did you mean kinetics?")),
    "unknown flag": (lambda _: None, (*KINETICS, "tars", "--source.urii", "x"), ("--source.urii", "--source.uri", "--help")),
    "model typo": (lambda _: None, (*KINETICS, "tars", "--embed", "eficientnet-lite0"), ("eficientnet-lite0", "did you mean efficientnet-lite0?")),
    "no model": (lambda _: None, (*KINETICS, "tars", "--embed="), ("embed, tag and enhance are all empty", "name a model")),
    "output is a file": (lambda here: make(here / "out", "x"), (*KINETICS, "tars"), ("output out", "is a file", "name a folder")),
    "output below a file": (lambda here: make(here / "f", "x"), (*KINETICS, "tars", "--output", "f/out"), ("f/out", "is a file", "name a folder")),
    "output inside the source": (lambda _: None, (*KINETICS, "tars", "--output", "tars/out"), ("output tars/out", "looks for input", "outside")),
    "no output right": (lambda _: None, (*KINETICS, "tars", "--output", "/sys/vidmill"), ("/sys/vidmill", "denied", "check owner and mode")),
    "annotations are no table": (
        lambda here: make(here / "a.csv", "a,b\n1,2,3\n"),
        (*KINETICS, "tars", "--source.annotations", "a.csv"),
        ("a.csv", "not a CSV table", "it needs label,youtube_id"),
    ),
    "annotations lack a column": (
        lambda here: make(here / "a.csv", "label,youtube_id\nx,y\n"),
        (*KINETICS, "tars", "--source.annotations", "a.csv"),
        ("a.csv", "time_start is missing", "its columns are label, youtube_id"),
    ),
    "annotations missing": (lambda _: None, (*KINETICS, "tars", "--source.annotations", "a.csv"), ("a.csv", "not found", "check the spelling")),
    "replacements missing": (lambda _: None, (*KINETICS, "tars", "--source.replacements", "r.tgz"), ("r.tgz", "not found", "check the spelling")),
    "configuration missing": (lambda here: make(here / "k400.yaml", "x: 1"), ("k40.yaml",), ("k40.yaml", "no such file", "did you mean k400.yaml?")),
    "scheme unknown": (lambda _: None, (*KINETICS, "ftp://host/x"), ("ftp", "not supported", "s3://bucket/key")),
    "a truth for a number": (lambda here: make(here / "c.yaml", "decode: {fps: yes}"), ("c.yaml", *KINETICS, "tars"), ("c.yaml:1:15", "a number")),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_writes_nothing(name: str, place: Path, capsys: Screen) -> None:
    prepare, arguments, words = BAD[name]
    prepare(place)
    before = sorted(place.rglob("*"))
    output = () if "--output" in arguments else ("--output", "out")
    assert cli.execute(["run", *arguments, *output]) == cli.USAGE
    screen = capsys.readouterr()
    assert screen.out == ""
    assert screen.err.startswith("vidmill: error: ")
    assert "Traceback" not in screen.err
    told = [line for line in screen.err.splitlines() if " | " not in line]  # a YAML error shows its line below
    assert len(told) == 1
    for word in words:
        assert word in told[0]
    assert sorted(place.rglob("*")) == before


def test_weights_of_another_digest_are_refused(place: Path, capsys: Screen) -> None:
    make(place / "w.pth", "not weights")
    model = {"name": "mine", "factory": "torch.nn:Identity", "weights": f"file:{place}/w.pth", "sha256": "0" * 64}
    assert cli.execute(["run", *KINETICS, "tars", "--output", "out", "--models", json.dumps([model]), "--embed", "mine"]) == cli.USAGE
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "w.pth" in told
    assert "0000" in told
    assert not (place / "out").exists()


def test_several_errors_are_one_line_each(place: Path, capsys: Screen) -> None:
    assert cli.execute(["run", "--decode.fps", "0", "--limits.max-bytes", "x"]) == cli.USAGE
    lines = capsys.readouterr().err.splitlines()
    fields = ("decode.fps", "limits.max-bytes", "source.kind", "source.uri", "output")
    assert sorted(next(name for name in fields if name in line) for line in lines) == sorted(fields)


def test_an_endpoint_that_does_not_answer_and_no_bucket(place: Path, s3: str, monkeypatch: pytest.MonkeyPatch, capsys: Screen) -> None:
    assert cli.execute(["run", *KINETICS, "s3://nobody-has-this-bucket/x/", "--output", "out"]) == cli.USAGE
    assert "no such bucket" in capsys.readouterr().err
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert cli.execute(["run", *KINETICS, "s3://bucket/x/", "--output", "out"]) == cli.USAGE
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "s3://bucket/x" in told
    assert "cannot be reached" in told
    assert "check AWS_ENDPOINT_URL" in told


def test_a_full_disk_is_told_before_ray_starts(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Screen) -> None:
    file = disk.File
    monkeypatch.setattr(disk, "File", lambda *_: file("/dev/full", "wb"))  # every write to it fails as on a full disk
    assert cli.execute(["run", *KINETICS, "tars", "--output", "out"]) == cli.USAGE
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "no space left; free some space" in told


def test_a_bad_command_ends_fast_as_a_process_too(tmp_path: Path) -> None:
    code, out, err = vidmill("run", *KINETICS, "gone.tar", "--output", "out", cwd=tmp_path)
    assert (code, out) == (2, "")
    assert err == f"vidmill: error: {tmp_path}/gone.tar: not found; check the spelling\n"


def test_a_plan_loads_neither_ray_nor_torch(place: Path) -> None:
    script = (
        "import sys; from flows import cli; code = cli.execute(sys.argv[1:]); "
        "print([name for name in ('ray', 'torch', 'prefect', 'av') if name in sys.modules]); sys.exit(code)"
    )
    found = subprocess.run([sys.executable, "-c", script, "plan", *KINETICS, "tars", "--output", "out"], capture_output=True, text=True, check=True)
    assert "next: vidmill run" in found.stdout
    assert found.stdout.splitlines()[-1] == "[]"


def test_a_bug_is_one_line_with_the_path_of_its_traceback(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Screen) -> None:
    monkeypatch.setattr("flows.preflight.plan_run", lambda *_: {}["a bug"])
    for command in ("plan", "run"):
        assert cli.execute([command, *KINETICS, "tars", "--output", "out"]) == cli.INCOMPLETE
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert told.startswith("vidmill: error: KeyError: 'a bug'; the traceback is in /")
        log = Path(told.partition("traceback is in ")[2].partition(";")[0])
        assert "Traceback (most recent call last)" in log.read_text()
        log.unlink()


def test_what_was_finished_is_kept_is_said_on_an_interrupt(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Screen) -> None:
    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("flows.preflight.plan_run", interrupt)
    assert cli.execute(["plan", *KINETICS, "tars", "--output", "out"]) == cli.INTERRUPTED
    assert capsys.readouterr().err == "vidmill: error: interrupted; what was finished is kept, run the same command to go on\n"


def test_init_writes_a_file_that_plan_accepts_once(place: Path, capsys: Screen) -> None:
    assert cli.execute(["init", "k.yaml", *KINETICS, "tars", "--output", "out"]) == cli.DONE
    assert cli.execute(["plan", "k.yaml", "--json"]) == cli.DONE
    screen = capsys.readouterr().out
    plan = json.loads(screen[screen.index("{") :])
    assert (plan["shards"], [work["shard"] for work in plan["work"]]) == (1, ["part_0"])
    assert cli.execute(["init", "k.yaml"]) == cli.USAGE
    assert "k.yaml: exists" in capsys.readouterr().err
    assert not (place / "out").exists()


def test_models_tells_licence_size_and_training(capsys: Screen) -> None:
    assert cli.execute(["models", "--json"]) == cli.DONE
    lite, *others = json.loads(capsys.readouterr().out)
    assert (lite["name"], lite["licence"], lite["size_bytes"] // 10**5) == ("efficientnet-lite0", "Apache-2.0", 188)
    assert "ImageNet" in lite["trained_on"]
    assert {"denoise-v1": ["denoise"], "upscale-x2-v2": ["upscale-x2"]}.items() <= {view["name"]: view["task"] for view in others}.items()
    assert cli.execute(["models"]) == cli.DONE
    told = capsys.readouterr().out
    for word in ("efficientnet-lite0", "Apache-2.0", "18.8 MB", "mobilenet-v2", "denoise-v1"):
        assert word in told


@pytest.mark.parametrize("arguments", [["status"], ["verify"], ["retry", "--select", "kind:TIMEOUT"]])
def test_an_output_without_a_run_is_told(arguments: list[str], place: Path, capsys: Screen) -> None:
    assert cli.execute([*arguments, str(place)]) == cli.USAGE
    assert "no vidmill run is recorded there" in capsys.readouterr().err


@pytest.fixture
def output(place: Path) -> Path:
    """What a run left: rows, a failure, a member without clip_id."""
    members = {f"{name_of(0)}.mp4": clip(0), f"{name_of(1)}.mp4": b"damaged", "no, name.mp4": clip(0)}
    write_tar(place / "c" / "part_0.tar", members, gz=False)
    run(settings(place, {"kind": "kinetics", "uri": "c/*.tar"}))
    return place / "out"


def printed(capsys: Screen, *arguments: object) -> tuple[int, str]:
    code = cli.execute(list(map(str, arguments)))
    return code, capsys.readouterr().out


def test_verify_exits_1_with_a_line_per_fault_that_ends_with_the_command(output: Path, capsys: Screen) -> None:
    code, told = printed(capsys, "verify", output)
    assert (code, told.splitlines()[-1]) == (cli.DONE, "3 files unaltered; every planned clip is one row or one failure, none twice")
    (output / "clips" / "part_0.parquet").write_bytes(b"cut off")
    code, told = printed(capsys, "verify", output)
    assert code == cli.INCOMPLETE
    (fault,) = (line for line in told.splitlines() if line.startswith("fault: "))
    assert fault.endswith(f"; vidmill retry {output} --select state:altered")
    code, told = printed(capsys, "verify", output, "--json")
    (found,) = json.loads(told)["faults"]
    assert (code, found["file"], found["delete"]) == (cli.INCOMPLETE, f"{output}/clips/part_0.parquet", [f"{output}/clips/part_0.parquet"])


def test_verify_counts_per_shard_and_feature(output: Path, capsys: Screen) -> None:
    _, told = printed(capsys, "verify", output, "--json")
    features = json.loads(told)["features"]
    assert features[0]["by_shard"] == [{"shard": "part_0", "planned": 3, "rows": 1, "failed": 2}]


def test_status_names_the_command_that_repeats_one_clip(output: Path, capsys: Screen) -> None:
    _, told = printed(capsys, "status", output)
    assert f"again: vidmill retry {output} --select kind:CORRUPT" in told
    assert f"the first alone: vidmill retry {output} --select clip:{name_of(1)}" in told
    assert f"--select 'member:{output.parent}/c/part_0.tar!no[,] name.mp4'" in told
    _, told = printed(capsys, "status", output, "--json")
    assert {name for group in json.loads(told)["failures"] for name in group["selectors"]} == {
        f"clip:{name_of(1)}", f"member:{output.parent}/c/part_0.tar!no[,] name.mp4"
    }  # fmt: skip


def test_show_tells_a_clip_whose_name_begins_with_a_dash(output: Path, capsys: Screen) -> None:
    assert name_of(0).startswith("-")
    code, told = printed(capsys, "show", output, name_of(0))
    lines = dict(line.split(maxsplit=1) for line in told.splitlines())
    assert (code, lines["clip_id"], lines["width"]) == (cli.DONE, name_of(0), "160")
    assert "3 numbers, norm" in lines["embedding"]
    code, told = printed(capsys, "show", output, name_of(1), "--json")
    assert [failure["kind"] for failure in json.loads(told)["failures"]] == ["CORRUPT"]
    assert cli.execute(["show", str(output), name_of(7)]) == cli.USAGE
    assert f"no clip {name_of(7)} there; did you mean" in capsys.readouterr().err


def test_bad_selectors_are_one_line_and_touch_nothing(output: Path, capsys: Screen) -> None:
    before = files(output)
    for text, words in {"kind:TIMEOT": "did you mean TIMEOUT?", "kinds:OOM": "one of kind, shard", "OOM": "is not KEY:VALUE"}.items():
        assert cli.execute(["retry", str(output), "--select", text]) == cli.USAGE
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert words in told
    assert cli.execute(["retry", str(output)]) == cli.USAGE
    assert "--select: is missing" in capsys.readouterr().err
    assert files(output) == before


def test_a_retry_that_selects_nothing_says_so_and_starts_no_ray(output: Path, capsys: Screen) -> None:
    code, told = printed(capsys, "retry", output, "--select", "kind:TIMEOUT")
    assert (code, told.splitlines()[0]) == (cli.DONE, "nothing is selected by kind:TIMEOUT")
    assert "CORRUPT" in told
    code, told = printed(capsys, "retry", output, "--select", "kind:TIMEOUT", "--json")
    assert json.loads(told)["status"] == "nothing to do"
