"""Stopping a run: by signal, from Prefect, with its server dying; the Ray work ends, whole files stay, the same command goes on."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra import storage
from infra.s3_request import request
from tasks.verify import verify
from tests.corpus import clip, config_for, name_of, table, write_tar
from tests.flows.program import MARK, program, until, vidmill
from tests.poison.clips import environment, poisoned
from tests.prefect_server import PrefectServer, prefect_server

STOP_S = 30
TIMEOUT_S = 120
CLIPS = 24


def write_corpus(folder: Path) -> str:
    """Two shards; the first clip of the second one hangs where the environment says so, and is a good clip elsewhere."""
    for shard in range(2):
        members = {f"{name_of(CLIPS * shard + k)}.mp4": clip(k % 4) for k in range(CLIPS)}
        if shard:
            members[f"{name_of(CLIPS)}.mp4"] = poisoned(clip(0), "pause")
        write_tar(folder / f"part_{shard}.tar.gz", members)
    return f"{folder}/part_*.tar.gz"


def arguments(source: str, output: object) -> list[object]:
    return ["run", "--source.kind", "kinetics", "--source.uri", source, "--output", output]


def staged(bucket: str) -> bool:
    return any("/embeddings/" in found.uri for found in storage.list_objects(f"s3://{bucket}/*/_wip/**"))


@pytest.mark.nightly
def test_sigterm_stops_a_run_even_while_a_clip_hangs(tmp_path: Path, bucket: str) -> None:
    """P10, P3: without the decoder ending with its owner (tasks.decoder._end_with_the_owner) a hanging one would stay for minutes.

    That the same command goes on afterwards: tests/flows/test_run.py.
    """
    source, output = write_corpus(tmp_path / "corpus"), f"s3://{bucket}/out"
    with program(*arguments(source, output), cwd=tmp_path, **environment()) as started:
        assert until(lambda: staged(bucket), timeout_s=TIMEOUT_S)
        started.process.send_signal(signal.SIGTERM)
        code, _, err = started.end(STOP_S)
        assert (code, "Traceback" in err) == (3, False), err
        assert until(lambda: not started.family(), timeout_s=10), started.family()
    assert "Uploads" not in request(output, "list_multipart_uploads", Bucket=bucket)
    assert not storage.exists(f"{output}/_wip/lease.json")
    for folder in ("clips", "embeddings", "failures"):
        table(output, folder)  # reads every visible file to its end


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PrefectServer]:
    (tmp_path / "prefect").mkdir()
    with prefect_server(tmp_path / "prefect") as started:
        yield started


@pytest.mark.nightly
def test_a_cancellation_from_prefect_stops_the_ray_work(server: PrefectServer, tmp_path: Path) -> None:
    """P10: without flows.process_corpus letting Prefect's TerminationSignal through ray_session, Ray's processes would outlive the flow run."""
    source, output = write_corpus(tmp_path / "corpus"), tmp_path / "out"
    mark = uuid.uuid4().hex
    own = os.environ | environment() | {"PREFECT_API_URL": server.api, "PREFECT_HOME": str(tmp_path / "home"), MARK: mark}
    own["PYTHONPATH"] += f":{Path(__file__).parents[2]}"
    command = [sys.executable, "-m", "tests.faults.serve"]
    with subprocess.Popen(command, env=own, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=Path(__file__).parents[2]) as runner:
        assert runner.stdout is not None
        try:
            deployment = runner.stdout.readline().strip()
            config = config_for({"kind": "kinetics", "uri": source}, output).model_dump(mode="json")
            run = server.call(f"deployments/{deployment}/create_flow_run", parameters={"config": config})
            assert until(lambda: any(output.glob("_wip/*/embeddings/**/*.fragment")), timeout_s=TIMEOUT_S)
            server.call(f"flow_runs/{run['id']}/set_state", state={"type": "CANCELLING", "name": "Cancelling"})
            assert until(lambda: not _ray_of(mark), timeout_s=STOP_S), _ray_of(mark)
            assert server.flow_run(id={"any_": [run["id"]]})["state_type"] == "CANCELLED"
        finally:
            for process in _marked(mark):
                process.kill()
    record = json.loads(max(output.glob("_runs/*.json")).read_text())
    assert record["status"] == "interrupted"
    assert vidmill(*arguments(source, output), cwd=tmp_path)[0] == 0
    assert not verify(str(output)).faults
    assert table(output, "clips").num_rows == 2 * CLIPS


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


def _ray_of(mark: str) -> list[str]:
    """Names of the marked processes that Ray or a decoder started."""
    names = []
    for process in _marked(mark):
        try:
            words = f"{process.name()} {' '.join(process.cmdline()[:5])}"
        except psutil.Error:
            continue
        if any(part in words for part in ("ray", "gcs_server", "tasks.decoder")):
            names.append(words)
    return names


@pytest.mark.nightly
def test_the_data_is_finished_when_the_prefect_server_dies(server: PrefectServer, tmp_path: Path) -> None:
    """P10, P11: without flows.watch.REPORTED the run would end as a crash though everything is published."""
    source, output = write_corpus(tmp_path / "corpus"), tmp_path / "out"
    with program(*arguments(source, output), "--json", cwd=tmp_path, PREFECT_API_URL=server.api, PREFECT_HOME=str(tmp_path / "home")) as started:
        assert until(lambda: any(output.glob("_wip/*/embeddings/**/*.fragment")), timeout_s=TIMEOUT_S)
        server.process.kill()
        code, out, err = started.end(2 * TIMEOUT_S)
    assert (code, json.loads(out)["status"]) == (0, "done"), err
    assert not verify(str(output)).faults
