"""Backfills in this process: what is planned, what is decoded, what is published, and that nothing else is touched."""

from pathlib import Path
from typing import Any

import pytest

from flows.preflight import backfill_plan
from infra.backfill import BackfillConfig
from infra.problem import Problem
from infra.settings import RunConfig
from tasks.plan import RunPlan, plan_run
from tasks.published import read_footer
from tasks.record import last_record
from tasks.verify import verify
from tests.corpus import clip, contents, files, spoil, table, write_tar, write_videos
from tests.tasks.networks import DARK, LIGHT, MEDIUM, grey
from tests.tasks.runs import backfill, run, settings
from tests.tasks.taggers import entry as tagger_entry
from tests.tasks.taggers import tagger

ANNOTATIONS = "label,youtube_id,time_start,time_end,split\n{}".format(
    "".join(f"{label},{name},1,2,train\n" for name, label in {"a": "juggling balls", "b": "yoga", "c": "juggling balls", "d": "yoga"}.items())
)
JUGGLING, YOGA = 'label:"juggling balls"', "label:yoga"
FOLDER = "embeddings/model=picky"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """part_0 has a (juggling), b (yoga); part_1 c (juggling) and a clip that is no video; part_2 d (yoga)."""
    names = {"a": grey(MEDIUM), "b": clip(1)}, {"c": grey(MEDIUM), "x": b"no video"}, {"d": clip(2)}
    for number, clips in enumerate(names):
        members = {f"{name}_000001_000002.mp4": data for name, data in clips.items()}
        write_tar(tmp_path / "corpus" / f"part_{number}.tar", members, gz=False)
    (tmp_path / "labels.csv").write_text(ANNOTATIONS)
    return tmp_path


def config_of(folder: Path, **more: Any) -> RunConfig:
    return settings(folder, {"kind": "kinetics", "uri": f"{folder}/corpus/*.tar", "annotations": f"{folder}/labels.csv"}, **more)


def planned(config: RunConfig, *select: str, **more: Any) -> RunPlan:
    return backfill_plan(BackfillConfig.model_validate({"output": config.output, "embed": ["picky"], "select": [*select], **more}))


def todo(plan: RunPlan) -> list[str]:
    return [work.shard.name for work in plan.work]


def rows_of(config: RunConfig, folder: str = FOLDER) -> list[str]:
    return [name.partition("_")[0] for name in table(config.output, folder)["clip_id"].to_pylist()]


def test_a_backfill_adds_one_folder_and_is_what_a_run_would_have_made(corpus: Path) -> None:
    """P5: `clips` and every other feature keep their very files, and the source's labels are not asked for."""
    config = config_of(corpus)
    run(config)
    before = files(corpus / "out")
    (corpus / "labels.csv").unlink()
    summary = backfill(config, embed=["picky"])
    assert (summary.status, summary.clips, summary.shards_published) == ("done", 4, 3)
    assert verify(config.output).faults == []
    after = files(corpus / "out")
    assert {name: state for name, state in after.items() if name in before} == before
    assert {name.rpartition("/version")[0] for name in after.keys() - before.keys() if not name.startswith("_runs")} == {FOLDER}
    (corpus / "labels.csv").write_text(ANNOTATIONS)
    other = config_of(corpus, embed=["grey", "picky"], output=corpus / "at once")
    run(other)
    assert contents(config.output) == contents(other.output)


def test_what_is_there_is_not_opened_and_a_second_backfill_does_nothing(corpus: Path) -> None:
    config = config_of(corpus)
    run(config)
    backfill(config, embed=["picky"], select=["shard:part_0"])
    spoil(corpus / "corpus" / "part_0.tar")
    summary = backfill(config, embed=["picky"])
    assert (summary.status, summary.clips, summary.shards_published) == ("done", 2, 2)
    for path in (corpus / "corpus").iterdir():
        spoil(path)
    before = files(corpus / "out")
    assert backfill(config, embed=["picky"]).status == "nothing to do"
    assert files(corpus / "out") == before
    assert verify(config.output).faults == []


def test_a_label_makes_part_of_a_shard_another_adds_to_it_and_a_run_completes_it(corpus: Path) -> None:
    """P1: rows + failed + omitted == planned after each; only selected clips are decoded."""
    config = config_of(corpus)
    run(config)
    first = backfill(config, embed=["picky"], select=[JUGGLING])
    assert (first.status, first.clips, rows_of(config)) == ("done", 2, ["a", "c"])
    (path,) = (corpus / "out").glob(f"{FOLDER}/*/part_0.parquet")
    footer = read_footer(str(path))
    assert (footer.planned, footer.rows, footer.failed, footer.omitted) == (2, 1, 0, 1)
    found = verify(config.output)
    assert found.faults == []
    (check,) = (check for check in found.features if check.folder.startswith(FOLDER))
    assert (check.rows, check.failed, check.omitted, check.partial) == (2, 1, 1, True)
    assert backfill(config, embed=["picky"], select=[JUGGLING]).status == "nothing to do"

    second = backfill(config, embed=["picky"], select=[YOGA])
    assert (second.status, second.clips, rows_of(config)) == ("done", 2, ["a", "b", "c", "d"])
    assert verify(config.output).faults == []
    whole = config_of(corpus, embed=["grey", "picky"])
    assert plan_run(whole).work == ()

    for part in (corpus / "out" / FOLDER).rglob("part_0.parquet"):
        part.unlink()
    backfill(config, embed=["picky"], select=["clip:b_*"])
    assert todo(plan_run(whole)) == ["part_0"]
    summary = run(whole)
    assert (summary.status, summary.clips, rows_of(config)) == ("done", 1, ["a", "b", "c", "d"])
    assert verify(config.output).faults == []


