"""backfill-feature: the flow, its form for Prefect, and `vidmill backfill`, `status` and `prune` as people run them."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from flows import cli
from flows.backfill_feature import backfill_feature
from flows.preflight import backfill_plan
from infra.backfill import BackfillConfig
from infra.lease import lease
from infra.problem import Problem
from infra.settings import ClusterConfig, LimitsConfig
from tasks.record import last_record
from tasks.verify import verify
from tests.corpus import clip, config_for, files, table, write_tar
from tests.faults import here
from tests.flows.program import vidmill
from tests.tasks.networks import MEDIUM, grey
from tests.tasks.runs import run, settings


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A run over two shards, with a small network."""
    for number, clips in enumerate(({"a": grey(MEDIUM), "b": clip(1)}, {"c": clip(2)})):
        write_tar(tmp_path / "c" / f"part_{number}.tar", {f"{name}_000001_000002.mp4": data for name, data in clips.items()}, gz=False)
    run(settings(tmp_path, {"kind": "kinetics", "uri": f"{tmp_path}/c/*.tar"}, limits={"max_failed": 7}, cluster={"cpus": 2}))
    return tmp_path / "out"


def test_the_flow_records_that_the_output_now_asks_for_the_feature(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that are given hold for the backfill alone."""
    here.without_ray(monkeypatch)
    summary = backfill_feature.fn(BackfillConfig(output=str(output), embed=["picky"], limits={"max_failed": 3}))
    assert (summary.status, summary.clips, summary.shards_published) == ("done", 3, 2)
    record = last_record(str(output))
    assert record is not None
    assert (record["run_id"], record["status"], record["config"]["embed"]) == (summary.run_id, "done", ["grey", "picky"])
    assert record["config"]["limits"]["max_failed"] == 7
    assert verify(str(output)).faults == []
    before = files(output)
    assert backfill_feature.fn(BackfillConfig(output=str(output), embed=["picky"])).status == "nothing to do"
    assert files(output) == before


def test_a_form_sends_every_field_and_what_it_leaves_alone_is_as_in_the_last_run(output: Path) -> None:
    """Without _given in flows.preflight a backfill from Prefect's page would leave the last run's cluster and limits."""
    limits = LimitsConfig(clip_timeout_s=7).model_dump()
    plan = backfill_plan(BackfillConfig(output=str(output), embed=["picky"], limits=limits, cluster=ClusterConfig().model_dump()))
    assert (plan.config.limits.max_failed, plan.config.limits.clip_timeout_s) == (7, 7)
    assert plan.config.cluster.cpus == 2
    told = backfill_plan(BackfillConfig(output=str(output), embed=["picky"], limits={"max_failed": 0.1}))
    assert told.config.limits.max_failed == 0.1


def test_an_output_that_somebody_writes_to_turns_a_backfill_and_a_prune_away(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here.without_ray(monkeypatch)
    with lease(str(output), run_id="r1"):
        with pytest.raises(Problem, match=r"run r1 of .* is writing here"):
            backfill_feature.fn(BackfillConfig(output=str(output), embed=["picky"]))
        assert cli.execute(["prune", str(output), "--yes"]) == 0, "nothing is old, so nothing is asked of the lease"
    run(settings(output.parent, {"kind": "kinetics", "uri": f"{output.parent}/c/*.tar"}, frame_embeddings=True))
    before = files(output)
    with lease(str(output), run_id="r2"):
        assert cli.execute(["prune", str(output), "--yes"]) == 2
    assert files(output) == before


def test_the_form_of_the_flow_shows_every_field_with_its_name_and_description() -> None:
    schema = BackfillConfig.model_json_schema()
    assert list(schema["properties"]) == ["output", "embed", "tag", "enhance", "select", "models", "limits", "cluster"]
    assert [field["title"] for field in schema["properties"].values()] == list(schema["properties"])
    assert all(field["description"] for field in schema["properties"].values())
    assert schema["required"] == ["output"]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "embed, tag and enhance are all empty; name what is to be added"),
        ({"embed": ["m"], "output": "s3://key:secret@bucket/x"}, "an address with credentials in it"),
        ({"embed": ["m"], "name": "x"}, "Extra inputs are not permitted"),
    ],
)
def test_a_slip_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        BackfillConfig.model_validate({"output": "out", **values})


def test_status_and_prune_of_an_output(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(settings(output.parent, {"kind": "kinetics", "uri": f"{output.parent}/c/*.tar"}, frame_embeddings=True))
    assert cli.execute(["status", str(output), "--json"]) == 0
    features = json.loads(capsys.readouterr().out)["features"]
    assert [(feature["state"], feature["done"]) for feature in features] == [("current", 2), ("current", 2), ("old", None)]
    assert cli.execute(["prune", str(output)]) == 0
    assert capsys.readouterr().out.endswith(f"may go; nothing was deleted\nnext: vidmill prune {output} --yes\n")
    label = features[2]["label"]
    assert cli.execute(["prune", str(output), "--feature", label, "--json"]) == 0
    pruned = json.loads(capsys.readouterr().out)
    assert (pruned["deleted"], [version["label"] for version in pruned["old"]]) == (True, [label])
    assert not (output / features[2]["folder"]).exists()
    assert verify(str(output)).faults == []
    assert cli.execute(["prune", str(output), "--feature", label]) == 2


@pytest.mark.nightly
def test_a_backfill_by_the_command_line(tmp_path: Path) -> None:
    """One process with Ray and a shipped model, from another folder, of one selected clip; then a slip."""
    write_tar(tmp_path / "c" / "part_0.tar", {f"{name}_000001_000002.mp4": clip(number) for number, name in enumerate("ab")}, gz=False)
    run(config_for({"kind": "kinetics", "uri": f"{tmp_path}/c/*.tar"}, tmp_path / "out", cluster={"cpus": 2}))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code, out, err = vidmill("backfill", tmp_path / "out", "--embed", "mobilenet-v2", "--select", "clip:b_*", "--json", cwd=elsewhere)
    assert code == 0, err
    summary = json.loads(out)
    assert (summary["status"], summary["clips"], summary["shards_published"]) == ("done", 1, 1)
    assert table(tmp_path / "out", "embeddings/model=mobilenet-v2")["clip_id"].to_pylist() == ["b_000001_000002"]
    assert (tmp_path / "out" / "_runs" / summary["run_id"] / "run.log").exists()
    assert [*elsewhere.iterdir()] == []
    code, out, err = vidmill("backfill", tmp_path / "out", "--embed", "mobilnet-v2", cwd=elsewhere)
    assert (code, out) == (2, "")
    assert "mobilnet-v2" in err
