"""A table somebody else made is text and numbers, or a reason."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.storage import NotFound
from tasks import foreign_table
from tasks.foreign_table import BadTable, names_of, read, read_csv


def test_csv_and_parquet_read_alike(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("name,size\n007,1\n,2\n")
    pq.write_table(pa.table({"name": ["007", ""], "size": [1, 2]}), tmp_path / "a.parquet")
    for suffix in ("csv", "parquet"):
        assert read(f"{tmp_path}/a.{suffix}", text=["name"]).to_pydict() == {"name": ["007", ""], "size": [1, 2]}
    with pytest.raises(BadTable):
        read_csv(f"{tmp_path}/a.parquet", text=[])


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read(f"{tmp_path}/a.csv", text=[])


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    """P9: a sparse file of a TiB is no table, and is not fetched to find out."""
    with (tmp_path / "a.csv").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BadTable, match="1,099,511,627,776 bytes; at most"):
        read(f"{tmp_path}/a.csv", text=[])


def test_a_parquet_of_endless_rows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P9: rows of nothing take no bytes, and as Python objects they take all there are."""
    monkeypatch.setattr(foreign_table, "MAX_ROWS", 1_000)
    pq.write_table(pa.table({"uri": pa.nulls(1_001)}), tmp_path / "a.parquet")
    with pytest.raises(BadTable, match="1,001 rows; at most 1,000"):
        read(f"{tmp_path}/a.parquet", text=[])


def test_many_columns_are_told_short(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(",".join("x" * 100 + str(i) for i in range(30)) + "\n")
    told = names_of(read(f"{tmp_path}/a.csv", text=[]))
    assert told.endswith(" and 10 more")
    assert len(told) < 2_000
