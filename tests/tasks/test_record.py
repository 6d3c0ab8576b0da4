"""A run's record and summary say what the output holds, and never call a hole a success."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from infra.settings import RunConfig, UserModel
from tasks.failure_groups import group_failures
from tasks.plan import plan_run
from tasks.record import last_record, new_run_id, newest_records, published_failures, record_uri, summarize, write_record
from tasks.select import selection_of
from tasks.tally import Tally
from tests.corpus import write_tar
from tests.tasks.networks import DARK, MEDIUM, grey
from tests.tasks.runs import run, settings


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    write_tar(tmp_path / "c" / "part_0.tar", {"a_1_2.mp4": grey(MEDIUM), "bad_1_2.mp4": b"x", "d_1_2.mp4": grey(DARK), "x.txt": b""}, gz=False)
    write_tar(tmp_path / "c" / "part_1.tar", {"b_1_2.mp4": grey(MEDIUM)}, gz=False)
    (tmp_path / "train.csv").write_text("label,youtube_id,time_start,time_end\nx,a,1,2\nx,gone,1,2\nx,gone2,1,2\n")
    return config_of(tmp_path)


def config_of(folder: Path, **more: Any) -> RunConfig:
    """Annotated clips are named with six digits, so `a_1_2` is not: all four members are unannotated."""
    source = {"kind": "kinetics", "uri": f"{folder}/c/*.tar", "annotations": f"{folder}/train.csv"}
    return settings(folder, source, **{"embed": ["grey", "picky"], **more})


def summary_of(config: RunConfig, status: Any = "done") -> Any:
    return summarize(plan_run(config), "r", status, Tally(), (), 1.0)


def test_a_summary_tells_features_failures_and_coverage(config: RunConfig) -> None:
    summary = run(config)
    assert (summary.status, summary.shards, summary.shards_published, summary.clips, summary.problems) == ("done", 2, 2, 4, ())
    told = [(f.feature.partition("/version")[0], f.rows, f.failed, f.files) for f in summary.features]
    assert told == [("clips", 3, 1, 2), ("embeddings/model=grey", 3, 1, 2), ("embeddings/model=picky", 2, 2, 2)]
    assert sorted((group.kind, group.count) for group in summary.failures) == [("CORRUPT", 1), ("MODEL", 1)]
    coverage = summary.coverage
    assert (coverage.annotated, coverage.present, coverage.absent, coverage.unannotated) == (3, 4, 3, 4)
    assert (coverage.replaced, coverage.ignored) == (0, 1)


def test_a_missing_file_of_any_feature_is_work_left(config: RunConfig) -> None:
    """P11: only `clips` was looked at once."""
    run(config)
    plan = plan_run(config)
    next((Path(config.output) / "embeddings").rglob("part_1.parquet")).unlink()
    summary = summarize(plan, "r", "done", Tally(), (), 1.0)
    assert summary.status == "work left"
    assert summary.problems == ("1 shards are not whole, part_1 first; run again",)


def test_a_shard_of_an_older_state_is_work_left(config: RunConfig, tmp_path: Path) -> None:
    """A changed shard whose last outcome was lost has files, of its older state."""
    run(config)
    write_tar(tmp_path / "c" / "part_1.tar", {"b_1_2.mp4": grey(MEDIUM), "e_1_2.mp4": grey(MEDIUM)}, gz=False)
    assert summary_of(config).status == "work left"
    assert summary_of(config, "too many failures").status == "too many failures"


@pytest.mark.parametrize(("max_failed", "enough"), [(0, False), (1, False), (2, True), (0.02, True), (0.01, False)])
def test_failures_over_the_limit_are_no_success_whichever_run_they_come_from(
    config: RunConfig, tmp_path: Path, max_failed: float, enough: bool
) -> None:
    run(config)
    assert summary_of(config_of(tmp_path, limits={"max_failed": max_failed})).status == ("done" if enough else "too many failures")


def test_windows_of_one_video_fail_one_by_one(config: RunConfig, tmp_path: Path) -> None:
    """They share the video's address; counted by it, a film of bad clips was one failure."""
    (tmp_path / "v.mp4").write_bytes(grey(DARK, seconds=3))
    loose = settings(tmp_path, {"kind": "files", "uri": f"{tmp_path}/*.mp4"}, embed=["picky"], decode={"clip_s": 1}, limits={"max_failed": 2})
    summary = run(loose)
    assert summary.status == "too many failures"
    assert summary.problems == ("3 clips failed, and limits.max_failed allows 2",)


