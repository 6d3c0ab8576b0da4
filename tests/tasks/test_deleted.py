"""What the source lists no more: kept and counted, or dropped with everything that was made of it, and nothing beside it."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from infra import storage
from infra.problem import Problem
from infra.settings import RunConfig
from tasks.deleted import DeletedInputs
from tasks.plan import plan_run
from tasks.staging import Staging
from tasks.verify import verify
from tests.corpus import contents, files, table, write_tar
from tests.tasks.networks import DARK, LIGHT, MEDIUM, grey
from tests.tasks.records import made, record, video_level, write
from tests.tasks.runs import run, settings

LEVELS = (DARK, MEDIUM, LIGHT)
KEEP, DROP = {"deleted": "keep"}, {"deleted": "drop"}


def clips(*numbers: int) -> dict[str, bytes]:
    return {f"v_{number}_{number + 1}.mp4": grey(LEVELS[number % 3]) for number in numbers}


def archives(folder: Path, **more: Any) -> RunConfig:
    return settings(folder, {"kind": "kinetics", "uri": f"{folder}/corpus/", **more.pop("source", {})}, **{"tag": ["grey"], **more})


def videos(folder: Path, **more: Any) -> RunConfig:
    source = {"kind": "files", "uri": f"{folder}/videos/", "shard_files": 2, **more.pop("source", {})}
    return settings(folder, source, **{"decode": {"clip_s": 1}, **more})


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for shard in range(3):
        broken = {f"bad_{shard}_9.mp4": b"no video"}
        write_tar(tmp_path / "corpus" / f"part_{shard}.tar", clips(2 * shard, 2 * shard + 1) | broken, gz=False)
    return tmp_path


@pytest.fixture
def loose(tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    for number in range(5):
        (tmp_path / "videos" / f"{number}.mp4").write_bytes(grey(LEVELS[number % 3], seconds=2))
    return tmp_path


def visible(folder: Path) -> dict[str, tuple[int, int]]:
    return {name: state for name, state in files(folder / "out").items() if not name.startswith("_")}


def from_scratch(config: RunConfig, folder: Path) -> dict[str, Any]:
    """What a run into an empty output gives."""
    other = config.model_copy(update={"output": str(folder / "scratch")})
    shutil.rmtree(other.output, ignore_errors=True)
    assert run(other).status == "done"
    return contents(other.output)


def test_a_deleted_archive_is_kept_and_counted(corpus: Path) -> None:
    run(archives(corpus))
    before = visible(corpus)
    (corpus / "corpus" / "part_1.tar").unlink()
    for _ in range(2):
        summary = run(archives(corpus, source=KEEP))
        assert (summary.status, summary.shards, summary.deleted) == ("nothing to do", 2, DeletedInputs(kept=1, kept_clips=2))
    assert plan_run(archives(corpus)).deleted == DeletedInputs(kept=1, kept_clips=2)
    assert visible(corpus) == before
    assert verify(str(corpus / "out")).faults == []


def test_a_deleted_archive_is_dropped_from_every_table_and_version(corpus: Path) -> None:
    run(archives(corpus, decode={"fps": 3}))
    run(archives(corpus))
    before = visible(corpus)
    (corpus / "corpus" / "part_1.tar").unlink()
    config = archives(corpus, source=DROP)
    summary = run(config)
    assert (summary.status, summary.clips, summary.deleted) == ("done", 0, DeletedInputs(dropped=1, dropped_clips=2))
    assert len([name for name in before if "part_1" in name]) == 6, "clips, failures, two versions of embeddings and tags"
    assert visible(corpus) == {name: state for name, state in before.items() if "part_1" not in name}
    assert verify(config.output).faults == []
    again = run(config)
    assert (again.status, again.deleted) == ("nothing to do", DeletedInputs())
    assert {clip["shard"] for clip in table(config.output, "clips").to_pylist()} == {"part_0", "part_2"}


def test_an_archive_that_comes_back_is_computed_anew(corpus: Path) -> None:
    run(archives(corpus, source=DROP))
    calm, archive = contents(corpus / "out"), corpus / "corpus" / "part_1.tar"
    data = archive.read_bytes()
    archive.unlink()
    run(archives(corpus, source=DROP))
    archive.write_bytes(data)
    assert run(archives(corpus, source=DROP)).clips == 3
    assert contents(corpus / "out") == calm


def test_what_was_only_staged_of_a_deleted_archive_is_dropped_too(corpus: Path) -> None:
    config = archives(corpus, source=DROP)
    run(config)
    for shard in ("part_9", "_replacements"):
        storage.write_bytes(f"{Staging(config.output, shard).root}/clips/x-1.fragment", b"rows")
    assert (run(config).status, run(config).status) == ("done", "nothing to do")
    assert sorted(path.name for path in (corpus / "out" / "_wip").glob("shard=*")) == ["shard=_replacements"]


@pytest.mark.parametrize("deleted", [KEEP, DROP])
def test_clips_that_a_changed_archive_has_no_more_go_and_are_counted(corpus: Path, deleted: dict[str, str]) -> None:
    config = archives(corpus, source=deleted)
    run(config)
    write_tar(corpus / "corpus" / "part_1.tar", clips(3, 7), gz=False)
    summary = run(config)
    assert (summary.status, summary.clips, summary.deleted) == ("done", 1, DeletedInputs(lost_clips=1))
    assert contents(config.output) == from_scratch(config, corpus)
    assert verify(config.output).faults == []


def test_a_deleted_video_keeps_its_rows_until_they_are_dropped(loose: Path) -> None:
    run(videos(loose))
    before, rows = visible(loose), contents(loose / "out")
    (loose / "videos" / "1.mp4").unlink()
    kept = run(videos(loose, source=KEEP))
    assert (kept.status, kept.deleted, visible(loose)) == ("nothing to do", DeletedInputs(kept=1, kept_clips=2), before)
    config = videos(loose, source=DROP)
    assert plan_run(config).deleted == DeletedInputs(dropped=1, dropped_clips=2)
    dropped = run(config)
    assert (dropped.status, dropped.clips, dropped.deleted) == ("done", 0, DeletedInputs(dropped=1, dropped_clips=2))
    after = contents(config.output)
    assert after["clips"] == [row for row in rows["clips"] if row["video_id"] != "1.mp4"]
    assert len(after["embeddings"]) == len(rows["embeddings"]) - 2
    changed = {name.rpartition("/")[2] for name, state in visible(loose).items() if before.get(name) != state}
    assert changed == {"shard-00000.parquet"}
    assert verify(config.output).faults == []
    assert run(config).status == "nothing to do"


def test_a_loose_shard_without_any_video_goes_and_its_number_does_not_come_back_at_once(loose: Path) -> None:
    config = videos(loose, source=DROP)
    run(config)
    (loose / "videos" / "4.mp4").unlink()
    (loose / "videos" / "9.mp4").write_bytes(grey(DARK))
    assert run(config).status == "done"
    assert sorted({row["shard"] for row in table(config.output, "clips").to_pylist()}) == ["shard-00000", "shard-00001", "shard-00003"]
    assert not [name for name in visible(loose) if "shard-00002" in name]
    assert verify(config.output).faults == []


def test_a_video_that_was_only_noted_by_a_killed_run_is_forgotten(loose: Path) -> None:
    """Else a run that was killed, and the deletion of a video before the next one, would leave a MISSING failure that no undisturbed run has."""
    from tasks.membership import note_members

    config = videos(loose)
    note_members(config.output, plan_run(config).corpus)
    (loose / "videos" / "3.mp4").unlink()
    summary = run(config)
    assert (summary.status, summary.failures, summary.deleted) == ("done", (), DeletedInputs())
    assert sorted({row["video_id"] for row in table(config.output, "clips").to_pylist()}) == ["0.mp4", "1.mp4", "2.mp4", "4.mp4"]


@pytest.mark.parametrize("deleted", ["keep", "drop"])
def test_rows_of_a_manifest(loose: Path, deleted: str) -> None:
    """A row taken out is a deletion, though the video is still there; kept rows keep what the manifest said of them."""
    manifest = loose / "list.csv"
    rows = [f"videos/{number}.mp4,note {number}" for number in range(3)]
    manifest.write_text("\n".join(["uri,remark", *rows]))
    config = settings(loose, {"kind": "manifest", "uri": str(manifest), "deleted": deleted}, decode={"clip_s": 1})
    run(config)
    manifest.write_text("\n".join(["uri,remark", rows[0], rows[2], "videos/4.mp4,note 4"]))
    summary = run(config)
    gone = {"kept": DeletedInputs(kept=1, kept_clips=2), "drop": DeletedInputs(dropped=1, dropped_clips=2)}
    assert (summary.status, summary.clips, summary.deleted) == ("done", 2, gone["drop" if deleted == "drop" else "kept"])
    remarks = {row["video_id"]: row["remark"] for row in table(config.output, "clips").to_pylist()}
    numbers = (0, 2, 4) if deleted == "drop" else (0, 1, 2, 4)
    assert remarks == {f"videos/{number}.mp4": f"note {number}" for number in numbers}
    assert run(config).status == "nothing to do"
    assert verify(config.output).faults == []


def test_shards_of_records(tmp_path: Path) -> None:
    for shard in range(3):
        write(tmp_path / "shards" / f"train{shard}.tfrecord", (record(video_level(made(shard, number))) for number in range(2)))
    config = settings(tmp_path, {"kind": "youtube8m", "uri": f"{tmp_path}/shards/", **DROP}, embed=[])
    run(config)
    (tmp_path / "shards" / "train1.tfrecord").unlink()
    write(tmp_path / "shards" / "train2.tfrecord", (record(video_level(made(2, number))) for number in (1, 5)))
    summary = run(config)
    assert (summary.clips, summary.deleted) == (1, DeletedInputs(dropped=1, dropped_clips=2, lost_clips=1))
    assert contents(config.output) == from_scratch(config, tmp_path)
    assert verify(config.output).faults == []


def test_more_than_the_limit_is_not_dropped(corpus: Path) -> None:
    """A wrong prefix or a disk that is half there must not wipe an output."""
    config = archives(corpus, source=DROP)
    run(config)
    before = files(corpus / "out")
    for shard in (0, 1):
        (corpus / "corpus" / f"part_{shard}.tar").unlink()
    told = r"2 of 3 published archives are not there any more, and limits.max_deleted lets a run drop 50% of them; .*--limits.max-deleted 1$"
    with pytest.raises(Problem, match=told):
        plan_run(config)
    assert files(corpus / "out") == before
    assert plan_run(archives(corpus)).deleted == DeletedInputs(kept=2, kept_clips=4)
    assert run(archives(corpus, source=DROP, limits={"max_deleted": 1})).deleted.dropped == 2
    assert run(archives(corpus, source=DROP)).status == "nothing to do"


def test_videos_are_counted_by_themselves(loose: Path) -> None:
    config = videos(loose, source=DROP)
    run(config)
    for number in range(3):
        (loose / "videos" / f"{number}.mp4").unlink()
    with pytest.raises(Problem, match=r"3 of 5 published videos are not there any more"):
        plan_run(config)


@pytest.mark.parametrize("gone", ["archives", "folder", "pattern"])
def test_a_source_that_lists_nothing_is_a_problem_and_drops_nothing(corpus: Path, gone: str) -> None:
    config = archives(corpus, source=DROP, limits={"max_deleted": 1})
    run(config)
    before = files(corpus / "out")
    shutil.rmtree(corpus / "corpus")
    if gone == "archives":
        (corpus / "corpus").mkdir()
    elif gone == "pattern":
        write_tar(corpus / "corpus" / "part_0.tar.part", clips(0), gz=False)
    with pytest.raises(Problem):
        run(config)
    assert files(corpus / "out") == before


def test_a_retry_drops_nothing(corpus: Path) -> None:
    config = archives(corpus, source=DROP)
    run(config)
    before = visible(corpus)
    (corpus / "corpus" / "part_1.tar").unlink()
    run(config, select=["kind:NO_VIDEO,shard:part_0"])
    assert visible(corpus).keys() == before.keys()
