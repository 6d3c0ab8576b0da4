"""Verification finds what is missing, double or without a reason, and nothing where all is well."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from infra.problem import Problem
from tasks.verify import verify
from tests.corpus import write_tar
from tests.tasks.networks import DARK, LIGHT, MEDIUM, grey
from tests.tasks.runs import run, settings


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Two shards, three features, one bad clip, two failures of a model."""
    write_tar(tmp_path / "c" / "part_0.tar", {"a_1_2.mp4": grey(MEDIUM), "bad_1_2.mp4": b"x", "d_1_2.mp4": grey(DARK)}, gz=False)
    write_tar(tmp_path / "c" / "part_1.tar", {"b_1_2.mp4": grey(MEDIUM), "c_1_2.mp4": grey(LIGHT)}, gz=False)
    run(settings(tmp_path, {"kind": "kinetics", "uri": f"{tmp_path}/c/*.tar"}, embed=["grey", "picky"]))
    return tmp_path / "out"


def file(output: Path, folder: str, shard: str) -> Path:
    (found,) = (output / folder.partition("/")[0]).rglob(f"*{folder.partition('/')[2]}*/**/{shard}.parquet" if "/" in folder else f"{shard}.parquet")
    return found


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change the rows and keep the footer."""
    table = pq.ParquetFile(path).read()
    changed = change(table).replace_schema_metadata(table.schema.metadata)
    pq.write_table(changed, path)


def test_a_whole_output_has_no_faults(output: Path) -> None:
    found = verify(str(output))
    assert found.faults == []
    assert [(check.folder.partition("/version")[0], check.shards, check.rows, check.failed) for check in found.features] == [
        ("clips", 2, 4, 1),
        ("embeddings/model=grey", 2, 4, 1),
        ("embeddings/model=picky", 2, 2, 3),
    ]


@pytest.mark.parametrize("folder", ["clips", "embeddings/grey", "embeddings/picky"])
def test_a_deleted_file(output: Path, folder: str) -> None:
    file(output, folder, "part_1").unlink()
    faults = verify(str(output)).faults
    assert any(fault.startswith(folder.replace("/", " ")) and "shard part_1 is not published; run again" in fault for fault in faults)


@pytest.mark.parametrize("folder", ["clips", "embeddings/grey"])
def test_a_removed_row(output: Path, folder: str) -> None:
    rewrite(file(output, folder, "part_1"), lambda table: table.slice(1))
    (fault,) = verify(str(output)).faults
    assert "shard part_1: 1 rows and 0 failures, but 2 clips were planned; delete its file and run again" in fault


def test_a_row_twice_in_one_file(output: Path) -> None:
    rewrite(file(output, "clips", "part_1"), lambda table: pa.concat_tables([table, table.slice(0, 1)]))
    assert any("clips: shard part_1 has 1 clips twice" in fault for fault in verify(str(output)).faults)


def test_a_clip_in_two_shards(output: Path) -> None:
    """P2: each file is whole by itself, and a plain glob gives the clip twice."""
    second = file(output, "embeddings/grey", "part_1")
    rewrite(second, lambda table: table.set_column(0, "clip_id", pa.array(["a_1_2", "c_1_2"])))
    (fault,) = verify(str(output)).faults
    assert "a_1_2 is in part_0 and in part_1; two sources give one clip_id" in fault


@pytest.mark.parametrize("shard", ["part_0", "part_1"])
def test_a_removed_failure_file(output: Path, shard: str) -> None:
    file(output, "failures", shard).unlink()
    faults = verify(str(output)).faults
    assert any("embeddings picky" in fault and f"shard {shard}: 1 rows and 0 failures" in fault for fault in faults)
    assert any(fault.startswith("clips: ") for fault in faults) is (shard == "part_0")


def test_a_removed_failure_row(output: Path) -> None:
    rewrite(file(output, "failures", "part_0"), lambda table: table.filter(pc.equal(table["stage"], "decode")))
    (fault,) = verify(str(output)).faults
    assert fault.startswith("embeddings picky@")
    assert "1 rows and 1 failures, but 3 clips were planned" in fault


def test_a_feature_that_lost_its_file_is_not_taken_for_one_that_never_had_any(output: Path) -> None:
    """Part_1's picky rows are all failures but one; a file may be absent only where failures explain every clip."""
    file(output, "embeddings/picky", "part_1").unlink()
    assert any("embeddings picky" in fault and "not published" in fault for fault in verify(str(output)).faults)


def test_a_damaged_file_is_one_line(output: Path) -> None:
    path = file(output, "clips", "part_1")
    data = path.read_bytes()
    path.write_bytes(data[:4] + b"\xff" * 60 + data[64:])
    with pytest.raises(Problem, match=f"{path}: damaged .*; delete it and run again"):
        verify(str(output))


def test_an_output_without_runs_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="no vidmill run is recorded there"):
        verify(str(tmp_path))
