"""Whole records come out whatever happens around them; each damage is told with its place."""

import gzip
import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.clip import FailureKind
from tasks.tfrecord import BadRecord, Record, framed, masked_crc32c, records

CAP = 1 << 16
RECORDS = st.lists(st.binary(max_size=300), min_size=1, max_size=8)


def read(data: bytes, *, max_bytes: int = CAP) -> list[Record | BadRecord]:
    return list(records(io.BytesIO(data), max_bytes=max_bytes))


def kinds(found: list[Record | BadRecord]) -> list[FailureKind | bytes]:
    return [one.data if isinstance(one, Record) else one.kind for one in found]


def test_the_check_is_tensorflows() -> None:
    """CRC32C of the digits 1 to 9 is E3069283 (the check value of its definition); turned and moved by hand."""
    assert masked_crc32c(b"") == 0xA282EAD8
    assert masked_crc32c(b"123456789") == (((0xE3069283 >> 15) | (0xE3069283 << 17)) + 0xA282EAD8) & 0xFFFFFFFF


@given(RECORDS, st.booleans())
def test_what_was_written_is_read_with_its_places(wanted: list[bytes], zipped: bool) -> None:
    data = b"".join(map(framed, wanted))
    found = read(gzip.compress(data) if zipped else data)
    offsets = [sum(len(framed(before)) for before in wanted[:index]) for index in range(len(wanted))]
    assert found == [Record(offset, data) for offset, data in zip(offsets, wanted, strict=True)]


@given(RECORDS, st.data())
def test_a_flipped_bit_costs_its_record_or_all_after_it(wanted: list[bytes], data: st.DataObject) -> None:
    whole = bytearray(b"".join(map(framed, wanted)))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    index, start = 0, 0
    while start + len(framed(wanted[index])) <= at:
        start += len(framed(wanted[index]))
        index += 1
    found = kinds(read(bytes(whole)))
    if at - start < 12:
        assert found == [*wanted[:index], FailureKind.TRUNCATED]
    else:
        assert found == [*wanted[:index], FailureKind.BAD_RECORD, *wanted[index + 1 :]]


@given(RECORDS, st.data())
def test_a_cut_file_gives_every_record_before_the_cut(wanted: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(map(framed, wanted))
    cut = data.draw(st.integers(1, len(whole)))
    ends = [sum(len(framed(one)) for one in wanted[: index + 1]) for index in range(len(wanted))]
    found = kinds(read(whole[:cut]))
    left = [one for one, end in zip(wanted, ends, strict=True) if end <= cut]
    assert found == [*left, *([] if cut in ends else [FailureKind.TRUNCATED])]


def test_a_length_of_exabytes_takes_no_memory() -> None:
    length = struct.pack("<Q", 1 << 60)
    told = read(framed(b"one") + length + struct.pack("<I", masked_crc32c(length)) + b"rest")
    assert kinds(told) == [b"one", FailureKind.TRUNCATED]
    assert isinstance(told[1], BadRecord)
    assert "a record of 1,152,921,504,606,846,976 bytes at byte 19" in told[1].message


def test_a_record_over_the_limit_is_passed_over() -> None:
    told = read(framed(b"x" * 200) + framed(b"two"), max_bytes=100)
    assert kinds(told) == [FailureKind.TOO_LARGE, b"two"]
    assert isinstance(told[0], BadRecord)
    assert "limits.max_bytes is 100 (raise it with --limits.max-bytes)" in told[0].message


DAMAGED = {"nothing": (b"", FailureKind.EMPTY), "gzip without its end": (gzip.compress(framed(b"one"))[:-3], FailureKind.TRUNCATED)}


@pytest.mark.parametrize(("data", "kind"), DAMAGED.values(), ids=DAMAGED)
def test_damage_around_the_records_is_told_last(data: bytes, kind: FailureKind) -> None:
    (*_, last) = read(data)
    assert isinstance(last, BadRecord)
    assert (last.kind, last.ends_shard) == (kind, True)
