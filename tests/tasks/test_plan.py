"""What is left is the source minus what is published and still holds; nothing else is remembered anywhere."""

import os
from pathlib import Path
from typing import Any

import pytest

from infra.problem import Problem
from infra.settings import RunConfig
from tasks.feature import features_of
from tasks.plan import RunPlan, manifest_columns, overlay_work, plan_run, work_left
from tasks.published import footers
from tasks.verify import verify
from tests.corpus import contents, files, spoil, table, write_tar
from tests.tasks.networks import DARK, LIGHT, MEDIUM, grey
from tests.tasks.runs import run, settings

FAULTY = {"a_1_2.mp4": grey(MEDIUM), "bad_1_2.mp4": b"no video"}
PLAIN = {"b_1_2.mp4": grey(MEDIUM), "c_1_2.mp4": grey(LIGHT)}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_tar(tmp_path / "corpus" / "faulty.tar", FAULTY, gz=False)
    write_tar(tmp_path / "corpus" / "plain.tar", PLAIN, gz=False)
    return tmp_path


def config_of(folder: Path, **more: Any) -> RunConfig:
    source = {"kind": "kinetics", "uri": f"{folder}/corpus/*.tar", **more.pop("source", {})}
    return settings(folder, source, **{"tag": ["grey"], **more})


def todo(plan: RunPlan) -> dict[str, list[str]]:
    """What the plan asks for, by shard."""
    return {work.shard.name: [f.table if f.model in (None, "grey") else f.model for f in work.features] for work in plan.work}


ALL = ["clips", "embeddings", "tags"]


def test_everything_is_to_be_done_and_then_nothing(corpus: Path) -> None:
    plan = plan_run(config_of(corpus))
    assert todo(plan) == {"faulty": ALL, "plain": ALL}
    assert {(work.reusable, work.listed, work.unchanged) for work in plan.work} == {(frozenset(), False, False)}
    assert not (corpus / "out").exists()
    assert run(config_of(corpus)).status == "done"
    for path in (corpus / "corpus").iterdir():
        spoil(path)
    after = plan_run(config_of(corpus))
    assert (todo(after), after.done_shards) == ({}, 2)
    assert work_left(plan, {feature: footers(plan.config.output, feature) for feature in plan.features}) == ()


def unlink(corpus: Path, folder: str, shard: str = "plain") -> None:
    (path,) = (corpus / "out" / folder).rglob(f"{shard}.parquet")
    path.unlink()


@pytest.mark.parametrize(
    ("lost", "shard", "missing", "listed"),
    [
        ("clips", "plain", ["clips"], False),
        ("embeddings", "plain", ["embeddings"], True),
        ("tags", "plain", ["tags"], True),
        ("clips", "faulty", ["clips"], False),
        ("embeddings", "faulty", ["embeddings"], True),
        ("failures", "faulty", ALL, False),
    ],
)
def test_a_lost_file_is_what_is_missing_and_comes_back(corpus: Path, lost: str, shard: str, missing: list[str], listed: bool) -> None:
    """`listed` says that clips and failures together name every member: without either file they do not."""
    config = config_of(corpus)
    run(config)
    before = contents(config.output)
    unlink(corpus, lost, shard)
    plan = plan_run(config)
    assert todo(plan) == {shard: missing}
    (work,) = plan.work
    assert (work.listed, work.unchanged) == (listed, lost != "clips")
    held = {f.folder for f in features_of(config) if f.table != lost} if lost != "clips" else set()
    assert work.reusable == held
    assert (run(config).status, contents(config.output)) == ("done", before)
    assert verify(config.output).faults == []


def test_a_changed_archive_is_compared_clip_by_clip(corpus: Path) -> None:
    config = config_of(corpus)
    run(config)
    write_tar(corpus / "corpus" / "plain.tar", {**PLAIN, "d_1_2.mp4": grey(DARK)}, gz=False)
    plan = plan_run(config)
    assert todo(plan) == {"plain": ALL}
    (work,) = plan.work
    assert work.reusable == {feature.folder for feature in features_of(config)}
    assert (work.listed, work.unchanged) == (True, False)
    assert run(config).clips == 1


