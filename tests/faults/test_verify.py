"""P1, P2, P11: whatever happens to an output's files, verification names the file and the cause, and nothing else."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tasks.publish import _write
from tasks.published import read_footer
from tasks.verify import Fault, verify
from tests.corpus import contents
from tests.tasks.broken import EMBED, file, flipped, forged, rewritten, source_of, two_shards
from tests.tasks.runs import run, settings

FOLDERS = ("failures", "clips", "embeddings/grey", "embeddings/picky")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a corpus and its output; never changed."""
    folder = tmp_path_factory.mktemp("whole")
    assert verify(str(two_shards(folder, limits={"max_pixels": 10_000}))).faults == []
    return folder


@pytest.fixture
def output(whole: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    shutil.copytree(whole / "out", tmp_path / "out")
    return tmp_path / "out"


def faults(output: Path) -> list[Fault]:
    return verify(str(output)).faults


def the_fault(output: Path) -> Fault:
    (found,) = faults(output)
    assert "\n" not in str(found)
    return found


def retried(whole: Path, output: Path, selector: str) -> None:
    """Mend it as the fault says, in place of the command."""
    config = settings(whole, source_of(whole), embed=EMBED, limits={"max_pixels": 10_000})
    run(config.model_copy(update={"output": str(output)}), select=[selector])


Break = Callable[[Path], None]
ACCIDENTS: dict[str, tuple[Break, str]] = {
    "a bit of a page flips": (lambda path: flipped(path, 40), "altered since vidmill wrote it|damaged"),
    "a bit of the footer flips": (lambda path: flipped(path, path.stat().st_size - 100), "altered since vidmill wrote it|damaged|not a file"),
    "it is cut off": (lambda path: path.write_bytes(path.read_bytes()[:-20]) and None, "truncated"),
    "it is empty": (lambda path: path.write_bytes(b"") and None, "truncated"),
    "it loses a row": (lambda path: rewritten(path, lambda table: table.slice(1)), "altered since vidmill wrote it"),
    "it has a row twice": (
        lambda path: rewritten(path, lambda table: pa.concat_tables([table, table.slice(0, 1)])),
        "altered since vidmill wrote it",
    ),
    "another program wrote it": (
        lambda path: pq.write_table(pq.ParquetFile(path).read().replace_schema_metadata(None), path),
        "its footer has no vidmill.digest",
    ),
}


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("accident", ACCIDENTS)
def test_an_altered_file_is_named_with_the_cause(output: Path, accident: str, folder: str) -> None:
    """P11: without the comparison of digests in `tasks.visible.examine` a changed value would pass as a result."""
    path = file(output, folder, "part_0")
    happen, cause = ACCIDENTS[accident]
    happen(path)
    found = the_fault(output)
    assert found.file == str(path)
    assert any(word in found.cause for word in cause.split("|")), found
    assert found.fix == f"vidmill retry {output} --select state:altered"


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_is_altered_is_computed_again_and_nothing_else(whole: Path, output: Path, folder: str) -> None:
    """P4, P11: the command at the end of the fault mends it; without `Fault.delete` the plan would take the file for a result."""
    path = file(output, folder, "part_0")
    flipped(path, 40)
    others = {other: other.read_bytes() for other in output.rglob("*.parquet") if other != path}
    retried(whole, output, "state:altered")
    assert faults(output) == []
    assert contents(output) == contents(whole / "out")
    assert {other: other.read_bytes() for other in others if "failures" not in str(other)} == {
        other: data for other, data in others.items() if "failures" not in str(other)
    }


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_deleted_file_is_missing(whole: Path, output: Path, folder: str) -> None:
    """P1: without `_check_absent` (rows) and `unexplained` (failures) a hole would look like a smaller corpus."""
    path = file(output, folder, "part_0")
    path.unlink()
    found = the_fault(output)
    assert (found.file, found.fix) == (str(path), f"vidmill retry {output} --select state:missing")
    assert found.cause == ("is missing, and 4 clips have no row" if folder == "failures" else "is not published")
    retried(whole, output, "state:missing")
    assert faults(output) == []
    assert contents(output) == contents(whole / "out")


def test_two_files_that_changed_places(whole: Path, output: Path) -> None:
    """P2: both are whole and their digests fit; without the look at the rows' shard nobody would know."""
    one, other = file(output, "embeddings/grey", "part_0"), file(output, "embeddings/grey", "part_1")
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)
    found = faults(output)
    assert [(fault.file, fault.cause) for fault in found] == [
        (str(one), "its rows are of the shard part_1: copied, moved or renamed"),
        (str(other), "its rows are of the shard part_0: copied, moved or renamed"),
    ]
    retried(whole, output, "state:altered")
    assert faults(output) == []


