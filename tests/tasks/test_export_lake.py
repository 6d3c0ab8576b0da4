"""Tables of a lakehouse hold the rows of the published Parquet, whatever happened to it since the last export; no file of data is written.

Every test runs for both formats.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra import storage
from infra.lease import lease
from infra.problem import Problem
from tasks.export_delta import DeltaHandle
from tasks.export_iceberg import IcebergHandle
from tasks.export_lake import Overtaken
from tasks.visible import visible_files
from tests.corpus import files
from tests.tasks.lakes import Delta, Iceberg, Lake, by_folder, done, plain_rows, sorted_rows
from tests.tasks.shards import CLIPS, EMBEDDINGS, MODEL, TAGS, failure, inferred, publish, roster, shard_of, stage, work_of
from tests.tasks.test_export_youtube8m import records

__all__ = ["records"]

FOLDERS = (CLIPS.folder, "failures", EMBEDDINGS.folder, TAGS.folder)
DIES = """
import os, signal, sys
from unittest.mock import patch
from tasks import {module}
from tests.tasks.lakes import Delta, Iceberg
with patch.object({module}{owner}, "{name}", lambda *_: os.kill(os.getpid(), signal.SIGKILL)):
    {lake}(sys.argv[1]).export()
"""


def publish_shard(output: Any, name: str, keys: str = "abc", *, etag: str = "v1", per_frame: bool = False) -> None:
    """A shard of one clip per letter, named after shard and letter, and one failure."""
    shard, ids = shard_of(name, etag=etag), [f"{name}-{key}" for key in keys]
    stage(output, name, [inferred(key, etag=etag) for key in ids], [failure(f"{name}-x", etag=etag)], per_frame=per_frame)
    roster(output, shard, dict.fromkeys([*ids, f"{name}-x"], etag))
    publish(output, work_of(shard))


@pytest.fixture(params=[Delta, Iceberg])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """An output of two shards, one with a name that an address has to escape, and nothing exported."""
    output = tmp_path / "an output"
    for name in ("part_0", "a b#c%20+é?"):
        publish_shard(output, name)
    return request.param(str(output))  # type: ignore[no-any-return]


def data(lake: Lake) -> dict[str, tuple[int, int]]:
    """Size and time of change of what was there before any export."""
    hidden = ("_delta_log", "_iceberg", "_export", "_wip")
    return {name: state for name, state in files(Path(lake.output)).items() if not any(part in hidden for part in name.split("/"))}


def assert_tables_are_the_files(lake: Lake, folders: tuple[str, ...] = FOLDERS) -> None:
    for folder in folders:
        assert sorted_rows(lake.arrow(folder)) == plain_rows(lake.output, folder)


def test_tables_hold_the_rows_of_the_files_and_no_file_is_touched(lake: Lake) -> None:
    before = data(lake)
    tables = done(lake)
    assert tuple(tables) == FOLDERS
    assert {(found.files, found.rows) for folder, found in tables.items() if folder != "failures"} == {(2, 6)}
    assert data(lake) == before
    assert_tables_are_the_files(lake)
    frame = lake.pandas(EMBEDDINGS.folder).set_index("clip_id")["embedding"]
    assert {clip_id: [float(value) for value in vector] for clip_id, vector in frame.items()} == {
        row["clip_id"]: row["embedding"] for row in plain_rows(lake.output, EMBEDDINGS.folder)
    }
    assert lake.sql(TAGS.folder, "select count(*), count(distinct tags[1].label) > 0 from t where tags[1].score > 0") == [(6, True)]


def test_readers_of_plain_parquet_see_no_table(lake: Lake) -> None:
    for _ in range(3):
        done(lake)
        publish_shard(lake.output, "part_0", etag=str(time.time_ns()))
    places, strays = visible_files(lake.output)
    assert (sorted(places), strays) == (sorted(FOLDERS), [])
    for folder in FOLDERS[1:]:
        glob = f"{lake.output}/{folder.partition('/')[0]}/**/*.parquet"
        assert duckdb.execute("select count(*) from read_parquet(?)", [glob]).fetchall() == [(len(plain_rows(lake.output, folder)),)]
    assert pq.read_table(f"{lake.output}/tags").num_rows == 6


def test_a_second_export_writes_nothing(lake: Lake) -> None:
    done(lake)
    before = files(Path(lake.output))
    summary = lake.export()
    assert (summary.status, summary.problems) == ("nothing to do", ())
    assert not any(found.touched for found in summary.tables)
    assert files(Path(lake.output)) == before
    assert {lake.versions(folder) for folder in FOLDERS} == {1}


def test_one_commit_takes_in_what_was_added_changed_and_deleted(lake: Lake) -> None:
    done(lake)
    publish_shard(lake.output, "part_1", "kl")
    publish_shard(lake.output, "part_0", "abz", etag="v2")
    for folder in FOLDERS:
        (Path(lake.output) / folder / "a b#c%20+é?.parquet").unlink()
    tables = done(lake)
    assert {(found.files, found.added, found.changed, found.removed) for found in tables.values()} == {(2, 1, 1, 1)}
    assert tables["clips"].rows == 5
    assert {lake.versions(folder) for folder in FOLDERS} == {2}
    assert_tables_are_the_files(lake)


def test_statistics_rule_out_no_file_that_holds_rows(lake: Lake) -> None:
    """Wrong bounds would lose rows in silence."""
    done(lake)
    publish_shard(lake.output, "part_1", "kl")
    done(lake)
    failed_at = plain_rows(lake.output, "failures")[0]["failed_at"]
    asked = {
        ("clips", "clip_id = 'part_1-k'"): lambda row: row["clip_id"] == "part_1-k",
        ("clips", "shard >= 'part_0' and width = 160"): lambda row: row["shard"] >= "part_0",
        ("clips", "start_s < 1.5"): lambda row: row["start_s"] < 1.5,
        ("clips", "label is null"): lambda row: row["label"] is None,
        ("failures", f"failed_at <= '{failed_at.isoformat()}'"): lambda row: row["failed_at"] <= failed_at,
    }
    for (folder, predicate), fits in asked.items():
        expected = [row["clip_id"] for row in plain_rows(lake.output, folder) if fits(row)]
        assert expected, predicate
        assert [row["clip_id"] for row in sorted_rows(lake.chosen(folder, predicate))] == expected, predicate


def test_half_floats_are_left_out_and_said(lake: Lake) -> None:
    publish_shard(lake.output, "part_1", "kl", per_frame=True)
    left_out = {folder: found.left_out for folder, found in done(lake).items()}
    assert left_out == {folder: ("frame_embedding",) if folder == EMBEDDINGS.folder else () for folder in FOLDERS}
    assert sorted_rows(lake.arrow(EMBEDDINGS.folder)) == plain_rows(lake.output, EMBEDDINGS.folder, without=("frame_embedding",))
    assert by_folder(lake.export())[EMBEDDINGS.folder].left_out == ("frame_embedding",)


def test_half_floats_that_come_later_do_not_hide_the_other_columns(lake: Lake) -> None:
    done(lake)
    publish_shard(lake.output, "part_1", "kl", per_frame=True)
    assert done(lake)[EMBEDDINGS.folder].left_out == ("frame_embedding",)
    publish_shard(lake.output, "part_2", "kl", per_frame=True)
    done(lake)
    assert sorted_rows(lake.arrow(EMBEDDINGS.folder)) == plain_rows(lake.output, EMBEDDINGS.folder, without=("frame_embedding",))


def test_records_of_youtube8m_keep_codes_segments_and_labels(request: pytest.FixtureRequest, records: Path) -> None:
    for lake in (Delta(f"{records}/out"), Iceberg(f"{records}/out")):
        tables = done(lake)
        assert [found.left_out for found in tables.values()] == [()] * len(tables)
        assert len(tables) == 4
        assert_tables_are_the_files(lake, tuple(tables))
    assert any(row["segments"] for row in plain_rows(f"{records}/out", "clips"))


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """A file with other columns, as a manifest that grew gives."""
    found = pq.ParquetFile(path).read()
    changed = change(found)
    pq.write_table(changed.replace_schema_metadata(found.schema.metadata), path)


def test_a_column_that_a_manifest_gained_is_empty_in_older_files(lake: Lake) -> None:
    done(lake)
    clips = Path(lake.output) / "clips"
    rewrite(clips / "part_0.parquet", lambda found: found.append_column("score", pa.array(range(found.num_rows), pa.int8())))
    assert done(lake)["clips"].changed == 1
    rows = {row["clip_id"]: row["score"] for row in lake.arrow("clips").to_pylist()}
    assert sorted(value for value in rows.values() if value is not None) == [0, 1, 2]
    assert {value for clip_id, value in rows.items() if not clip_id.startswith("part_0")} == {None}
    assert lake.export().status == "nothing to do"


def test_a_column_of_two_types_is_one_line_and_the_other_tables_go_on(lake: Lake) -> None:
    clips = Path(lake.output) / "clips"
    rewrite(clips / "part_0.parquet", lambda found: found.append_column("score", pa.array(range(found.num_rows), pa.int64())))
    done(lake)
    rewrite(clips / "a b#c%20+é?.parquet", lambda found: found.append_column("score", pa.array(["x"] * found.num_rows)))
    publish_shard(lake.output, "part_1", "k")
    summary = lake.export()
    assert summary.status == "work left"
    (line,) = summary.problems
    assert all(word in line for word in ("clips", "'score'", "export again"))
    assert set(by_folder(summary)) == set(FOLDERS[1:])
    assert all(lake.has(folder) for folder in FOLDERS)
    assert_tables_are_the_files(lake, FOLDERS[1:])


def test_a_damaged_file_is_told_and_is_no_part_of_its_table(lake: Lake) -> None:
    done(lake)
    path = Path(lake.output) / EMBEDDINGS.folder / "part_0.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    summary = lake.export()
    (line,) = summary.problems
    assert line.startswith(f"{EMBEDDINGS.folder}/part_0.parquet: ")
    assert {row["shard"] for row in lake.arrow(EMBEDDINGS.folder).to_pylist()} == {"a b#c%20+é?"}
    path.write_bytes(whole)
    done(lake)
    assert_tables_are_the_files(lake)


def test_a_lost_receipt_or_a_strangers_commit_costs_footers_and_nothing_else(lake: Lake) -> None:
    done(lake)
    for path in [*Path(lake.output).glob("_export/**/*.json"), *Path(lake.output).glob("_iceberg/**/receipt.json")]:
        path.unlink()
    (Path(lake.output) / "clips/part_0.parquet").unlink()
    publish_shard(lake.output, "part_1", "k")
    tables = done(lake)
    assert (tables["clips"].added, tables["clips"].changed, tables["clips"].removed) == (1, 1, 1)
    assert_tables_are_the_files(lake)
    assert lake.export().status == "nothing to do"


@pytest.mark.parametrize("place", ["before the commit", "after the commit"])
def test_a_killed_export_leaves_tables_that_can_be_read_and_the_next_one_ends_it(lake: Lake, place: str) -> None:
    done(lake)
    expected = {folder: sorted_rows(lake.arrow(folder)) for folder in FOLDERS}
    publish_shard(lake.output, "part_1", "kl")
    kind = type(lake).__name__
    before = {"module": f"export_{kind.lower()}", "owner": f".{kind}Handle", "name": "_commit"}
    where = before if place == "before the commit" else {"module": "export_lake", "owner": "", "name": "write_receipt"}
    ended = subprocess.run([sys.executable, "-c", DIES.format(lake=kind, **where), lake.output], capture_output=True, text=True)
    assert ended.returncode == -9, ended.stderr
    assert sorted_rows(lake.arrow(CLIPS.folder)) == (expected["clips"] if place == "before the commit" else plain_rows(lake.output, "clips"))
    for folder in FOLDERS[1:]:
        assert sorted_rows(lake.arrow(folder)) == expected[folder]
    done(lake)
    assert_tables_are_the_files(lake)
    assert lake.export().status == "nothing to do"


def test_an_export_is_turned_away_while_a_run_or_another_export_is_at_work(lake: Lake) -> None:
    with lease(lake.output, run_id="export-other"), pytest.raises(Problem, match=r"export-other.* is writing here .*wait for it"):
        lake.export()
    assert not any(lake.has(folder) for folder in FOLDERS) if isinstance(lake, Delta) else not Path(lake.output, "_iceberg").exists()
    done(lake)


def test_whoever_comes_second_past_the_lease_is_told_and_changes_nothing(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store may not keep two apart; then the format's own commit does."""
    done(lake)
    publish_shard(lake.output, "part_1", "kl")
    handle: Any = DeltaHandle if isinstance(lake, Delta) else IcebergHandle
    really = handle._commit
    first: list[Any] = []

    def commit(self: Any, *arguments: Any) -> None:
        if not first:
            first.append(copy(self))
            vars(first[0]).update({name: first[0]._opened() for name in ("_delta", "_iceberg") if name in vars(self)})
            first[0].apply(arguments[-1])
        really(self, *arguments)

    monkeypatch.setattr(handle, "_commit", commit)
    with pytest.raises(Overtaken, match="somebody else wrote to this table meanwhile; export again"):
        lake.export()
    monkeypatch.undo()
    assert lake.versions("clips") == 2
    done(lake)
    assert_tables_are_the_files(lake)