def test_another_model_option_or_rate_is_only_its_own_work(corpus: Path) -> None:
    run(config_of(corpus))
    assert todo(plan_run(config_of(corpus, embed=["grey", "picky"]))) == {"faulty": ["picky"], "plain": ["picky"]}
    assert todo(plan_run(config_of(corpus, frame_embeddings=True))) == {"faulty": ["embeddings"], "plain": ["embeddings"]}
    assert todo(plan_run(config_of(corpus, decode={"fps": 3}))) == {"faulty": ["embeddings", "tags"], "plain": ["embeddings", "tags"]}
    assert todo(plan_run(config_of(corpus, tag=[], limits={"max_failed": 1}, decode={"clip_s": 3}))) == {}


def test_a_state_between_two_publications_reuses_only_what_fits_together(corpus: Path) -> None:
    """A run died after it published embeddings of the new state: their etags cannot be told from the clips of the old one."""
    config = config_of(corpus)
    run(config)
    old = corpus / "out" / "clips" / "plain.parquet"
    kept = old.read_bytes()
    write_tar(corpus / "corpus" / "plain.tar", {**PLAIN, "d_1_2.mp4": grey(DARK)}, gz=False)
    run(config)
    calm = contents(config.output)
    old.write_bytes(kept)
    plan = plan_run(config)
    assert todo(plan) == {"plain": ["clips"]}
    assert plan.work[0].reusable == {"clips"}
    assert any("different states" in fault.cause for fault in verify(config.output).faults)
    assert (run(config).status, contents(config.output)) == ("done", calm)


def test_a_changed_label_is_work_for_clips_alone(corpus: Path) -> None:
    csv = corpus / "train.csv"
    csv.write_text("label,youtube_id,time_start,time_end\nx,b,1,2\n")
    config = config_of(corpus, source={"annotations": str(csv)})
    run(config)
    csv.write_text("label,youtube_id,time_start,time_end\nyy,b,1,2\n")
    plan = plan_run(config)
    assert todo(plan) == {"faulty": ["clips"], "plain": ["clips"]}
    assert {(work.listed, work.unchanged) for work in plan.work} == {(True, True)}


def test_models_failures_stay_whatever_else_is_done(corpus: Path) -> None:
    """P1: adding a model, or losing the clips, once took away the reason for another model's missing row."""
    write_tar(corpus / "corpus" / "plain.tar", {**PLAIN, "d_1_2.mp4": grey(DARK)}, gz=False)
    picky = config_of(corpus, embed=["picky"], tag=[])
    run(picky)
    failed = sorted(row["clip_id"] for row in table(picky.output, "failures").to_pylist())
    assert failed == ["bad_1_2", "c_1_2", "d_1_2"]
    for config in (config_of(corpus, embed=["picky", "grey"], tag=[]), config_of(corpus, embed=["picky", "grey"])):
        assert run(config).status == "done"
        assert sorted(row["clip_id"] for row in table(picky.output, "failures").to_pylist()) == failed
        assert verify(config.output).faults == []
    unlink(corpus, "clips")
    assert run(config).status == "done"
    assert sorted(row["clip_id"] for row in table(picky.output, "failures").to_pylist()) == failed
    assert verify(config.output).faults == []
    assert todo(plan_run(config)) == {}


def test_a_shard_in_which_a_model_fails_on_every_clip_is_done_until_something_changes(corpus: Path) -> None:
    """It was computed anew by every run, and never verified."""
    write_tar(corpus / "corpus" / "plain.tar", {"d_1_2.mp4": grey(DARK)}, gz=False)
    config = config_of(corpus, embed=["picky"])
    assert run(config).status == "done"
    assert not list((corpus / "out" / "embeddings").rglob("plain.parquet"))
    before = files(corpus / "out")
    assert run(config).status == "nothing to do"
    assert files(corpus / "out") == before
    assert verify(config.output).faults == []
    more = config_of(corpus, embed=["picky", "grey"])
    run(more)
    assert todo(plan_run(more)) == {}
    assert todo(plan_run(config_of(corpus, embed=["picky"], decode={"fps": 3}, tag=[])))["plain"] == ["picky"]
    unlink(corpus, "failures")
    assert todo(plan_run(more)) == {"plain": ["picky"]}


