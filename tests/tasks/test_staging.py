"""Staged rows come back, damaged ones never did exist."""

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import storage
from tasks.staging import Roster, Staging, wip
from tasks.stored_rows import NUMBER

ROWS = pa.table({"clip_id": ["a", "b"], "source_etag": ["1", "2"], "value": [0.5, 1.5]})


def values(staging: Staging, folder: str = "clips") -> list[pa.Table]:
    return list(staging.tables(folder))


def test_what_is_added_comes_back_and_only_from_its_folder(tmp_path: Path) -> None:
    staging = Staging(str(tmp_path), "part_0")
    staging.add("clips", ROWS)
    staging.add("clips", ROWS.slice(0, 0))
    staging.add("tags/model=m/version=v", ROWS)
    assert [table.equals(ROWS) for table in values(staging)] == [True]
    (stored,) = staging.files("tags/model=m/version=v", ["clip_id"])
    assert stored.small.column_names == ["clip_id", NUMBER]
    assert stored.rows([1]).equals(ROWS.slice(1))
    assert values(staging, "nothing") == []
    assert values(Staging(str(tmp_path), "part_1")) == []


@pytest.mark.parametrize("shard", ["tmp", "lease.json", "shards.json", "_replacements"])
def test_no_shard_takes_the_place_of_anything_else_in_wip(tmp_path: Path, shard: str) -> None:
    """An archive tmp.tar would share its folder with the temporary files of all others, and delete them."""
    (tmp_path / "_wip" / "tmp").mkdir(parents=True)
    (tmp_path / "_wip" / "lease.json").write_text("{}")
    staging = Staging(str(tmp_path), shard)
    staging.add("clips", ROWS)
    staging.clear()
    assert (tmp_path / "_wip" / "tmp").is_dir()
    assert (tmp_path / "_wip" / "lease.json").exists()


@pytest.mark.parametrize("cut", range(0, 1000, 7))
def test_a_damaged_fragment_counts_as_absent_and_never_as_an_error(tmp_path: Path, cut: int) -> None:
    staging = Staging(str(tmp_path), "part_0")
    staging.add("clips", ROWS)
    path = next(Path(staging.root).rglob("*.fragment"))
    data = path.read_bytes()
    at = cut % len(data)
    path.write_bytes(data[:at])
    assert values(staging) == list(staging.files("clips", ["clip_id"])) == []
    path.write_bytes(data[:at] + bytes(40) + data[at + 40 :])
    assert len(values(staging)) <= 1


@given(members=st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), st.text(max_size=3)), ignored=st.integers(0, 9))
def test_a_roster_comes_back_for_its_state_alone(tmp_path_factory: pytest.TempPathFactory, members: dict[str, str], ignored: int) -> None:
    staging = Staging(str(tmp_path_factory.getbasetemp() / "roster"), "part_0")
    staging.write_roster("state 1", Roster(members, ignored))
    assert staging.read_roster("state 1") == Roster(members, ignored)
    assert staging.read_roster("state 2") is None


def test_clear_removes_one_shard(tmp_path: Path) -> None:
    first, second = Staging(str(tmp_path), "part_0"), Staging(f"{tmp_path}/", "part_1")
    for staging in (first, second):
        staging.add("clips", ROWS)
        staging.write_roster("e", Roster({}, 0))
    first.clear()
    assert values(first) == []
    assert first.read_roster("e") is None
    assert len(values(second)) == 1
    assert storage.list_names(f"{wip(str(tmp_path))}/shard=part_0") == {}
