"""process-corpus under Prefect: a server of its own that is asked by its API what it was told."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_SERVER_DATABASE_CONNECTION_URL,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)

from flows.artifacts import key_of
from flows.process_corpus import RunIncomplete, process_corpus
from flows.watch import WATCHER
from infra import storage
from infra.lease import LeaseLost
from tasks import pipeline
from tasks.progress import ProgressSnapshot
from tests.corpus import clip, config_for, name_of, table, write_shards, write_tar
from tests.flows.program import vidmill
from tests.prefect_server import START_S, PrefectServer, prefect_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """One Prefect server for all tests of this file."""
    with prefect_server(tmp_path_factory.mktemp("prefect")) as started:
        yield started


@pytest.mark.nightly
def test_a_run_shows_its_steps_and_its_outcome(server: PrefectServer, tmp_path: Path) -> None:
    write_shards(tmp_path, shards=1, clips=2)
    arguments = ["--name", "first run", "--source.kind", "kinetics", "--source.uri", "part_0.tar.gz", "--output", "out", "--json"]
    code, out, err = vidmill("run", *arguments, cwd=tmp_path, PREFECT_API_URL=server.api, PREFECT_HOME=str(tmp_path / "home"))
    assert code == 0, err
    assert json.loads(out)["status"] == "done"
    assert all(line[0].isdigit() and "shards " in line for line in err.splitlines()), err
    run = server.flow_run(name={"any_": ["first run"]})
    assert run["state_type"] == "COMPLETED"
    (flow,) = server.call("flows/filter", flows={"id": {"any_": [run["flow_id"]]}})
    assert flow["name"] == "process-corpus"
    assert server.task_runs(run["id"]) == {"plan": ("Completed", 1), "process": ("Completed", 1), "report": ("Completed", 1)}
    found = server.call("artifacts/filter", artifacts={"flow_run_id": {"any_": [run["id"]]}})
    assert {artifact["key"] for artifact in found} == {key_of(kind, str(tmp_path / "out")) for kind in ("outcome", "failures", "progress", "record")}


@pytest.mark.nightly
def test_too_many_failures_fail_the_flow_run(server: PrefectServer, ray_here: None, tmp_path: Path) -> None:
    members = {f"{name_of(0)}.mp4": clip(0), f"{name_of(1)}.mp4": b"damaged"}
    archive = write_tar(tmp_path / "part_0.tar", members, gz=False)
    config = config_for({"kind": "kinetics", "uri": str(archive)}, tmp_path / "out", name="second run", limits={"max_failed": 0})
    with temporary_settings({PREFECT_API_URL: server.api}), pytest.raises(RunIncomplete, match=r"too many failures.*limits.max_failed allows 0"):
        process_corpus(config)
    run = server.flow_run(name={"any_": ["second run"]})
    assert run["state_type"] == "FAILED"
    assert "limits.max_failed allows 0" in run["state"]["message"]


def test_a_retry_plans_anew(server: PrefectServer, ray_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first try publishes a shard and then fails; a retry with the old plan would compute both shards."""
    write_shards(tmp_path, shards=2, clips=2)
    config = config_for({"kind": "kinetics", "uri": f"{tmp_path}/part_*.tar.gz"}, tmp_path / "out", name="third run")
    tries: list[list[str]] = []
    process = pipeline.process

    def process_once(run: pipeline.Run, found: Any) -> Any:
        tries.append([work.shard.name for work in run.work])
        if len(tries) > 1:
            return process(run, found)
        first = pipeline.Run(run.config, run.context, run.work[:1], run.on_tally, run.on_failure)
        process(first, found)
        raise ConnectionError("the cluster went away")

    monkeypatch.setattr(pipeline, "process", process_once)
    with temporary_settings({PREFECT_API_URL: server.api}):
        summary = process_corpus(config)
    assert tries == [["part_0", "part_1"], ["part_1"]]
    assert (summary.status, table(tmp_path / "out", "embeddings").num_rows) == ("done", 4)
    run = server.flow_run(name={"any_": ["third run"]})
    assert server.task_runs(run["id"])["process"] == ("Completed", 2)


@pytest.mark.nightly
def test_a_flow_without_a_server_brings_its_own(ray_here: None, tmp_path: Path) -> None:
    write_shards(tmp_path, shards=1, clips=1)
    config = config_for({"kind": "kinetics", "uri": f"{tmp_path}/part_0.tar.gz"}, tmp_path / "out")
    database = f"sqlite+aiosqlite:///{tmp_path}/prefect.db"
    settings = {PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: START_S, PREFECT_SERVER_DATABASE_CONNECTION_URL: database}
    with temporary_settings(settings):
        try:
            assert process_corpus(config).status == "done"
        finally:
            for server in list(SubprocessASGIServer._instances.values()):
                server.stop()


THEIRS = b"another run's"


class Usurper:
    """Watches a run, and takes its output away as soon as it has begun."""

    def __init__(self, lease: Path) -> None:
        self.lease = lease

    def show(self, snapshot: ProgressSnapshot) -> None:
        while storage.replace_if(str(self.lease), THEIRS, storage.read_versioned(str(self.lease)).version) is None:
            pass  # it was renewed in between
        time.sleep(0.2)

    def failure(self, text: str) -> None:
        pass


def test_a_run_whose_output_is_taken_over_stops(ray_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.lease.HEARTBEAT_S", 0.01)
    write_shards(tmp_path, shards=1, clips=1)
    config = config_for({"kind": "kinetics", "uri": f"{tmp_path}/part_0.tar.gz"}, tmp_path / "out")
    lease = tmp_path / "out" / "_wip" / "lease.json"
    token = WATCHER.set(Usurper(lease))
    try:
        with pytest.raises(LeaseLost, match="another run took this output over"):
            process_corpus.fn(config)
    finally:
        WATCHER.reset(token)
    assert lease.read_bytes() == THEIRS
    assert not (tmp_path / "out" / "embeddings").exists()


def test_a_plain_call_starts_no_server(ray_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefect.server.api.server.SubprocessASGIServer.start", lambda *_: pytest.fail("a server was started"))
    write_shards(tmp_path, shards=1, clips=1)
    config = config_for({"kind": "kinetics", "uri": f"{tmp_path}/part_0.tar.gz"}, tmp_path / "out")
    assert process_corpus.fn(config).status == "done"
