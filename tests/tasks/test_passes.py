"""Rows of many files in the order of their clips: passes are bounded by bytes and rows, and each row is read about once."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from infra import storage
from tasks import passes as module
from tasks.passes import choose, passes
from tasks.shardwork import RowFile
from tasks.stored_rows import save, stored_rows

FILES, PER_FILE, ROW_BYTES = 6, 10, 50_000
MEMBERS = {f"{number:02}": "v1" for number in range(FILES * PER_FILE)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fragments as workers leave them: the clips of each sorted, those of all in no order."""
    found = tmp_path_factory.mktemp("fragments")
    names = np.random.default_rng(0).permutation(sorted(MEMBERS)).reshape(FILES, PER_FILE)
    for number, part in enumerate(names):
        keys = sorted(map(str, part))
        rows = {"clip_id": keys, "source_etag": ["v1"] * PER_FILE, "codes": [key.encode() * (ROW_BYTES // 2) for key in keys]}
        with (found / f"{number}.fragment").open("wb") as file:
            save(pa.table(rows), file)
    return found


def files(folder: Path) -> Iterator[RowFile]:
    for path in sorted(folder.iterdir()):
        stored = stored_rows(str(path), ["clip_id", "source_etag"])
        yield RowFile(stored, stored.small)


@pytest.mark.parametrize("few", [0, 1024])
def test_passes_are_bounded_by_bytes_and_hold_every_row_in_order(folder: Path, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(module, "BYTES", 10 * ROW_BYTES + 5_000)
    monkeypatch.setattr(module, "FEW", few)
    found = list(passes(choose(files(folder), MEMBERS)))
    assert [table.num_rows for table in found] == [10] * 6
    rows = [row for table in found for row in table.to_pylist()]
    assert [row["clip_id"] for row in rows] == sorted(MEMBERS)
    assert all(row["codes"] == row["clip_id"].encode() * (ROW_BYTES // 2) for row in rows)


def test_a_row_larger_than_a_pass_is_a_pass(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BYTES", 1000)
    assert [table.num_rows for table in passes(choose(files(folder), MEMBERS))] == [1] * len(MEMBERS)


def test_passes_are_bounded_by_rows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 25)
    assert [table.num_rows for table in passes(choose(files(folder), MEMBERS))] == [25, 25, 10]


def test_each_row_is_read_about_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cost of a shard does not grow with the square of its size: rows that share a group with another pass are all that is read twice."""
    monkeypatch.setattr(module, "BYTES", 20 * ROW_BYTES)
    read = 0

    class Counted(io.BytesIO):
        def read(self, count: int | None = -1, /) -> bytes:
            nonlocal read
            data = super().read(count)
            read += len(data)
            return data

    chosen = choose(files(folder), MEMBERS)
    monkeypatch.setattr(storage, "open_ranges", lambda found: Counted(Path(found.uri).read_bytes()))
    assert sum(table.num_rows for table in passes(chosen)) == len(MEMBERS)
    group = 256 << 10
    assert read <= len(MEMBERS) * ROW_BYTES + FILES * 4 * group


def test_what_does_not_hold_is_not_chosen_and_the_first_that_holds_wins(folder: Path) -> None:
    chosen = choose(files(folder), {**MEMBERS, "00": "v2"})
    assert chosen.places.keys() == MEMBERS.keys() - {"00"}
    twice = choose((file for _ in range(2) for file in files(folder)), MEMBERS)
    assert max(number for number, _ in twice.places.values()) < FILES


def test_nothing_chosen_is_no_pass(folder: Path) -> None:
    assert list(passes(choose(files(folder), {}))) == []