def test_selectors_are_shards_columns_and_what_is_missing(corpus: Path) -> None:
    config = config_of(corpus)
    run(config)
    assert todo(planned(config, "shard:part_[01]", "shard:part_2,label:nothing")) == ["part_0", "part_1"]
    assert todo(planned(config, f"{JUGGLING},shard:part_1")) == ["part_1"]
    assert todo(planned(config, "split:test")) == []
    assert todo(planned(config, "width:64")) == ["part_0", "part_1"]
    backfill(config, embed=["picky"], select=["clip:a_*"])
    assert todo(planned(config, "missing:")) == ["part_1", "part_2"]
    assert todo(planned(config, "missing:clips")) == ["part_0"]
    assert todo(planned(config, f"missing:,{YOGA}")) == ["part_2"]
    assert todo(planned(config)) == ["part_0", "part_1", "part_2"]
    with pytest.raises(Problem, match=r"--select lable:x: lable is not a key; one of shard, missing, clip, video, .*; did you mean label\?"):
        planned(config, "lable:x")


def test_failures_of_the_new_feature_are_told_and_not_tried_again(corpus: Path) -> None:
    """Also where no clip of a selection gives a row, so that there is no file: another selection keeps what was found."""
    write_tar(
        corpus / "corpus" / "part_3.tar", {"e_000001_000002.mp4": grey(DARK), "f_000001_000002.mp4": grey(LIGHT), "g_000001_000002.mp4": clip(3)}
    )
    config = config_of(corpus, limits={"max_failed": 100})
    run(config)
    assert backfill(config, embed=["picky"], select=["clip:e_*"]).clips == 1
    assert verify(config.output).faults == []
    assert todo(planned(config, "clip:e_*")) == []
    assert todo(planned(config, "missing:")) == ["part_0", "part_1", "part_2"]
    assert todo(plan_run(config_of(corpus, embed=["grey", "picky"]))) == ["part_0", "part_1", "part_2", "part_3"]
    assert backfill(config, embed=["picky"], select=["clip:f_*"]).clips == 1
    summary = backfill(config, embed=["picky"], select=["shard:part_3"])
    assert (summary.clips, rows_of(config)) == (1, ["g"])
    failed = table(config.output, "failures").to_pylist()
    assert sorted((row["clip_id"][0], row["stage"]) for row in failed if row["clip_id"]) == [("e", "picky"), ("f", "picky"), ("x", "decode")]
    assert verify(config.output).faults == []


def test_changed_gone_and_new_shards_are_left_out_and_named(corpus: Path) -> None:
    config = config_of(corpus)
    run(config)
    write_tar(corpus / "corpus" / "part_0.tar", {"a_000001_000002.mp4": grey(LIGHT)}, gz=False)
    (corpus / "corpus" / "part_1.tar").unlink()
    write_tar(corpus / "corpus" / "part_9.tar", {"n_000001_000002.mp4": grey(LIGHT)}, gz=False)
    summary = backfill(config, embed=["picky"])
    assert (summary.status, summary.clips, rows_of(config)) == ("done", 1, ["d"])
    assert summary.notices == (
        "left out, and for `vidmill run`: part_0: changed in the source since their clips were read",
        "left out, and for `vidmill run`: part_1: not in the source any more",
        "left out, and for `vidmill run`: part_9: new in the source",
    )
    assert verify(config.output).faults == []
    record = last_record(config.output)
    assert record is not None
    assert (record["config"]["embed"], [feature["model"] for feature in record["partial"]]) == (["grey"], ["picky"])


def test_the_record_asks_for_what_was_added_to_all(corpus: Path) -> None:
    """P11: a file of it that is lost afterwards is a fault."""
    config = config_of(corpus)
    run(config)
    backfill(config, embed=["picky"], tag=["picky"])
    record = last_record(config.output)
    assert record is not None
    assert (record["config"]["embed"], record["config"]["tag"], record["partial"]) == (["grey", "picky"], ["picky"], [])
    assert record["config"]["source"]["annotations"] == f"{corpus}/labels.csv"
    next((corpus / "out" / FOLDER).rglob("part_2.parquet")).unlink()
    (fault,) = verify(config.output).faults
    assert fault.cause == "is not published"