def test_a_file_in_another_models_folder(output: Path) -> None:
    """P2: without the comparison of footer and folder one model's vectors would pass for another's."""
    path = file(output, "embeddings/picky", "part_0")
    path.write_bytes(file(output, "embeddings/grey", "part_0").read_bytes())
    assert (the_fault(output).file, the_fault(output).cause) == (str(path), "it is of another table, model or version: moved or renamed")


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_copy_under_another_name(output: Path, folder: str) -> None:
    """P2: a glob gives every clip twice; only the copy is named, and it is removed by hand, since no plan knows it."""
    path = file(output, folder, "part_0")
    copy = path.with_name("part_0 copy.parquet")
    shutil.copy(path, copy)
    found = the_fault(output)
    assert (found.file, found.cause) == (str(copy), "its rows are of the shard part_0: copied, moved or renamed")
    assert found.fix == f"rm '{copy}'"
    assert found.delete == ()


def of_shard(name: str) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.column_names.index("shard"), "shard", pa.array([name] * table.num_rows))


@pytest.mark.parametrize("folder", FOLDERS)
def test_an_archive_that_was_renamed_leaves_its_clips_twice(output: Path, folder: str) -> None:
    """P2: without the glob over shards that the plan does not name, readers would count these clips twice."""
    path = file(output, folder, "part_0")
    stale = path.with_name("old_0.parquet")
    shutil.copy(path, stale)
    forged(stale, of_shard("old_0"))
    found = the_fault(output)
    assert found.file == str(stale)
    assert "that part_0 holds too, and its shard is not in the source any more" in found.cause
    assert found.fix == f"rm {stale}"


def test_a_clip_in_two_shards_of_the_plan(output: Path) -> None:
    """P2: each file is whole by itself; without `_check_twice` one clip_id would stand for two clips."""
    path = file(output, "embeddings/grey", "part_1")
    forged(path, lambda table: table.set_column(0, "clip_id", pa.array(["a_1_2", "c_1_2"])))
    (found,) = (fault for fault in faults(output) if "two sources" in fault.cause)
    assert (found.file, found.cause) == (str(path), "holds the clip a_1_2 that part_0 holds too: two sources give one clip_id")
    assert found.fix.endswith(f"vidmill retry {output} --select state:missing")


