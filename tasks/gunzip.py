"""Bytes in pieces, and gzip taken off them.

Own framing around a raw deflate decoder, so that everything before a damage comes out: a decoder that checks the sum itself throws away
what it had. Knows gzip (RFC 1952), nothing of tar.
"""

import io
from collections.abc import Iterator
from typing import BinaryIO, cast

from isal import igzip_lib, isal_zlib

from tasks.clip import FailureKind

READ_BYTES = 1 << 18
SMALL_BYTES = 1 << 20  # of what may be in memory twice
INFLATED_BYTES = 1 << 18  # most that one call gives, whatever the ratio
MAX_NAME_BYTES = 1 << 16
MAX_RATIO = 200  # zeros deflate to a 1,032nd, text to a tenth, videos not at all
SPARE_BYTES = 64 << 20  # of zeros that any archive may have, as padding
SPARE_MEMBERS = 10_000  # gzip members of whatever size; more must have 1 KiB each, bgzip's have 64

_BAD_DEFLATE = cast(type[Exception], igzip_lib.IsalError)  # its stub declares an instance
_CRC, _EXTRA, _NAME, _COMMENT = 2, 4, 8, 16


class Damage(Exception):
    """The stream cannot be read further."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Pieces:
    """A stream of pieces as one row of bytes, with the place in it."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = memoryview(b"")
        self._behind: list[memoryview] = []  # what was given back stands before it; the last comes first
        self.offset = 0

    def view(self, count: int) -> memoryview:
        """As `take`, not copied where the bytes lie in one piece, which stays in memory as long as the view."""
        if not self._left:
            self._left = self._piece()
        if count > len(self._left):
            return memoryview(self.take(count))
        part, self._left = self._left[:count], self._left[count:]
        self.offset += count
        return part

    def take(self, count: int) -> bytes:
        """The next bytes; fewer at the end."""
        if count <= len(self._left):
            part = bytes(self._left[:count])
            self._left = self._left[count:]
            self.offset += count
            return part
        if count <= SMALL_BYTES:
            return b"".join(self._next(count))
        whole = io.BytesIO()  # grows with what comes, not with what a header claims; getvalue does not copy
        for piece in self._next(count):
            whole.write(piece)
        return whole.getvalue()

    def skip(self, count: int) -> int:
        """Pass the next bytes; how many there were."""
        return sum(len(piece) for piece in self._next(count))

    def give_back(self, data: bytes) -> None:
        """Put bytes back in front."""
        if self._left:  # an empty view would hold what it is a view of
            self._behind.append(self._left)
        self._left = memoryview(data)
        self.offset -= len(data)

    def rest_of_piece(self) -> bytes:
        """What is at hand, or the next piece; empty at the end."""
        return self.take(len(self._left)) if self._left else bytes(next(self._next(READ_BYTES), b""))

    def _piece(self) -> memoryview:
        """Empty at the end."""
        while self._behind:
            if piece := self._behind.pop():
                return piece
        return memoryview(next(self._pieces, b""))

    def _next(self, count: int) -> Iterator[memoryview]:
        while count:
            if not self._left:
                self._left = self._piece()
                if not self._left:
                    return
            piece = self._left[:count]
            self._left = self._left[count:]
            self.offset += len(piece)
            count -= len(piece)
            yield piece


def pieces_of(stream: BinaryIO, size_bytes: int = READ_BYTES) -> Iterator[bytes]:
    """A file's bytes, to its end."""
    return iter(lambda: stream.read(size_bytes), b"")


def inflate(raw: Pieces, *, spare_bytes: int = 0) -> Iterator[bytes]:
    """Contents of one gzip member after another.

    Args:
        raw: the file.
        spare_bytes: how much may come out beyond MAX_RATIO times what went in, at least SPARE_BYTES; a bomb ends there.

    Raises:
        Damage: TRUNCATED, the end comes early; CORRUPT, bad data, a wrong checksum, or something else behind; TOO_LARGE, a bomb.
            After all bytes before it.
    """
    inflated, spare_bytes = 0, max(spare_bytes, SPARE_BYTES)
    for piece in _inflate_members(raw):
        inflated += len(piece)
        if inflated > spare_bytes + MAX_RATIO * raw.offset:
            raise Damage(FailureKind.TOO_LARGE, f"a bomb: {raw.offset:,} bytes inflate to over {MAX_RATIO} times as many (repack it without gzip),")
        yield piece


def _inflate_members(raw: Pieces) -> Iterator[bytes]:
    _read_header(raw)
    yield from _inflate_member(raw)
    count = 1
    while magic := raw.take(2):
        if not any(magic):
            _only_zeros(raw)
            return
        if magic != b"\x1f\x8b":
            raise Damage(FailureKind.CORRUPT, f"other data after the gzip stream, {raw.offset - len(magic):,} bytes into the file,")
        raw.give_back(magic)
        count += 1
        if count > SPARE_MEMBERS + raw.offset // 1024:
            raise Damage(FailureKind.TOO_LARGE, f"{count:,} gzip streams in {raw.offset:,} bytes (repack it as one),")
        _read_header(raw)
        yield from _inflate_member(raw)


def _inflate_member(raw: Pieces) -> Iterator[bytes]:
    decoder = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_DEFLATE)
    crc = size = 0
    while not decoder.eof:
        data = raw.rest_of_piece() if decoder.needs_input else b""
        if decoder.needs_input and not data:
            raise Damage(FailureKind.TRUNCATED, f"the gzip stream ends early, after {raw.offset:,} bytes of the file,")
        try:
            piece = decoder.decompress(data, INFLATED_BYTES)
        except _BAD_DEFLATE as error:
            raise Damage(FailureKind.CORRUPT, f"damaged gzip data, about {raw.offset:,} bytes into the file,") from error
        crc, size = isal_zlib.crc32(piece, crc), size + len(piece)
        if piece:
            yield piece
    raw.give_back(decoder.unused_data)
    if _exactly(raw, 8) != crc.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little"):
        raise Damage(FailureKind.CORRUPT, f"wrong gzip checksum, {raw.offset:,} bytes into the file,")


def _read_header(raw: Pieces) -> None:
    head = _exactly(raw, 10)
    if head[2] != 8:
        raise Damage(FailureKind.CORRUPT, f"gzip method {head[2]}, not deflate,")
    flags = head[3]
    if flags & _EXTRA:
        _exactly(raw, int.from_bytes(_exactly(raw, 2), "little"))
    for text in (_NAME, _COMMENT):
        if flags & text:
            _pass_text(raw)
    if flags & _CRC:
        _exactly(raw, 2)


def _pass_text(raw: Pieces) -> None:
    for _ in range(MAX_NAME_BYTES):
        if _exactly(raw, 1) == b"\0":
            return
    raise Damage(FailureKind.CORRUPT, "a gzip header without end")


def _exactly(raw: Pieces, count: int) -> bytes:
    data = raw.take(count)
    if len(data) < count:
        raise Damage(FailureKind.TRUNCATED, f"the gzip stream ends early, after {raw.offset:,} bytes of the file,")
    return data


def _only_zeros(raw: Pieces) -> None:
    while data := raw.rest_of_piece():
        if data.strip(b"\0"):
            raise Damage(FailureKind.CORRUPT, "other data after the gzip stream")
