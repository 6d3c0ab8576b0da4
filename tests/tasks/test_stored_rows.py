"""Rows come by number, in any order, and no more of the file is read than holds them."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import storage
from tasks.stored_rows import DAMAGED, NUMBER, save, stored_rows

ROW_BYTES = 100_000
ROWS = pa.table({"clip_id": [f"{number:02}" for number in range(20)], "codes": [bytes([number]) * ROW_BYTES for number in range(20)]})


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("rows") / "x.fragment"
    with found.open("wb") as file:
        save(ROWS, file)
    return found


@given(numbers=st.lists(st.integers(0, 19), min_size=1, max_size=30))
def test_rows_come_by_number_in_the_order_asked_for(path: Path, numbers: list[int]) -> None:
    found = stored_rows(str(path), ["clip_id"])
    assert found.small[NUMBER].to_pylist() == list(range(20))
    assert found.rows(numbers).equals(ROWS.take(pa.array(numbers)))


def test_large_rows_are_few_in_a_group_and_small_ones_together(path: Path) -> None:
    assert pq.read_metadata(path).num_row_groups == 10
    small = io.BytesIO()
    save(ROWS.select(["clip_id"]), small)
    assert pq.read_metadata(small).num_row_groups == 1
    sizes = stored_rows(str(path), []).sizes()
    assert sizes.tolist() == [pytest.approx(ROW_BYTES, rel=0.01)] * 20


def test_only_the_groups_that_hold_the_rows_are_read_in_one_request(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []

    class Counted(io.BytesIO):
        def read(self, count: int | None = -1, /) -> bytes:
            data = super().read(count)
            reads.append(len(data))
            return data

    found = stored_rows(str(path), ["clip_id"])
    monkeypatch.setattr(storage, "open_ranges", lambda _: Counted(path.read_bytes()))
    found.rows([4, 5, 6])
    assert len(reads) == 1
    assert reads[0] < 5 * ROW_BYTES


def test_a_flipped_bit_is_found(path: Path, tmp_path: Path) -> None:
    """Codes are any bytes: without checksums a staged record would change and nobody would know."""
    data = bytearray(path.read_bytes())
    at = data.index(bytes([7]) * 1000) + 500
    data[at] ^= 1
    (tmp_path / "x").write_bytes(data)
    found = stored_rows(str(tmp_path / "x"), ["clip_id"])
    assert found.rows([4]).num_rows == 1
    with pytest.raises(DAMAGED, match=r"(?i)checksum|crc"):
        found.rows([7])


def test_a_file_that_lacks_a_column_is_damaged(path: Path) -> None:
    with pytest.raises(DAMAGED):
        stored_rows(str(path), ["source_etag"])
