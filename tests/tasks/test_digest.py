"""A sealed file shows every altered byte; what is no sealed file says so."""

import io
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import digest
from tasks.digest import NoDigest, SealedFile, is_unaltered


def sealed(rows: pa.Table) -> bytes:
    target = io.BytesIO()
    file = SealedFile(target)
    with pq.ParquetWriter(file, rows.schema, compression="zstd") as writer:
        writer.write_table(rows)
        writer.add_key_value_metadata({digest.KEY: digest.PENDING})
        file.hold()
    file.seal()
    return target.getvalue()


def told(data: bytes) -> bool:
    return is_unaltered(io.BytesIO(data), len(data))


ROWS = pa.table({"clip_id": ["a", "b"], "vector": [[1.0, 2.0], [3.0, 4.0]]})


def test_pyarrow_reads_a_sealed_file_and_its_digest() -> None:
    data = sealed(ROWS)
    assert pq.read_table(pa.BufferReader(data)).equals(ROWS)
    recorded = pq.read_metadata(pa.BufferReader(data)).metadata[b"vidmill.digest"]
    assert len(recorded) == len(digest.PENDING)
    assert recorded != digest.PENDING.encode()
    assert told(data)


def test_every_bit_of_every_byte_counts() -> None:
    """P11: pages, footer, length, magic numbers, and the digest itself."""

    def undetected() -> Iterator[int]:
        data = sealed(ROWS)
        for place in range(len(data)):
            altered = bytearray(data)
            altered[place] ^= 1 << place % 8
            try:
                if told(bytes(altered)):
                    yield place
            except NoDigest:
                continue

    assert list(undetected()) == []


@given(st.lists(st.text(st.characters(codec="utf-8")) | st.just(digest.KEY + "\x18\x20" + digest.PENDING), min_size=1), st.text(max_size=40))
def test_no_name_in_the_corpus_can_stand_for_the_digest(names: list[str], corpus: str) -> None:
    """Names are a stranger's, and come back in the footer as statistics and metadata."""
    rows = pa.table({"clip_id": names}).replace_schema_metadata({"vidmill.corpus": corpus + digest.KEY + "\x18\x20" + digest.PENDING})
    assert told(sealed(rows))


@pytest.mark.parametrize("data", [b"", b"PAR1", b"text that is no table", b"PAR1" + b"\xff" * 4 + b"PAR1", sealed(ROWS)[:-1]])
def test_what_is_no_parquet_is_told(data: bytes) -> None:
    with pytest.raises(NoDigest, match="does not end as a Parquet file does"):
        told(data)


def test_what_nobody_sealed_is_told() -> None:
    target = io.BytesIO()
    pq.write_table(ROWS, target)
    with pytest.raises(NoDigest, match=r"has no vidmill\.digest"):
        told(target.getvalue())


def test_a_file_larger_than_one_chunk_and_its_order() -> None:
    """Row groups in another order are another file."""
    rows = pa.table({"x": pa.array(range(800_000), pa.int64())})
    data = sealed(rows)
    assert len(data) > digest._CHUNK_BYTES
    assert told(data)
    assert not told(data[:4] + data[1004:2004] + data[4:1004] + data[2004:])
