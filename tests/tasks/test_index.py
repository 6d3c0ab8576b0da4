"""The index is a copy: it is believed of files as they are listed now, and of no other; without it everything is as with it."""

from pathlib import Path

import pytest

from infra import disk
from tasks.index import Entry, read_index, write_index
from tasks.published import FAILURES_FOLDER, index_files, known_files
from tests.corpus import files
from tests.tasks.shards import CLIPS, EMBEDDINGS, published

FOLDERS = (FAILURES_FOLDER, CLIPS.folder, EMBEDDINGS.folder)


@pytest.fixture
def output(tmp_path: Path) -> str:
    for shard in range(3):
        published(tmp_path, f"shard-0000{shard}", keys=(f"a{shard}#0", f"b{shard}#0"), bad=(f"x{shard}",), corpus="files /corpus")
    return str(tmp_path)


def index_all(output: str) -> None:
    for folder in FOLDERS:
        index_files(output, folder)


def test_entries_come_back_as_they_were(tmp_path: Path) -> None:
    entries = {"b": Entry("1-2", 3, {"footer": {"vidmill.run_id": "r"}, "groups": [{"kind": "EMPTY", "count": 1}]}), "a": Entry("x", 0, {})}
    write_index(str(tmp_path), EMBEDDINGS.folder, entries)
    assert read_index(str(tmp_path), EMBEDDINGS.folder) == entries
    assert read_index(str(tmp_path), "clips") == {}


def test_with_an_index_no_file_is_opened_and_everything_is_known(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read = {folder: known_files(output, folder) for folder in FOLDERS}
    index_all(output)
    monkeypatch.setattr(disk, "open_seekable", lambda found: pytest.fail(f"{found.uri} is opened"))
    assert {folder: known_files(output, folder) for folder in FOLDERS} == read
    failures = read[FAILURES_FOLDER]["shard-00001"]
    assert (failures.failed, failures.groups[0].kind, failures.groups[0].count) == (1, "CORRUPT", 1)
    assert failures.videos == (("/corpus/part_0.tar!x1.mp4", "v1", 1),)
    assert read["clips"]["shard-00001"].videos == (("/corpus/part_0.tar!a1#0.mp4", "v1", 1), ("/corpus/part_0.tar!b1#0.mp4", "v1", 1))


def test_a_file_that_is_not_as_the_index_has_it_is_read(output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P5: an index that was believed by name would hide what another run published."""
    index_all(output)
    published(tmp_path, "shard-00001", keys=("a1#0",), bad=(), corpus="files /corpus")
    (tmp_path / "clips" / "shard-00002.parquet").unlink()
    opened: list[str] = []
    real = disk.open_seekable
    monkeypatch.setattr(disk, "open_seekable", lambda found: opened.append(Path(found.uri).name) or real(found))
    found = known_files(output, "clips")
    assert {shard: known.footer.rows for shard, known in found.items()} == {"shard-00000": 2, "shard-00001": 1}
    assert opened == ["shard-00001.parquet"]


def test_an_index_is_rewritten_where_something_changed_and_only_there(output: str, tmp_path: Path) -> None:
    index_all(output)
    before = files(tmp_path)
    index_all(output)
    assert files(tmp_path) == before
    (tmp_path / "clips" / "shard-00002.parquet").unlink()
    index_all(output)
    assert {name for name, state in files(tmp_path).items() if before[name] != state} == {"_wip/index/clips.parquet"}
    assert read_index(output, "clips").keys() == {"shard-00000", "shard-00001"}


@pytest.mark.parametrize("damage", [b"", b"no parquet", None])
def test_a_damaged_index_is_none(output: str, tmp_path: Path, damage: bytes | None) -> None:
    index_all(output)
    read = known_files(output, "clips")
    path = tmp_path / "_wip" / "index" / "clips.parquet"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] if damage is None else damage)
    assert read_index(output, "clips") == {}
    assert known_files(output, "clips") == read


def test_an_index_of_another_version_is_none(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.index.VERSION", b"0")
    index_all(output)
    monkeypatch.undo()
    assert read_index(output, "clips") == {}