def test_equal_hashes_of_unequal_clips_are_no_fault(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P2: clips are compared by 8 bytes; without the second look at the names a collision would be called a duplicate."""
    monkeypatch.setattr("tasks.verify.attempts_in", lambda examined: np.zeros(len(examined.keys), np.uint64))
    assert faults(output) == []


def test_files_of_older_versions_are_examined_too(output: Path) -> None:
    """P11: a reader's glob over all versions must not meet a damaged file that no plan names any more."""
    path = file(output, "embeddings/grey", "part_0")
    older = path.parent.with_name("version=a0000000") / path.name
    older.parent.mkdir()
    older.write_bytes(path.read_bytes()[:-9])
    found = the_fault(output)
    assert (found.file, found.fix) == (str(older), f"rm {older}")


def without(clip: str) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.filter(pc.not_equal(table["clip_id"], clip))


def fewer(path: Path, change: Callable[[pa.Table], pa.Table], **promised: Any) -> None:
    """As a mistake in publication would do it: digest and own counts fit."""
    rows = change(pq.ParquetFile(path).read())
    footer = read_footer(str(path))
    _write(str(path), replace(footer, **promised), iter([rows]), lambda: None)


def test_a_row_that_was_never_written(whole: Path, output: Path) -> None:
    """P1: without `rows + failures == planned` a file with a hole and a fitting digest would pass."""
    path = file(output, "embeddings/grey", "part_1")
    fewer(path, without("b_1_2"), failed=0)
    assert the_fault(output).cause == "it has 1 rows, and its footer promises 2"
    fewer(path, lambda table: table, planned=2, failed=1)
    assert (the_fault(output).file, the_fault(output).cause) == (str(path), "1 rows and 0 failures, but 2 clips were planned")
    retried(whole, output, "state:altered")
    assert contents(output) == contents(whole / "out")


def test_a_failure_that_was_never_written(output: Path) -> None:
    """P1: a missing row without a reason, in every feature of the shard."""
    path = file(output, "failures", "part_0")
    fewer(path, without("bad_1_2"), failed=3)
    found = faults(output)
    assert [Path(fault.file).parts[len(output.parts)] for fault in found] == ["clips", "embeddings", "embeddings"]
    assert found[0].cause == "2 rows and 2 failures, but 5 clips were planned"


def test_a_failure_of_a_clip_that_has_every_row(output: Path) -> None:
    """P1: a clip is a row or a failure; without `_check_needed` it could be both."""
    path = file(output, "failures", "part_0")

    def more(table: pa.Table) -> pa.Table:
        extra = table.slice(0, 1).set_column(0, "clip_id", pa.array(["a_1_2"]))
        return pa.concat_tables([extra, table])

    fewer(path, more, failed=5)
    assert (the_fault(output).file, the_fault(output).cause) == (str(path), "a_1_2 is a failure of decode and has every row (1 such)")


def test_the_failures_of_another_state_of_the_source(output: Path) -> None:
    """P11: an older failures file, put back from a backup, explains clips that are not there any more."""
    path = file(output, "failures", "part_0")
    fewer(path, lambda table: table, source_etag="older")
    assert (the_fault(output).file, the_fault(output).cause) == (str(path), "it and the shard's clips come from different states of the source")


def test_a_row_twice_in_one_file(output: Path) -> None:
    """P2: with a fitting digest, as a mistake in publication would leave it."""
    path = file(output, "clips", "part_1")
    fewer(path, lambda table: pa.concat_tables([table, table.slice(0, 1)]), planned=3)
    assert "holds the clip b_1_2 twice" in [fault.cause for fault in faults(output) if fault.file == str(path)]


@pytest.mark.parametrize("name", ["clips/notes.txt", "clips/2024/part_0.parquet", "embeddings/part_0.parquet", "tags/model=x/part.parquet"])
def test_a_stray_file_is_told(output: Path, name: str) -> None:
    """P2: a reader that is given the folder takes every file in it for a part of the table."""
    stray = output / name
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(b"mine")
    assert (the_fault(output).file, the_fault(output).fix) == (str(stray), f"rm {stray}")


def test_what_readers_skip_is_no_fault(output: Path) -> None:
    (output / "clips" / "_SUCCESS").write_bytes(b"")
    (output / "clips" / ".DS_Store").write_bytes(b"")
    assert faults(output) == []


@pytest.mark.parametrize("data", [b"", b'{"run_id": "x"', b"[]", b'{"run_id": "x", "status": "done", "config": {}, "features": [], "shards": 7}'])
def test_a_damaged_record_is_told_and_the_one_before_is_used(output: Path, data: bytes) -> None:
    """P11: without `newest_records` a torn record would end verification, or be taken for a plan without shards."""
    damaged = output / "_runs" / "99991231T000000-000000.json"
    damaged.write_bytes(data)
    file(output, "clips", "part_1").unlink()
    record, missing = faults(output)
    assert (record.file, record.cause, record.fix) == (str(damaged), "the record of a run is damaged", f"rm {damaged}")
    assert missing.cause == "is not published"


def test_without_any_record_files_and_duplicates_are_checked_and_the_lack_is_told(output: Path) -> None:
    """P11: no plan must not read as nothing missing."""
    shutil.rmtree(output / "_runs")
    damaged, copy = file(output, "embeddings/grey", "part_0"), file(output, "clips", "part_1")
    flipped(damaged, 40)
    stale = copy.with_name("old_1.parquet")
    shutil.copy(copy, stale)
    forged(stale, of_shard("old_1"))
    found = verify(str(output))
    assert found.run_id is None
    assert [fault.file for fault in found.faults] == [f"{output}/_runs", str(copy), str(damaged)]
    assert "no plan is recorded" in found.faults[0].cause
    assert "that old_1 holds too" in found.faults[1].cause


def test_a_plan_with_more_than_is_there(output: Path) -> None:
    """P11: a run that was killed before its last shard has that shard in its record."""
    (record,) = (output / "_runs").glob("*.json")
    record.write_text(json.dumps({**json.loads(record.read_text()), "shards": ["part_0", "part_1", "part_2"]}))
    assert [Path(fault.file).name for fault in faults(output)] == ["part_2.parquet"] * 3
