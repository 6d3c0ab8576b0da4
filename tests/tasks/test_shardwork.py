"""What earlier runs have of a shard counts, as far as it still holds and no further."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tasks import shardwork
from tasks.clip import FailureKind
from tasks.shardwork import explains, failures_of, key_of, known_keys, published_clips, roster_of, row_files
from tasks.staging import Roster
from tasks.stored_rows import NUMBER
from tests.tasks.shards import (
    CLIPS,
    EMBEDDINGS,
    FEATURES,
    MODEL,
    OTHER,
    TAGS,
    failure,
    inferred,
    published,
    reusable,
    roster,
    shard_of,
    stage,
    work_of,
)

HELD: dict[str, Any] = {"reusable": reusable(), "listed": True, "unchanged": True}


def test_published_rows_and_failures_are_known(tmp_path: Path) -> None:
    done = published(tmp_path)
    assert known_keys(str(tmp_path), work_of(done.shard, **HELD)) == {(key, "v1") for key in "abcx"}


def test_rows_of_another_layout_are_not_known(tmp_path: Path) -> None:
    done = published(tmp_path)
    work = work_of(done.shard)
    assert known_keys(str(tmp_path), work) == set()
    assert published_clips(str(tmp_path), work).num_rows == 0
    assert failures_of(str(tmp_path), work) == []
    assert roster_of(str(tmp_path), work) is None


def test_a_clip_is_known_when_every_wanted_feature_has_it(tmp_path: Path) -> None:
    stage(tmp_path, "part_0", [inferred("a"), inferred("b")], [failure("x")])
    stage(tmp_path, "part_0", [inferred("a", models=("other",))], [failure("b", stage="other", kind=FailureKind.MODEL)], features=[OTHER])
    stage(tmp_path, "part_0", [inferred("late")])
    all_features = work_of(shard_of(), (*FEATURES, OTHER))
    assert known_keys(str(tmp_path), all_features) == {(key, "v1") for key in "abx"}
    assert known_keys(str(tmp_path), work_of(shard_of())) == {(key, "v1") for key in ("a", "b", "x", "late")}
    assert known_keys(str(tmp_path), work_of(shard_of(), [replace(OTHER, version="b1111111")])) == {("x", "v1"), ("b", "v1")}
    assert known_keys(str(tmp_path), work_of(shard_of("part_1"))) == set()


def test_keys_carry_the_state_they_were_made_from(tmp_path: Path) -> None:
    """P5: a changed clip must not be taken for its older self."""
    stage(tmp_path, "part_0", [inferred("a", etag="v2")])
    done = published(tmp_path / "more")
    assert known_keys(str(tmp_path), work_of(shard_of())) == {("a", "v2")}
    files = list(row_files(str(tmp_path / "more"), work_of(done.shard, **HELD), EMBEDDINGS))
    assert [sorted(file.keys) for file in files] == [[("a", "v1"), ("b", "v1"), ("c", "v1")]]


def test_telling_keys_reads_no_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is proportional to clip ids: with all columns read every plan of a shard would load its embeddings."""
    done = published(tmp_path)
    stage(tmp_path, "part_0", [inferred("k")])
    read: list[list[str]] = []
    really = shardwork.row_files

    def spy(*arguments: Any) -> Any:
        for file in really(*arguments):
            read.append(file.rows.column_names)
            yield file

    monkeypatch.setattr(shardwork, "row_files", spy)
    known_keys(str(tmp_path), work_of(done.shard, **HELD))
    assert len(read) == 6
    assert set().union(*read) == {"clip_id", "source_etag", NUMBER}


def test_published_rows_come_before_fragments(tmp_path: Path) -> None:
    """Publication tells an unchanged file by the number of the file that supplies its rows."""
    done = published(tmp_path)
    stage(tmp_path, "part_0", [inferred("a")])
    for feature in FEATURES:
        first, second = row_files(str(tmp_path), work_of(done.shard, **HELD), feature)
        assert (len(first.keys), len(second.keys)) == (3, 1)


def test_the_roster_is_what_was_staged_else_what_was_published_in_this_state(tmp_path: Path) -> None:
    done = published(tmp_path)
    members = dict.fromkeys("abcx", "v1")
    assert roster_of(str(tmp_path), work_of(done.shard, **HELD)) == Roster(members, 0)
    for changed in ({"listed": False}, {"unchanged": False}):
        assert roster_of(str(tmp_path), work_of(done.shard, **{**HELD, **changed})) is None
    roster(tmp_path, done.shard, {"a": "v9"}, ignored=2)
    assert roster_of(str(tmp_path), work_of(done.shard, **HELD)) == Roster({"a": "v9"}, 2)
    assert roster_of(str(tmp_path), work_of(shard_of(etag="state 9"))) is None


def test_a_failure_is_of_its_clip_or_else_of_its_member() -> None:
    assert key_of({"clip_id": "a", "member": "/a.mp4", "source_etag": "1"}) == ("a", "1")
    assert key_of({"clip_id": None, "member": "/a.mp4", "source_etag": "1"}) == ("/a.mp4", "1")


@pytest.mark.parametrize(("stage_name", "explained"), [("read", [True] * 4), ("decode", [True] * 4), (MODEL, [False, True, True, False])])
def test_a_failure_explains_all_features_or_those_of_its_model(stage_name: str, explained: list[bool]) -> None:
    assert [explains({"stage": stage_name}, feature) for feature in (CLIPS, EMBEDDINGS, TAGS, OTHER)] == explained


def stages_of(output: Path, **more: Any) -> list[str]:
    return sorted(str(row["stage"]) for row in failures_of(str(output), work_of(shard_of(), **more)))


def test_published_failures_hold_as_long_as_what_they_explain(tmp_path: Path) -> None:
    stage(tmp_path, "part_0", [], [failure("x"), failure("b", stage=MODEL), failure("b", stage="other")])
    staged = next((tmp_path / "_wip").rglob("*.fragment"))
    (tmp_path / "failures").mkdir()
    staged.rename(tmp_path / "failures" / "part_0.parquet")
    assert stages_of(tmp_path, **HELD) == ["decode", MODEL, "other"]
    assert stages_of(tmp_path, features=[OTHER], **HELD) == ["decode", MODEL]
    assert stages_of(tmp_path, features=[CLIPS]) == [MODEL, "other"]
    assert stages_of(tmp_path, features=[CLIPS, EMBEDDINGS]) == ["other"]


def test_rows_of_a_fragment_without_its_file_are_no_rows(tmp_path: Path) -> None:
    assert list(row_files(str(tmp_path), work_of(shard_of(), **HELD), CLIPS)) == []
    assert isinstance(published_clips(str(tmp_path), work_of(shard_of(), **HELD)), pa.Table)
