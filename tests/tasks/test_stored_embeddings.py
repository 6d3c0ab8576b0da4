"""Stored embeddings come joined by clip, whatever each table lacks, in batches smaller than a table."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.problem import Problem
from tasks import stored_embeddings as module
from tasks.stored_embeddings import outer_join, stored

TABLES = st.lists(st.dictionaries(st.text(max_size=3), st.integers(), max_size=12), min_size=1, max_size=4)


def in_order(table: Mapping[str, int]) -> list[tuple[str, int]]:
    """As Parquet sorts: by the bytes of UTF-8."""
    return sorted(table.items(), key=lambda entry: entry[0].encode())


@given(TABLES)
def test_every_key_comes_once_and_in_order_with_what_each_table_holds(tables: list[dict[str, int]]) -> None:
    found = list(outer_join([in_order(table) for table in tables]))
    keys = {key for table in tables for key in table}
    assert [key for key, _ in found] == sorted(keys, key=str.encode)
    assert dict(found) == {key: tuple(table.get(key) for table in tables) for key in keys}


def write(path: Path, rows: Mapping[str, np.ndarray], size: int) -> None:
    """A table of codes, a row group for every two rows."""
    path.parent.mkdir(parents=True)
    frames = [[row.tobytes() for row in codes] for codes in rows.values()]
    means = pa.array([[float(len(codes))] * size for codes in rows.values()], pa.list_(pa.float32(), size))
    columns = {"clip_id": pa.array(rows.keys()), "embedding": means, "frame_codes": pa.array(frames, pa.list_(pa.binary(size)))}
    pq.write_table(pa.table(columns), path, row_group_size=2)


def test_rows_are_those_of_the_files_in_batches_across_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 3)
    random = np.random.default_rng(0)
    a = {f"{k:02d}": random.integers(0, 256, (k % 4, 5), np.uint8) for k in range(11)}
    b = {f"{k:02d}": random.integers(0, 256, (2, 3), np.uint8) for k in range(3, 14, 2)}
    for name, rows, size in (("a", a, 5), ("b", b, 3)):
        write(tmp_path / name / "part.parquet", rows, size)
    found = dict(stored(str(tmp_path), ["a", "b", "none"], "part"))
    assert found.keys() == a.keys() | b.keys()
    for clip_id, held in found.items():
        for frames, rows in zip(held, (a, b, {}), strict=True):
            wanted = rows.get(clip_id)
            if wanted is None:
                assert frames is None
            else:
                assert np.array_equal(frames, wanted if len(wanted) else np.zeros((1, 5)))


def test_a_table_that_is_not_sorted_is_told_and_not_joined(tmp_path: Path) -> None:
    write(tmp_path / "a" / "part.parquet", {"b": np.zeros((1, 2), np.uint8), "a": np.zeros((1, 2), np.uint8)}, 2)
    with pytest.raises(Problem, match=r"a/part.parquet: damaged \(not sorted by clip_id\); delete it and run again"):
        list(stored(str(tmp_path), ["a"], "part"))
    (tmp_path / "a" / "part.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(Problem, match=r"a/part.parquet: damaged .*; delete it and run again"):
        list(stored(str(tmp_path), ["a"], "part"))