def test_loose_files_without_a_wanted_clip_are_not_opened(tmp_path: Path) -> None:
    write_videos(tmp_path / "videos", {"a.mp4": 3, "b.mp4": 1, "c.mp4": 2})
    config = settings(tmp_path, {"kind": "files", "uri": f"{tmp_path}/videos"}, decode={"clip_s": 1})
    run(config)
    for name in ("b.mp4", "c.mp4"):
        spoil(tmp_path / "videos" / name)
    summary = backfill(config, embed=["picky"], select=["clip:a.mp4#[12]000"])
    assert (summary.status, summary.clips, summary.failures) == ("done", 2, ())
    assert table(config.output, FOLDER)["clip_id"].to_pylist() == ["a.mp4#1000", "a.mp4#2000"]
    assert verify(config.output).faults == []


def test_tags_of_a_part_are_made_of_the_embeddings_of_the_same_backfill(corpus: Path) -> None:
    config = config_of(corpus)
    run(config)
    mine = tagger_entry(tagger(corpus / "tagger.safetensors", ("picky", 3)))
    with pytest.raises(Problem, match=r"tag: mine reads embeddings of picky, which this run does not make"):
        backfill(config, tag=["mine"], models=[mine])
    summary = backfill(config, embed=["picky"], tag=["mine"], models=[mine], select=[JUGGLING])
    assert (summary.status, summary.clips, summary.tagged) == ("done", 2, 2), summary.problems
    assert rows_of(config, "tags/model=mine") == ["a", "c"]
    assert verify(config.output).faults == []
    with pytest.raises(Problem, match=r"tag: mine reads embeddings picky@\w+, which .* lacks of part_0, or has in part; .* add --embed picky"):
        backfill(config, tag=["mine"], models=[mine])
    summary = backfill(config, embed=["picky"], tag=["mine"], models=[mine])
    assert (summary.status, summary.clips, summary.tagged) == ("done", 2, 2), summary.problems
    assert rows_of(config, "tags/model=mine") == ["a", "b", "c", "d"]
    assert verify(config.output).faults == []
    whole = config_of(corpus, embed=["grey", "picky"], tag=["mine"], models=[*(model.model_dump() for model in config.models), mine])
    assert plan_run(whole).work == ()


def test_restored_videos_of_a_part(corpus: Path) -> None:
    config = config_of(corpus)
    run(config)
    summary = backfill(config, enhance=["denoise"], select=[YOGA])
    assert (summary.status, summary.enhanced) == ("done", 2), summary.problems
    assert rows_of(config, "enhanced") == ["b", "d"]
    assert verify(config.output).faults == []
    summary = backfill(config, enhance=["denoise"])
    assert (summary.status, summary.enhanced) == ("done", 2), summary.problems
    assert rows_of(config, "enhanced") == ["a", "b", "c", "d"]
    assert len([*(corpus / "out" / "media").rglob("*.mp4")]) == 4
    assert verify(config.output).faults == []


def test_a_clip_that_cannot_be_decoded_again_stays_explained(corpus: Path) -> None:
    """P1: `grey` has its row, `picky` a failure of decoding; whatever is published later must not forget why."""
    config = config_of(corpus)
    run(config)
    backfill(config, tag=["grey"], select=["clip:b_*"])
    backfill(config, embed=["picky"], select=["shard:part_0"], limits={"max_frames": 1, "max_failed": 100})
    told = [(row["clip_id"][0], row["stage"], row["kind"]) for row in table(config.output, "failures").to_pylist() if row["shard"] == "part_0"]
    assert (told, rows_of(config)) == ([("b", "decode", "TOO_LARGE")], ["a"])
    assert verify(config.output).faults == []
    backfill(config, tag=["grey"])
    assert rows_of(config, "tags/model=grey") == ["a", "b", "c", "d"]
    assert verify(config.output).faults == []


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (
            ["label"],
            r"--select label: 'label' is not KEY:VALUE; keys are shard, missing and the columns of clips, such as label;",
        ),
        (["missing:rows"], r"--select missing:rows: missing:rows is nothing; missing: or missing:shards"),
    ],
)
def test_a_slip_is_one_line(corpus: Path, texts: list[str], says: str) -> None:
    config = config_of(corpus)
    run(config)
    with pytest.raises(Problem, match=says):
        planned(config, *texts)


def test_an_output_without_a_run_or_without_clips_is_refused(tmp_path: Path, corpus: Path) -> None:
    config = config_of(corpus)
    with pytest.raises(Problem, match="no vidmill run is recorded there"):
        planned(config)
    run(config)
    for path in (corpus / "out" / "clips").iterdir():
        path.unlink()
    with pytest.raises(Problem, match="no clips are published there, and a backfill adds to those that are"):
        planned(config)
