"""The digest that a published Parquet file carries of itself, so that an altered byte shows without any other memory.

    pages ... | footer: vidmill.digest = xxh3_128 of every byte of the file, these 32 digits taken as zeros | length | PAR1

Knows bytes and where a footer begins; knows nothing of tables or of storage.
"""

import io
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

import xxhash

KEY = "vidmill.digest"
PENDING = "0" * 32  # stands in the footer until everything before and after it is known
_MARK = KEY.encode() + b"\x18\x20"  # Thrift's compact protocol: the next field is text of 32 bytes
_TAIL = struct.Struct("<I4s")  # length of the footer, and the magic number
_CHUNK_BYTES = 1 << 20


class SealedFile(io.RawIOBase):
    """A file being written: bytes pass through and are hashed; those after `hold` wait until `seal` has put the digest into them."""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target
        self._hash = xxhash.xxh3_128()
        self._held: bytearray | None = None
        self._written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._hash.update(view)
        if self._held is None:
            self._target.write(view)
        else:
            self._held += view
        self._written += len(view)
        return len(view)

    def hold(self) -> None:
        """What follows is the footer."""
        self._held = bytearray()

    def seal(self) -> None:
        """Write the footer with the digest in it."""
        assert self._held is not None
        start = _place(self._held)
        self._held[start : start + len(PENDING)] = self._hash.hexdigest().encode()
        self._target.write(self._held)


class NoDigest(ValueError):
    """The file is no Parquet, or nobody sealed it."""


def is_unaltered(file: BinaryIO, size_bytes: int) -> bool:
    """Whether a file's bytes are those that were sealed; reads all of them, some at a time.

    Raises:
        NoDigest: there is none to compare with.
    """
    start_of_footer, footer = _footer(file, size_bytes)
    place = _place(footer)
    recorded = bytes(footer[place : place + len(PENDING)])
    footer[place : place + len(PENDING)] = PENDING.encode()
    found = xxhash.xxh3_128()
    for chunk in _chunks(file, start_of_footer):
        found.update(chunk)
    found.update(footer)
    return found.hexdigest().encode() == recorded


def _footer(file: BinaryIO, size_bytes: int) -> tuple[int, bytearray]:
    """Where the footer begins, and everything from there to the end."""
    file.seek(max(0, size_bytes - _TAIL.size))
    tail = file.read(_TAIL.size)
    length, magic = _TAIL.unpack(tail) if len(tail) == _TAIL.size else (0, b"")
    start = size_bytes - _TAIL.size - length
    if magic != b"PAR1" or start < len(magic):
        raise NoDigest("it does not end as a Parquet file does")
    file.seek(start)
    return start, bytearray(file.read(length + _TAIL.size))


def _place(footer: bytearray) -> int:
    """Where the digits stand: key-value pairs come last in a footer, and this pair last of them."""
    start = footer.rfind(_MARK)
    if start < 0:
        raise NoDigest(f"its footer has no {KEY}")
    return start + len(_MARK)


def _chunks(file: BinaryIO, size_bytes: int) -> Iterator[bytes]:
    file.seek(0)
    while size_bytes > 0 and (chunk := file.read(min(size_bytes, _CHUNK_BYTES))):
        yield chunk
        size_bytes -= len(chunk)