def test_replacements_are_work_of_their_own_while_there_is_work(corpus: Path) -> None:
    fix = write_tar(corpus / "fix" / "plain.tar", {"bad_1_2.mp4": grey(MEDIUM)}, gz=False)
    config = config_of(corpus, source={"replacements": str(fix)})
    overlay = overlay_work(plan_run(config))
    assert overlay is not None
    assert (overlay.overlay, overlay.features, overlay.reusable) == (True, features_of(config), frozenset())
    assert overlay_work(plan_run(config_of(corpus))) is None
    assert run(config).coverage.replaced == 1
    assert overlay_work(plan_run(config)) is None
    assert table(config.output, "clips")["clip_id"].to_pylist() == ["a_1_2", "b_1_2", "bad_1_2", "c_1_2"]
    assert not (corpus / "out" / "failures" / "faulty.parquet").exists()


@pytest.mark.parametrize("kind", ["kinetics", "webdataset", "files"])
def test_another_corpus_is_refused(corpus: Path, kind: str) -> None:
    run(config_of(corpus))
    (corpus / "other").mkdir()
    for name in ("a.tar", "a.mp4"):
        (corpus / "other" / name).write_bytes(b"x")
    other = config_of(corpus, source={"kind": kind, "uri": f"{corpus}/other/*"})
    with pytest.raises(Problem, match=rf"holds another corpus \(kinetics {corpus}/corpus\), not {kind} {corpus}/other; choose another output"):
        plan_run(other)


def test_another_corpus_is_refused_before_its_first_clips_are_published(corpus: Path) -> None:
    """Clips come last: a run that died before them left embeddings of its own corpus."""
    run(config_of(corpus))
    for path in (corpus / "out" / "clips").iterdir():
        path.unlink()
    write_tar(corpus / "other" / "b.tar", PLAIN, gz=False)
    with pytest.raises(Problem, match="holds another corpus"):
        plan_run(config_of(corpus, source={"uri": f"{corpus}/other/*.tar"}))


def test_a_foreign_file_among_the_published_is_one_clear_line(corpus: Path) -> None:
    run(config_of(corpus))
    path = corpus / "out" / "clips" / "plain.parquet"
    path.write_bytes(b"mine")
    with pytest.raises(Problem, match=f"{path}: not a file that vidmill wrote, or damaged .* move it away") as problem:
        plan_run(config_of(corpus))
    assert "\n" not in str(problem.value)


def test_loose_videos_stay_where_they_are_when_a_run_is_killed_before_it_publishes(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for name in ("b", "d"):
        (tmp_path / "videos" / f"{name}.mp4").write_bytes(grey(MEDIUM))
    config = settings(tmp_path, {"kind": "files", "uri": f"{tmp_path}/videos", "shard_files": 2})
    run(config)
    (tmp_path / "videos" / "a.mp4").write_bytes(grey(LIGHT))
    plan = plan_run(config)
    assert {work.shard.name: [file.name for file in work.shard.files] for work in plan.work} == {"shard-00001": ["a.mp4"]}
    run(config)
    state = files(tmp_path / "out")
    os.unlink(tmp_path / "videos" / "d.mp4")
    assert run(config).status == "nothing to do"
    assert files(tmp_path / "out") == state


def test_columns_of_a_manifest_are_known_to_the_plan(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("uri,price\na.mp4,1.5\n")
    (tmp_path / "a.mp4").write_bytes(grey(MEDIUM))
    config = settings(tmp_path, {"kind": "manifest", "uri": f"{tmp_path}/list.csv"})
    assert manifest_columns(config).names == ["price"]
    assert run(config).status == "done"
    (tmp_path / "list.csv").write_text("uri,weight\na.mp4,7\n")
    run(config)
    assert "price" not in table(config.output, "clips").column_names
    assert table(config.output, "clips")["weight"].to_pylist() == [7]
    assert manifest_columns(replaced(config)).names == []


def replaced(config: RunConfig) -> RunConfig:
    """The same run over files."""
    return config.model_copy(update={"source": config.source.model_copy(update={"kind": "files"})})


def test_a_plan_of_a_model_that_cannot_be_had_is_refused(corpus: Path) -> None:
    broken = replace_weights(config_of(corpus))
    with pytest.raises(Problem, match=r"gone.safetensors: there is no such file"):
        plan_run(broken)


def replace_weights(config: RunConfig) -> RunConfig:
    """Weights that are not there."""
    gone = [model.model_copy(update={"weights": "file:/gone.safetensors"}) for model in config.models]
    return config.model_copy(update={"models": gone})