def test_tables_of_a_feature_that_is_gone_go(lake: Lake) -> None:
    done(lake)
    storage.delete_tree(f"{lake.output}/tags/model={MODEL}")
    summary = lake.export()
    assert TAGS.folder not in by_folder(summary)
    assert not lake.has(TAGS.folder)
    assert summary.dropped == (("vidmill.tags_mean_colour_a0000000",) if isinstance(lake, Iceberg) else ())
    assert_tables_are_the_files(lake, FOLDERS[:3])


@pytest.mark.parametrize("kind", [Delta, Iceberg])
def test_outputs_in_s3_are_exported_with_the_same_environment(kind: Callable[..., Lake], bucket: str, tmp_path: Path) -> None:
    output = f"s3://{bucket}/an output/é"
    for name in ("part_0", "a b%20+é"):
        publish_shard(output, name)
    lake = kind(output) if kind is Delta else kind(output, str(tmp_path))
    done(lake)
    assert_tables_are_the_files(lake)
    publish_shard(output, "part_1", "kl")
    publish_shard(output, "part_0", "abz", etag="v2")
    storage.delete(f"{output}/clips/a b%20+é.parquet")
    found = done(lake)["clips"]
    assert (found.added, found.changed, found.removed) == (1, 1, 1)
    assert_tables_are_the_files(lake)
    assert lake.export().status == "nothing to do"


def test_what_is_no_output_is_one_line_and_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "100%").mkdir()
    for name, words in {"gone": "holds no published clips; check the path", "100%": "rename the folder"}.items():
        with pytest.raises(Problem, match=words):
            Delta(f"{tmp_path}/{name}").export()
    assert [path.name for path in tmp_path.iterdir()] == ["100%"]
    assert list((tmp_path / "100%").iterdir()) == []
