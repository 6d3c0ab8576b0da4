"""Records of a TFRecord file, from a stream that is read once, front to back.

    bytes -> [gzip] -> [length][check of it][data][check of it] ...
                        u64     u32                u32            little endian

A check is the CRC32C (RFC 3720), turned by 15 bits and moved by a constant, as in TensorFlow's record_writer.h. A record whose data fails its
check is told and passed over; after a length that fails its check nothing can be found any more. Knows framing, nothing of what a record holds.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import google_crc32c
import numpy as np

from models.heap import keep_pieces
from tasks.clip import FailureKind
from tasks.gunzip import Damage, Pieces, inflate, pieces_of

HEADER = struct.Struct("<QI")
CHECK = struct.Struct("<I")
ROTATION_BITS, OFFSET = 15, 0xA282EAD8
PIECE_BYTES = 2 << 20  # a frame-level record has up to 350 KB; those on the border of two pieces are copied


@dataclass(frozen=True, slots=True)
class Record:
    """One record, whole."""

    offset: int  # of its length, in the bytes inflated
    data: memoryview  # mostly of what was read at once, PIECE_BYTES or more, and holds that in memory


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A place that gives no record."""

    offset: int
    kind: FailureKind  # BAD_RECORD, TOO_LARGE; at the end of a damaged file TRUNCATED, CORRUPT, EMPTY
    message: str
    ends_shard: bool  # nothing after it could be read


def records(stream: BinaryIO, *, max_bytes: int) -> Iterator[Record | BadRecord]:
    """Read a file; gzip is told by its first bytes, not by a name.

    Args:
        stream: read sequentially, never sought.
        max_bytes: of one record; a longer one is passed over and reported as TOO_LARGE.

    Yields:
        Records and what is between them, in the file's order. Damage that ends the file is the last report.

    Raises:
        whatever `stream.read` raises.
    """
    keep_pieces()
    raw = Pieces(pieces_of(stream, PIECE_BYTES))
    magic = raw.take(2)
    raw.give_back(magic)
    whole = Pieces(inflate(raw, spare_bytes=max_bytes)) if magic == b"\x1f\x8b" else raw
    try:
        if not magic:
            raise Damage(FailureKind.EMPTY, "no bytes; fetch the file again,")
        while (found := _next(whole, max_bytes)) is not None:
            yield found
            if isinstance(found, BadRecord) and found.ends_shard:
                return
    except Damage as damage:
        yield BadRecord(whole.offset, damage.kind, f"{damage} at byte {whole.offset:,} of the shard", ends_shard=True)


def masked_crc32c(data: bytes | memoryview) -> int:
    """The check of some bytes as it stands in the file."""
    crc: int = google_crc32c.value(data if isinstance(data, bytes) else np.asarray(data))  # it takes no memoryview
    return ((crc >> ROTATION_BITS | crc << 32 - ROTATION_BITS) + OFFSET) & 0xFFFFFFFF


def framed(data: bytes) -> bytes:
    """A record as it stands in the file."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, CHECK.pack(masked_crc32c(length)), data, CHECK.pack(masked_crc32c(data))))


def _next(whole: Pieces, max_bytes: int) -> Record | BadRecord | None:
    """The next record; None at a clean end."""
    offset = whole.offset
    header = whole.take(HEADER.size)
    if not header:
        return None
    length, check = HEADER.unpack(header) if len(header) == HEADER.size else (0, -1)
    if check != masked_crc32c(header[: HEADER.size - CHECK.size]):
        what = "the length's check is wrong" if len(header) == HEADER.size else "the file ends in a length"
        return _end(offset, what)
    if length > max_bytes:
        if whole.skip(length + CHECK.size) < length + CHECK.size:
            return _end(offset, f"the file ends in a record of {length:,} bytes")
        message = f"the record at byte {offset:,} has {length:,} bytes; limits.max_bytes is {max_bytes:,} (raise it with --limits.max-bytes)"
        return BadRecord(offset, FailureKind.TOO_LARGE, message, ends_shard=False)
    data, tail = whole.view(length), whole.take(CHECK.size)
    if len(data) < length or len(tail) < CHECK.size:
        return _end(offset, f"the file ends in a record of {length:,} bytes")
    if CHECK.unpack(tail)[0] != masked_crc32c(data):
        message = f"the check of the record at byte {offset:,} ({length:,} bytes) is wrong; fetch the shard again"
        return BadRecord(offset, FailureKind.BAD_RECORD, message, ends_shard=False)
    return Record(offset, data)


def _end(offset: int, what: str) -> BadRecord:
    return BadRecord(
        offset, FailureKind.TRUNCATED, f"{what} at byte {offset:,} of the shard; nothing after it can be read: fetch it again", ends_shard=True
    )
