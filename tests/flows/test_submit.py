"""`vidmill submit` and drivers that join, on a real head node with dashboard and tokens."""

import hashlib
import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from flows.submit import job_name
from infra.settings import RunConfig
from tests.corpus import config_for, table, write_shards
from tests.flows.program import Program, program, until, vidmill
from tests.head import ROOT, Head, head_node

PATIENCE_S = 120
WAITING = """
import time
from pathlib import Path

import torch


class Waiting(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))

    def forward(self, x):
        while Path({gate!r}).exists():
            Path({gate!r}).with_name("reached").touch()
            time.sleep(0.1)
        return x.mean((2, 3)) * self.weight
"""


pytestmark = pytest.mark.nightly  # a head node with a dashboard takes both cores for a minute


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with head_node(cpus=2) as found:
        yield found


def model(folder: Path, factory: str) -> dict[str, Any]:
    weights = folder / "weights.safetensors"
    save_file({"weight": torch.ones(3)}, weights)
    return {"name": "own", "factory": factory, "weights": f"file:{weights}", "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}


def write_config(folder: Path, **more: Any) -> RunConfig:
    config = config_for({"kind": "kinetics", "uri": f"{folder}/part_*.tar.gz"}, folder / "out", embed=["own"], **more)
    (folder / "run.yaml").write_text(config.model_dump_json())
    return config


def test_a_job_is_found_again_left_alone_stopped_and_continued(head: Head, tmp_path: Path) -> None:
    """One configuration, one job: whoever submits it again follows it; stopped, it leaves no lease, and the next job does what is left."""
    ids = write_shards(tmp_path, shards=1, clips=3)
    gate = tmp_path / "gate"
    gate.touch()
    (tmp_path / "waiting_network.py").write_text(WAITING.format(gate=str(gate)))  # only the uploaded code has it there
    config = write_config(tmp_path, models=[model(tmp_path, "waiting_network:Waiting")], cluster={"address": head.dashboard, "code": "upload"})
    submit, name, out = ("submit", "run.yaml"), job_name(config), tmp_path / "out"

    code, said, err = vidmill(*submit, "--no-wait", cwd=tmp_path, **head.environment)
    assert (code, said) == (0, f"{name}-1\n"), err
    with program(*submit, cwd=tmp_path, **head.environment) as leaving, program(*submit, cwd=tmp_path, **head.environment) as staying:
        assert until((tmp_path / "reached").exists, timeout_s=PATIENCE_S), ended(leaving)
        leaving.process.send_signal(signal.SIGINT)
        code, said, err = leaving.end()
        assert (code, said, f"{name}-1 goes on without you" in err) == (3, "", True), err
        assert (statuses(out), (out / "_wip" / "lease.json").exists()) == (["running"], True)
        code, said, err = vidmill(*submit, "--stop", cwd=tmp_path, **head.environment)
        assert (code, said) == (0, f"{name}-1: stopped\n"), err
        code, said, err = staying.end()
        assert (code, said, f"job {name}-1 was stopped" in err, "shards 0/1" in err) == (3, "", True, True), err
    assert (statuses(out), (out / "_wip" / "lease.json").exists()) == (["interrupted"], False)

    gate.unlink()
    code, said, err = vidmill(*submit, "--json", cwd=tmp_path, **head.environment)
    assert (code, json.loads(said)["status"], f"{name}-2" in err) == (0, "done", True), err
    assert head.token not in said + err
    assert sorted(row["clip_id"] for row in table(out, "embeddings").to_pylist()) == sorted(ids)
    code, said, err = vidmill(*submit, "--stop", cwd=tmp_path, **head.environment)
    assert (code, said) == (0, f"{name}: no such job is running\n"), err


def statuses(output: Path) -> list[str]:
    return [json.loads(path.read_text())["status"] for path in output.glob("_runs/*.json")]


def ended(started: Program) -> object:
    return started.end() if started.process.poll() is not None else "goes on"


def test_a_folder_of_the_same_name_hides_nothing_from_workers_that_are_joined(head: Head, tmp_path: Path) -> None:
    """Ray puts the driver's folder first on their path, unless infra.code gives them one of their own."""
    ids = write_shards(tmp_path, shards=1, clips=2)
    for name in ("models", "tasks"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('not this one')\n")
    write_config(tmp_path, models=[model(tmp_path, "tests.tasks.networks:Grey")])
    code, said, err = vidmill("run", "run.yaml", "--json", "--cluster.address", head.address, cwd=tmp_path, **head.environment)
    assert (code, json.loads(said or "{}").get("status")) == (0, "done"), err
    assert sorted(row["clip_id"] for row in table(tmp_path / "out", "embeddings").to_pylist()) == sorted(ids)


def test_a_node_with_another_release_or_without_a_module_is_one_line(head: Head, tmp_path: Path) -> None:
    """Two releases side by side would compute one feature in two ways."""
    write_shards(tmp_path, shards=1, clips=1)
    for name in ("flows", "tasks", "models", "infra"):
        shutil.copytree(ROOT / name, tmp_path / "release" / name, ignore=shutil.ignore_patterns("trained", "__pycache__"))
    shutil.copytree(ROOT / "tests", tmp_path / "release" / "tests", ignore=shutil.ignore_patterns("bench", "__pycache__"))
    write_config(tmp_path, models=[model(tmp_path, "tests.tasks.networks:Grey")])
    with (tmp_path / "release" / "tasks" / "decode.py").open("a") as file:
        file.write("# of tomorrow\n")
    release = {**head.environment, "PYTHONPATH": str(tmp_path / "release")}
    code, said, err = vidmill("run", "run.yaml", "--cluster.address", head.address, cwd=tmp_path, **release)
    assert (code, said) == (2, ""), err
    last = err.splitlines()[-1]
    assert last.startswith(f"vidmill: error: cluster.address {head.address}: node "), err
    assert "has another vidmill, code " in last
    assert last.endswith("install on the nodes what is here, or send it with --cluster.code upload")


@pytest.mark.parametrize(
    ("variables", "told"), [({}, "Authentication required"), ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "ab" * 32}, "Authentication failed")]
)
def test_a_token_that_is_missing_or_wrong_is_one_line(head: Head, tmp_path: Path, variables: dict[str, str], told: str) -> None:
    write_config(tmp_path, models=[model(tmp_path, "tests.tasks.networks:Grey")])
    code, said, err = vidmill("submit", "run.yaml", "--cluster.address", head.dashboard, cwd=tmp_path, HOME=str(tmp_path), **variables)
    assert (code, said, err.count("\n")) == (2, "", 1), err
    assert err.startswith(f"vidmill: error: {head.dashboard}: {told}")
    assert err.endswith("set RAY_AUTH_MODE=token and the RAY_AUTH_TOKEN of the cluster\n")
