"""Only what changed may cost anything: files added, changed and deleted, models added, published files removed."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from flows.show import PlanView, print_plan
from flows.status import OutputView, print_output
from infra.problem import Problem
from infra.settings import RunConfig
from tasks.plan import plan_run
from tasks.verify import verify
from tests.corpus import clip, config_for, contents, files, name_of, spoil, table, write_shards, write_tar, write_videos
from tests.e2e.conftest import Run

VIDEOS = {f"day 1/video {n}.mp4": 3 for n in range(5)}


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    write_videos(tmp_path / "videos", VIDEOS)
    return tmp_path / "videos"


def settings(videos: Path, output: Path, **more: object) -> RunConfig:
    source = {"kind": "files", "uri": str(videos), "shard_files": 2}
    return config_for(source, output, decode={"clip_s": 2}, **more)


def published(output: Path) -> dict[str, tuple[int, int]]:
    """Files a reader sees."""
    return {name: state for name, state in files(output).items() if not name.startswith("_")}


def test_a_long_video_becomes_clips_with_times_on_its_own_time_line(run_here: Run, videos: Path, tmp_path: Path) -> None:
    run_here(settings(videos, tmp_path / "out"))
    rows = table(tmp_path / "out", "clips").to_pylist()
    first = [(row["clip_id"], row["start_s"], row["end_s"], row["video_id"]) for row in rows if row["video_id"] == "day 1/video 0.mp4"]
    assert first == [("day 1/video 0.mp4#0", 0.0, 2.0, "day 1/video 0.mp4"), ("day 1/video 0.mp4#2000", 2.0, 3.0, "day 1/video 0.mp4")]
    assert len(rows) == 10
    times = {row["clip_id"]: row["frame_time_s"] for row in table(tmp_path / "out", "embeddings").to_pylist()}
    assert (times["day 1/video 0.mp4#0"], times["day 1/video 0.mp4#2000"]) == ([0.0, 1.0], [0.0])


def test_an_added_and_a_changed_file_touch_only_their_shards(run_here: Run, videos: Path, tmp_path: Path) -> None:
    """P5: without the membership note a new file would shift every shard behind it."""
    output = tmp_path / "out"
    run_here(settings(videos, output))
    before, rows = published(output), {row["clip_id"]: row for row in table(output, "embeddings").to_pylist()}
    (videos / "day 1" / "video 0a.mp4").write_bytes(clip(77, seconds=3))
    (videos / "day 1" / "video 2.mp4").write_bytes(clip(78, seconds=3))
    summary = run_here(settings(videos, output))
    assert (summary.status, summary.clips) == ("done", 4)
    after = published(output)
    changed = {name for name, state in after.items() if before.get(name) != state}
    version = next(name for name in after if name.startswith("embeddings")).rpartition("/")[0]
    assert changed == {f"{folder}/shard-{shard}.parquet" for folder in ("clips", version) for shard in ("00001", "00003")}
    fresh = {row["clip_id"]: row for row in table(output, "embeddings").to_pylist()}
    assert {key for key in fresh if fresh[key] != rows.get(key)} == {
        "day 1/video 0a.mp4#0", "day 1/video 0a.mp4#2000", "day 1/video 2.mp4#0", "day 1/video 2.mp4#2000",
    }  # fmt: skip
    for path in videos.rglob("*.mp4"):
        spoil(path)
    assert run_here(settings(videos, output)).status == "nothing to do"


def test_a_deleted_file_keeps_its_rows_and_costs_nothing(run_here: Run, videos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run_here(settings(videos, output))
    before = published(output)
    (videos / "day 1" / "video 3.mp4").unlink()
    assert run_here(settings(videos, output)).status == "nothing to do"
    assert published(output) == before
    noted = files(output)
    assert run_here(settings(videos, output)).status == "nothing to do"
    assert files(output) == noted, "a record told of the deletion, and that once"
    screen = Console(file=io.StringIO(), width=200)
    print_output(OutputView.of(str(output), by_shard=False), screen)
    assert "not in the source any more: 1 input with 2 clips, kept (source.deleted: keep)" in screen.file.getvalue()  # type: ignore[attr-defined]


def test_a_deleted_file_is_dropped_when_that_is_asked(run_here: Run, videos: Path, tmp_path: Path) -> None:
    """Nothing is decoded for it, and a plan says it before."""
    output = tmp_path / "out"
    run_here(settings(videos, output))
    for path in (videos / "day 1" / "video 0.mp4", videos / "day 1" / "video 1.mp4"):
        path.unlink()
    source = {"kind": "files", "uri": str(videos), "shard_files": 2, "deleted": "drop"}
    config = config_for(source, output, decode={"clip_s": 2})
    screen = Console(file=io.StringIO(), width=200)
    print_plan(PlanView.of(plan_run(config)), screen, "vidmill run")
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "not in the source any more: 2 inputs with 4 clips, dropped (source.deleted: drop)" in text
    assert "next: vidmill run" in text
    summary = run_here(config)
    assert (summary.status, summary.clips, summary.deleted.dropped, summary.deleted.dropped_clips) == ("done", 0, 2, 4)
    assert sorted(path.name for path in (output / "clips").iterdir()) == ["shard-00001.parquet", "shard-00002.parquet"]
    before = files(output)
    assert run_here(config).status == "nothing to do"
    assert files(output) == before
    assert not verify(str(output)).faults


def test_a_second_model_adds_only_its_folder(run_here: Run, videos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run_here(settings(videos, output))
    before = published(output)
    both = settings(videos, output, embed=["efficientnet-lite0", "mobilenet-v2"])
    summary = run_here(both)
    assert (summary.status, summary.clips) == ("done", 10)
    after = published(output)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[1] for name in after.keys() - before.keys()} == {"model=mobilenet-v2"}
    assert not verify(str(output)).faults


def test_a_deleted_published_file_comes_back_and_nothing_else(run_here: Run, tmp_path: Path) -> None:
    write_shards(tmp_path / "corpus", shards=2, clips=3)
    config = config_for({"kind": "kinetics", "uri": f"{tmp_path}/corpus/part_*.tar.gz"}, tmp_path / "out", tag=["efficientnet-lite0"])
    run_here(config)
    before, rows = published(tmp_path / "out"), contents(tmp_path / "out")
    for folder in ("clips", "embeddings", "tags"):
        victim = next(name for name in before if name.startswith(folder) and name.endswith("part_1.parquet"))
        (tmp_path / "out" / victim).unlink()
        assert verify(str(tmp_path / "out")).faults
        assert run_here(config).status == "done"
        after = published(tmp_path / "out")
        assert {name for name, state in after.items() if before[name] != state} == {victim}
        assert contents(tmp_path / "out") == rows
        before = after


def test_a_changed_archive_recomputes_only_its_changed_clips(run_here: Run, tmp_path: Path) -> None:
    members = {f"{name_of(n)}.mp4": clip(n) for n in range(4)}
    archive = write_tar(tmp_path / "corpus" / "part_0.tar.gz", {**members, "broken_000001_000002.mp4": b"no video"})
    config = config_for({"kind": "kinetics", "uri": str(archive)}, tmp_path / "out")
    run_here(config)
    before = {row["clip_id"]: row for row in table(tmp_path / "out", "embeddings").to_pylist()}
    del members[f"{name_of(3)}.mp4"]
    write_tar(archive, {**members, f"{name_of(1)}.mp4": clip(50), f"{name_of(9)}.mp4": clip(9), "broken_000001_000002.mp4": clip(51)})
    summary = run_here(config)
    assert (summary.status, summary.clips) == ("done", 3)
    after = {row["clip_id"]: row for row in table(tmp_path / "out", "embeddings").to_pylist()}
    assert {key for key in after if after[key] != before.get(key)} == {name_of(1), name_of(9), "broken_000001_000002"}
    assert before.keys() - after.keys() == {name_of(3)}
    assert not table(tmp_path / "out", "failures").num_rows
    assert not verify(str(tmp_path / "out")).faults


def test_deleted_failures_are_tried_again(run_here: Run, tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "corpus" / "part_0.tar", {f"{name_of(0)}.mp4": clip(0), f"{name_of(1)}.mp4": clip(1)}, gz=False)
    config = config_for({"kind": "kinetics", "uri": str(archive)}, tmp_path / "out", limits={"max_pixels": 100})
    run_here(config)
    assert table(tmp_path / "out", "failures")["kind"].to_pylist() == ["TOO_LARGE", "TOO_LARGE"]
    wider = config_for({"kind": "kinetics", "uri": str(archive)}, tmp_path / "out")
    assert run_here(wider).status == "nothing to do"
    (tmp_path / "out" / "failures" / "part_0.parquet").unlink()
    assert run_here(wider).status == "done"
    assert table(tmp_path / "out", "embeddings").num_rows == 2
    assert not table(tmp_path / "out", "failures").num_rows
    assert not verify(str(tmp_path / "out")).faults


def test_an_output_of_another_corpus_is_refused(run_here: Run, videos: Path, tmp_path: Path) -> None:
    run_here(settings(videos, tmp_path / "out"))
    write_videos(tmp_path / "others", {"x.mp4": 2})
    with pytest.raises(Problem, match=r"holds another corpus .*choose another output"):
        plan_run(settings(tmp_path / "others", tmp_path / "out"))


def test_a_plan_writes_nothing_and_opens_no_media(videos: Path, tmp_path: Path) -> None:
    for path in videos.rglob("*.mp4"):
        spoil(path)
    plan = plan_run(settings(videos, tmp_path / "out"))
    assert [work.shard.name for work in plan.work] == ["shard-00000", "shard-00001", "shard-00002"]
    assert not (tmp_path / "out").exists()
