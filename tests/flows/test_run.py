"""`vidmill run` as a process: one JSON document, a quiet screen, interruptions that leave whole files and no processes."""

import json
import signal
from pathlib import Path

import pytest

from flows.process_corpus import process_corpus
from flows.run import RunLog, _flow_result
from infra.settings import RunConfig
from tests.corpus import clip, name_of, table, write_tar
from tests.flows.program import program, until, vidmill

CLIPS = 200
SOME = 12  # fragments: a few parcels, whole for every feature
END_S = 30  # what Prefect and Kubernetes wait before they kill


def settings(corpus: Path) -> list[str]:
    return ["--source.kind", "kinetics", "--source.uri", f"{corpus}/part_*.tar", "--output", "out", "--cluster.cpus", "2"]


def fragments(output: Path) -> set[str]:
    return {path.name for path in output.glob("_wip/**/*.fragment")}


class Staged:
    """The fragments that appear from now on, also those that go again when their shard is published."""

    def __init__(self, output: Path) -> None:
        self.output, self.before, self.seen = output, fragments(output), set[str]()

    def some(self) -> bool:
        self.seen |= fragments(self.output) - self.before
        return len(self.seen) >= SOME


def record(output: Path) -> dict[str, object]:
    newest: dict[str, object] = json.loads(max(output.glob("_runs/*.json")).read_text())
    return newest


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards that take some seconds."""
    folder = tmp_path_factory.mktemp("corpus")
    for shard in range(2):
        numbers = range(shard * CLIPS // 2, (shard + 1) * CLIPS // 2)
        write_tar(folder / f"part_{shard}.tar", {f"{name_of(number)}.mp4": clip(number % 5, seconds=4) for number in numbers}, gz=False)
    return folder


def test_an_interrupted_run_ends_in_time_leaves_nothing_running_and_goes_on(corpus: Path, tmp_path: Path) -> None:
    """P10, P4; SIGTERM, in the middle of a clip that hangs: tests/faults/test_cancel.py."""
    output = tmp_path / "out"
    for package in ("flows", "tasks", "models", "infra"):  # people keep code of their own where they work
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise ImportError('not ours')")
    staged = Staged(output)
    with program("run", *settings(corpus), cwd=tmp_path) as run:
        assert until(staged.some, timeout_s=90)
        run.process.send_signal(signal.SIGINT)
        code, out, err = run.end(END_S)
        assert (code, out) == (3, "")
        assert err.splitlines()[-1] == "vidmill: error: interrupted; what was finished is kept, run the same command to go on"
        assert "Traceback" not in err
        assert until(lambda: not run.family(), timeout_s=10), [process.name() for process in run.family()]
    assert record(output)["status"] == "interrupted"
    assert (output / "_runs" / str(record(output)["run_id"]) / "run.log").exists()
    assert not list(output.glob("_wip/**/lease.json"))
    code, out, err = vidmill("run", *settings(corpus), "--json", cwd=tmp_path)
    assert code == 0, err
    summary = json.loads(out)
    assert 0 < summary["clips"] < CLIPS
    assert (summary["status"], table(output, "embeddings").num_rows) == ("done", CLIPS)
    assert all(line[0].isdigit() and "shards " in line for line in err.splitlines())
    assert vidmill("verify", "out", cwd=tmp_path)[0] == 0


def test_an_archive_without_videos_is_no_success(tmp_path: Path) -> None:
    write_tar(tmp_path / "part_0.tar", {"readme.txt": b"no video", "list.csv": b"a,b"}, gz=False)
    for _ in range(2):
        code, out, err = vidmill("run", *settings(tmp_path), cwd=tmp_path)
        assert code == 1, err
        assert f"left: source.uri {tmp_path}/part_*.tar: no clip in 1 shards, 2 other files ignored; check source.uri, or source.kind" in out
        assert "done" not in out


def test_records_are_processed_though_no_model_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig.model_validate({"source": {"kind": "youtube8m", "uri": "/shards/"}, "output": "/out"})
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(process_corpus, "fn", lambda config: config)
    assert _flow_result(config, []) is config


def test_the_log_stays_where_it_is_when_it_cannot_be_kept(tmp_path: Path) -> None:
    local = tmp_path / "temporary" / "run.log"
    local.parent.mkdir()
    local.write_text("what happened")
    log = RunLog(str(tmp_path / "out"), "r1", local)
    assert log.keep(always=True) == str(local)
    (tmp_path / "out" / "_runs").mkdir(parents=True)
    (tmp_path / "out" / "_runs" / "r1.json").write_text("{}")
    kept = Path(log.keep())
    assert (kept, kept.read_text()) == (tmp_path / "out" / "_runs" / "r1" / "run.log", "what happened")
    assert not local.parent.exists()