def test_the_newest_record_is_the_last(config: RunConfig) -> None:
    assert last_record(config.output) is None
    plan = plan_run(config)
    write_record(plan, "20260101T000000-ffffff", "done")
    write_record(plan, "20260102T000000-000000", "running")
    record = last_record(config.output)
    assert record is not None
    assert (record["run_id"], record["status"]) == ("20260102T000000-000000", "running")
    assert (record["shards"], record["summary"]) == (["part_0", "part_1"], None)
    assert [feature["table"] for feature in record["features"]] == ["clips", "embeddings", "embeddings"]
    write_record(plan, "20260102T000000-000000", "done", summary_of(config))
    again = last_record(config.output)
    assert again is not None
    assert again["summary"]["status"] == "work left"
    assert json.loads(Path(record_uri(config.output, again["run_id"])).read_text()) == again


def test_run_ids_differ_and_sort_by_time() -> None:
    ids = [new_run_id() for _ in range(50)]
    assert len(set(ids)) == 50
    assert sorted(one[:18] for one in ids) == [one[:18] for one in ids]  # to the millisecond: a retry may follow at once


def test_a_record_names_its_source_and_output_from_anywhere(config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`vidmill retry OUT` may be given in another folder than the run was."""
    monkeypatch.chdir(tmp_path)
    source = config.source.model_copy(update={"uri": "c/*.tar", "annotations": "train.csv"})
    run(config.model_copy(update={"source": source, "output": "out"}))
    record = last_record("out")
    assert record is not None
    assert record["config"]["output"] == f"{tmp_path}/out"
    assert (record["config"]["source"]["uri"], record["config"]["source"]["annotations"]) == (f"{tmp_path}/c/*.tar", f"{tmp_path}/train.csv")
    again = config.model_copy(update={"source": source.model_copy(update=record["config"]["source"])})
    assert plan_run(again).work == ()


def test_a_record_names_models_from_anywhere(config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    near = [model.model_copy(update={"weights": f"file:{os.path.relpath(str(model.weights).removeprefix('file:'))}"}) for model in config.models]
    tagger = UserModel(name="far", tagger="tagger.safetensors")
    asked = config.model_copy(update={"models": [*near, tagger], "enhance": []})
    run(asked)
    record = last_record(config.output)
    assert record is not None
    monkeypatch.chdir("/")
    again = RunConfig.model_validate(record["config"])
    assert [model.weights for model in again.models] == [*(model.weights for model in config.models), None]
    assert again.models[-1].tagger == f"file:{tmp_path}/tagger.safetensors"
    assert plan_run(again).work == ()


def test_a_record_that_cannot_be_read_is_named_and_passed_over(config: RunConfig) -> None:
    run(config)
    damaged = Path(record_uri(config.output, "99991231T000000-000000"))
    damaged.write_text('{"run_id":')
    record, others = newest_records(config.output)
    assert record is not None
    assert record["status"] == "done"
    assert others == (str(damaged),)
    assert last_record(config.output) == record


def test_each_example_has_the_selector_that_takes_it_alone(config: RunConfig) -> None:
    run(config)
    rows = published_failures(config.output, ["part_0", "part_1"])
    for group in group_failures([*rows, {**rows[0], "clip_id": None, "member": "/c/a,b.tar!x*.mp4"}]):
        for example, selector in zip(group.examples, group.selectors, strict=True):
            taken = [row for row in rows if selection_of([selector]).takes(row, "part_0")]
            assert [row["member"] for row in taken] == ([example.partition(": ")[0]] if selector.startswith("clip:") else [])
    assert group_failures([{**rows[0], "clip_id": None, "member": "a,b*"}])[0].selectors == ("member:a[,]b[*]",)


def test_failures_are_grouped_with_a_few_examples(config: RunConfig) -> None:
    run(config)
    rows = published_failures(config.output, ["part_0", "part_1", "gone"])
    assert len(rows) == 2
    many = [*rows, *({**rows[0], "kind": "EMPTY"} for _ in range(7))]
    first, *_ = group_failures(many)
    assert (first.kind, first.count, len(first.examples)) == ("EMPTY", 7, 3)
    assert first.examples[0].startswith(f"{rows[0]['member']}: {rows[0]['stage']} EMPTY: ")
    assert group_failures([]) == ()


def test_shards_that_left_the_corpus_do_not_count(config: RunConfig, tmp_path: Path) -> None:
    run(config)
    (tmp_path / "c" / "part_0.tar").unlink()
    summary = summary_of(config, "nothing to do")
    assert (summary.status, summary.shards, summary.failures) == ("nothing to do", 1, ())
    assert [feature.rows for feature in summary.features] == [1, 1, 1]
