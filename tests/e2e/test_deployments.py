"""The deployments of infra/deploy/prefect.yaml on a real server, as the README deploys them, and a real worker, started in another folder."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.artifacts import key_of
from infra.lease import lease
from tests.corpus import bad_clips, clip, name_of, table, write_tar
from tests.flows.program import MARK, until
from tests.prefect_server import PrefectServer, prefect_server

CLONE = Path(__file__).parents[2]
PREFECT = str(Path(sys.executable).with_name("prefect"))
FLOWS = {"process-corpus": "nightly", "backfill-feature": "on-demand", "enhance-corpus": "on-demand", "ingest-youtube8m": "on-demand"}
PATIENCE_S = 120
SOON_S = 30


class Deployed:
    """The deployments on a server, and a worker that looks for their runs."""

    def __init__(self, server: PrefectServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.mark = f"deployments-{os.getpid()}-{folder}"
        own = {"PREFECT_API_URL": server.api, "PREFECT_HOME": str(folder), "PREFECT_WORKER_QUERY_SECONDS": "1"}
        self.environment = os.environ | own | {"PYTHONPATH": str(CLONE), MARK: self.mark}

    def prefect(self, *words: str) -> None:
        """One command in the clone's top folder."""
        done = subprocess.run([PREFECT, *words], cwd=CLONE, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def deployment(self, flow: str) -> dict[str, Any]:
        """One deployment, as the server has it."""
        found = self.server.call("deployments/filter", flows={"name": {"any_": [flow]}})
        assert [deployment["name"] for deployment in found] == [FLOWS[flow]]
        return dict(found[0])

    def start(self, source: object, output: object, **more: Any) -> str:
        """Schedule a run of process-corpus for a second from now; its id."""
        at = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
        state = {"type": "SCHEDULED", "state_details": {"scheduled_time": at}}
        config = {"source": {"kind": "kinetics", "uri": str(source)}, "output": str(output), **more}
        run = self.server.call(f"deployments/{self.deployment('process-corpus')['id']}/create_flow_run", state=state, parameters={"config": config})
        return str(run["id"])

    def state(self, run_id: str) -> dict[str, Any]:
        """Of a run, now."""
        (run,) = self.server.call("flow_runs/filter", flow_runs={"id": {"any_": [run_id]}})
        return dict(run)

    def said(self, run_id: str) -> str:
        """The log on a run's page."""
        lines = self.server.call("logs/filter", logs={"flow_run_id": {"any_": [run_id]}})
        return "\n".join(line["message"] for line in lines)

    def waits(self, run_id: str) -> bool:
        """Whether a run has said that it waits for its output."""
        return until(lambda: "waiting for the output" in self.said(run_id), timeout_s=PATIENCE_S)

    def processes(self, run_id: str | None = None) -> list[psutil.Process]:
        """What was started here and lives, or what of it runs a flow."""
        found = []
        for process in psutil.process_iter():
            try:
                environment = process.environ()
            except psutil.Error:
                continue
            if environment.get(MARK) == self.mark and (run_id is None or environment.get("PREFECT__FLOW_RUN_ID") == run_id):
                found.append(process)
        return found

    @contextmanager
    def worker(self) -> Iterator["subprocess.Popen[bytes]"]:
        """A worker in a folder of its own."""
        command = [PREFECT, "worker", "start", "--pool", "vidmill"]
        folder = self.folder / "elsewhere"
        folder.mkdir(exist_ok=True)
        with (
            (self.folder / "worker.log").open("ab") as log,
            subprocess.Popen(command, cwd=folder, env=self.environment, stdout=log, stderr=log) as process,
        ):
            try:
                yield process
            finally:
                for each in self.processes():
                    each.kill()


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """Everything that the README's commands set up, but for the worker."""
    folder = tmp_path_factory.mktemp("prefect")
    with prefect_server(folder) as server:
        found = Deployed(server, folder)
        found.prefect("work-pool", "create", "vidmill", "--type", "process")
        found.prefect("--no-prompt", "deploy", "--all", "--prefect-file", "infra/deploy/prefect.yaml")
        found.prefect("automation", "create", "--from-file", "infra/deploy/automations.yaml")
        yield found


@pytest.fixture(scope="module")
def working(deployed: Deployed) -> Iterator[Deployed]:
    """With a worker."""
    with deployed.worker():
        yield deployed


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One archive: two clips, and one that gives no row."""
    members = {f"{name_of(k)}.mp4": clip(k) for k in range(2)} | {f"{name_of(9)}.mp4": bad_clips()["CORRUPT"]}
    return write_tar(tmp_path_factory.mktemp("corpus") / "part_0.tar", members, gz=False)


@pytest.mark.parametrize("flow", FLOWS)
def test_every_field_of_a_form_says_what_it_is(deployed: Deployed, flow: str) -> None:
    schema = deployed.deployment(flow)["parameter_openapi_schema"]
    for name, section in _sections(schema, schema["definitions"]):
        required = set(section.get("required", ()))
        for field, about in section["properties"].items():
            target = schema["definitions"].get(about.get("$ref", "").rpartition("/")[2], {})
            assert about["title"] == field, (name, field)
            assert about.get("description") or target.get("description"), (name, field)
            assert "anyOf" not in about, (name, field)  # the form would ask for the type first
            assert field not in required or "default" not in about, (name, field)


def _sections(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects that a form shows from the start, with their names."""
    for name, about in schema["properties"].items():
        section = definitions.get(about.get("$ref", "").rpartition("/")[2], {})
        if "properties" in section:
            yield name, section
            yield from _sections(section, definitions)


def test_a_form_asks_only_for_what_its_flow_uses(deployed: Deployed) -> None:
    asked = {flow: dict(_sections(form, form["definitions"])) for flow in FLOWS if (form := deployed.deployment(flow)["parameter_openapi_schema"])}
    assert {"embed", "tag", "enhance", "decode"} <= asked["process-corpus"]["config"]["properties"].keys()
    assert not {"embed", "tag"} & asked["enhance-corpus"]["config"]["properties"].keys()
    assert "enhance" in asked["enhance-corpus"]["config"]["required"]
    assert asked["ingest-youtube8m"]["source"]["properties"].keys() == {"uri", "vocabulary", "deleted"}
    assert not {"embed", "enhance", "decode"} & asked["ingest-youtube8m"]["config"]["properties"].keys()


def test_the_nightly_run_is_scheduled_with_its_parameters(deployed: Deployed) -> None:
    nightly = deployed.deployment("process-corpus")
    (schedule,) = nightly["schedules"]
    assert (schedule["active"], schedule["schedule"]["cron"], nightly["work_pool_name"]) == (True, "0 2 * * *", "vidmill")
    assert nightly["parameters"]["config"]["output"] == "vidmill-demo/nightly"
    (step,) = nightly["pull_steps"]
    assert step == {"prefect.deployments.steps.set_working_directory": {"directory": str(CLONE)}}


def test_a_worker_runs_what_is_scheduled_and_its_page_shows_what_came_of_it(working: Deployed, corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "Out put"
    run_id = working.start(corpus, output, name="tonight")
    run = working.server.flow_run(id={"any_": [run_id]})
    assert (run["state_type"], run["name"]) == ("COMPLETED", "tonight"), working.said(run_id)
    assert table(output, "embeddings").num_rows == 2
    found = {artifact["key"]: artifact for artifact in working.server.call("artifacts/filter", artifacts={"flow_run_id": {"any_": [run_id]}})}
    assert {key: artifact["type"] for key, artifact in found.items()} == {
        key_of("outcome", str(output)): "table",
        key_of("failures", str(output)): "table",
        key_of("progress", str(output)): "progress",
        key_of("record", str(output)): "markdown",
    }
    outcome = json.loads(found[key_of("outcome", str(output))]["data"])
    assert [row["feature"].partition("/")[0] for row in outcome] == ["clips", "embeddings"]
    assert [(row["shards"], row["rows"], row["failed"]) for row in outcome] == [(1, 2, 1)] * 2
    (failure,) = json.loads(found[key_of("failures", str(output))]["data"])
    assert (failure["kind"], failure["failures"]) == ("CORRUPT", 1)
    assert f"part_0.tar!{name_of(9)}.mp4: decode CORRUPT: " in failure["example"]
    assert failure["again"] == f"vidmill retry '{output}' --select clip:{name_of(9)}"
    progress = found[key_of("progress", str(output))]
    assert (progress["data"], "| publish | 1/1 shards |" in progress["description"]) == (100, True)
    (record,) = output.glob("_runs/*.json")
    assert str(record) in found[key_of("record", str(output))]["data"]
    assert json.loads(record.read_text())["status"] == "done"


def test_what_no_retry_can_mend_is_not_retried(working: Deployed, tmp_path: Path) -> None:
    run_id = working.start(tmp_path / "nowhere" / "part_*.tar", tmp_path / "out")
    run = working.server.flow_run(id={"any_": [run_id]})
    assert (run["state_type"], run["run_count"]) == ("FAILED", 1)
    assert "nowhere" in run["state"]["message"]


def test_a_run_waits_for_its_output_and_can_be_cancelled_meanwhile(working: Deployed, corpus: Path, tmp_path: Path) -> None:
    """P10: a run on an output that another run holds is `Running` and does nothing; a cancellation ends it, and its process."""
    with lease(str(tmp_path / "held"), run_id="another-run"):
        run_id = working.start(corpus, tmp_path / "held")
        assert working.waits(run_id), working.said(run_id)
        assert "run another-run of" in working.said(run_id)
        assert working.state(run_id)["state_type"] == "RUNNING"
        working.server.call(f"flow_runs/{run_id}/set_state", state={"type": "CANCELLING", "name": "Cancelling"})
        assert until(lambda: working.state(run_id)["state_type"] == "CANCELLED", timeout_s=SOON_S), working.state(run_id)["state"]
        assert until(lambda: not working.processes(run_id), timeout_s=SOON_S)
    assert not (tmp_path / "held" / "clips").exists()


def test_a_run_whose_process_is_killed_has_crashed(working: Deployed, corpus: Path, tmp_path: Path) -> None:
    with lease(str(tmp_path / "held"), run_id="another-run"):
        run_id = working.start(corpus, tmp_path / "held")
        assert working.waits(run_id), working.said(run_id)
        for process in working.processes(run_id):
            process.kill()
        assert working.server.flow_run(id={"any_": [run_id]})["state_type"] == "CRASHED"


@pytest.mark.nightly
def test_a_run_that_vanished_with_its_worker_has_crashed_too(deployed: Deployed, corpus: Path, tmp_path: Path) -> None:
    """Without infra/deploy/automations.yaml it would be Running for ever."""
    with deployed.worker(), lease(str(tmp_path / "held"), run_id="another-run"):
        run_id = deployed.start(corpus, tmp_path / "held")
        assert deployed.waits(run_id), deployed.said(run_id)
        for process in deployed.processes():
            process.send_signal(signal.SIGKILL)
        time.sleep(1)
        assert deployed.state(run_id)["state_type"] == "RUNNING"
        assert until(lambda: deployed.state(run_id)["state_type"] == "CRASHED", timeout_s=240)
    assert "Not heard of for two minutes" in deployed.state(run_id)["state"]["message"]
