"""What is Delta Lake's own: the log beside the files, its times, and the package that may be missing."""

import json
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder

from infra.problem import Problem
from infra.storage import ObjectInfo
from tasks.export_delta import DeltaFormat, stats_json
from tasks.lake import Bound, ColumnStats, LakeFile
from tests.tasks.lakes import Delta, done
from tests.tasks.shards import EMBEDDINGS, published


def described(low: Bound, high: Bound) -> LakeFile:
    empty = pa.schema([])
    return LakeFile(ObjectInfo("u", 1, "e"), "a.parquet", 5, empty, empty, {"x": ColumnStats(2, (low, high)), "y": ColumnStats(None, None)}, ())


def test_times_are_milliseconds_of_utc_and_the_greatest_is_rounded_up() -> None:
    low = datetime(2026, 1, 1, 12, 0, 0, 1999, UTC)
    high = datetime(2026, 1, 1, 14, 0, 0, 1001, timezone(timedelta(hours=2)))
    assert json.loads(stats_json(described(low, high))) == {
        "numRecords": 5,
        "minValues": {"x": "2026-01-01T12:00:00.001Z"},
        "maxValues": {"x": "2026-01-01T12:00:00.002Z"},
        "nullCount": {"x": 2},
    }


def test_the_log_names_files_by_their_place_in_the_table_so_an_output_can_be_moved(tmp_path: Path) -> None:
    published(tmp_path / "out")
    done(Delta(f"{tmp_path}/out"))
    (tmp_path / "out").rename(tmp_path / "moved")
    found = DeltaTable(f"{tmp_path}/moved/{EMBEDDINGS.folder}")
    assert (found.to_pyarrow_table().num_rows, found.metadata().name, found.version()) == (3, EMBEDDINGS.label, 0)
    assert [field.metadata for field in found.schema().fields if field.name == "start_s"] == [{"unit": "s"}]
    assert pa.table(QueryBuilder().register("t", found).execute("select sum(end_s) from t").read_all())[0].to_pylist() == [9.0]


@pytest.mark.nightly
def test_no_checkpoint_lies_where_a_glob_finds_it(tmp_path: Path) -> None:
    published(tmp_path)
    for number in range(105):  # more than the hundred after which the library writes one
        path = tmp_path / "clips" / f"{number}.parquet"
        path.write_bytes((tmp_path / "clips/part_0.parquet").read_bytes())
        done(Delta(str(tmp_path)))
    assert DeltaTable(tmp_path / "clips").version() == 104
    assert [path.suffix for path in (tmp_path / "clips/_delta_log").iterdir()] == [".json"] * 105


def test_a_damaged_log_is_one_line_that_says_what_to_delete(tmp_path: Path) -> None:
    published(tmp_path)
    done(Delta(str(tmp_path)))
    (tmp_path / "clips/_delta_log/00000000000000000000.json").write_text("{")
    (line,) = Delta(str(tmp_path)).export().problems
    assert line.startswith(f"{tmp_path}/clips/_delta_log: damaged (")
    assert line.endswith("; delete it and export again")


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(Problem, match=r"deltalake is missing; pip install 'vidmill\[delta\]'"):
        DeltaFormat()
