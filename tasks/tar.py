"""Members of a tar archive, from a stream that is read once, front to back.

    bytes -> [gzip] -> [header][content][header][content]...[zeros]
                           |       one member in memory at a time, and only if it is wanted
                           ustar, GNU (long names, large sizes), PAX

Whole members before any damage come out; then one last report says where and how the archive ends. Names are names: nothing is ever
written or opened by them. Knows bytes and nothing of storage, or of what a member holds.
"""

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import xxhash

from tasks.clip import FailureKind
from tasks.gunzip import Damage, Pieces, inflate, pieces_of

BLOCK = 512
MAX_EXTENSION_BYTES = 1 << 20
MAX_PADDING_BYTES = 64 << 20  # zeros after the last member: far more than any blocking factor gives
MAX_EXTENSIONS = 16  # headers that extend one member: PAX or GNU writes two
MAX_PAX_RECORDS = 10_000  # in one header; a handful is usual
MAX_NAME_BYTES = 4096  # Linux's PATH_MAX
MAX_MEMBERS = 1_000_000  # each is remembered by its name; a shard of ten thousand is a large one

_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_EXTENSIONS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_SILENT = (tarfile.DIRTYPE, b"V")  # V: GNU's label of the volume
_WITHOUT_CONTENT = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}
_OTHER_COMPRESSION = {b"BZh": "bzip2", b"\xfd7z": "xz", b"\x28\xb5\x2f": "zstd", b"PK\x03": "zip"}


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file of the archive."""

    name: str  # as in the archive, without a leading ./
    data: bytes
    digest: str  # XXH3 64 of data, 16 hex digits

    @property
    def size_bytes(self) -> int:
        """Length of the content."""
        return len(self.data)


@dataclass(frozen=True, slots=True)
class BadMember:
    """Something in the archive that gives no content."""

    name: str  # empty: not about one member, or about one that came out already
    kind: FailureKind  # TOO_LARGE, UNSUPPORTED, BAD_NAME; at the end of a damaged archive EMPTY, TRUNCATED, CORRUPT, UNSUPPORTED
    message: str
    ends_archive: bool  # nothing after this could be read


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    size_bytes: int
    type: bytes
    target: str  # of a link
    sparse: bool
    overlong: bool  # the name, of which the middle was left out


@dataclass(slots=True)
class _Extension:
    """What PAX and GNU headers say of the next member, or (PAX global) of all that follow."""

    values: dict[str, str] = field(default_factory=dict)
    sparse: bool = False


def members(stream: BinaryIO, *, max_bytes: int, wanted: Callable[[str], bool] = lambda name: True) -> Iterator[Member | BadMember]:
    """Read an archive; gzip is told by its first bytes, not by a name.

    Args:
        stream: read sequentially, never sought.
        max_bytes: of one member; a larger one is passed over and reported as TOO_LARGE. A gzip that inflates to more than this beyond 200
            times its size ends the archive, as do over a million members.
        wanted: by name; content of the others is passed over and they are not reported.

    Yields:
        Regular files, in the archive's order; links, devices and pipes as UNSUPPORTED; directories not at all. Damage is the last report,
        named after the member being read. An archive without its end mark is whole if it ends between two members.

    Raises:
        whatever `stream.read` raises.
    """
    reader = _Reader(max_bytes, wanted)
    try:
        yield from reader.read(stream)
    except Damage as damage:
        while_in = f", in {reader.inside}" if reader.inside else ""
        yield BadMember(reader.unreported, damage.kind, f"{damage} at byte {reader.offset:,} of the archive{while_in}", ends_archive=True)


class _Reader:
    def __init__(self, max_bytes: int, wanted: Callable[[str], bool]) -> None:
        self._max_bytes, self._wanted = max_bytes, wanted
        self._archive = Pieces(iter(()))
        self._global = _Extension()
        self.inside = ""  # the member being read
        self.unreported = ""  # the same, until it was yielded

    @property
    def offset(self) -> int:
        """Bytes of the archive, inflated, read so far."""
        return self._archive.offset

    def read(self, stream: BinaryIO) -> Iterator[Member | BadMember]:
        self._archive = _opened(stream, self._max_bytes)
        count = 0
        while (entry := self._entry()) is not None:
            count += 1
            if count > MAX_MEMBERS:
                raise Damage(FailureKind.TOO_LARGE, f"more than {MAX_MEMBERS:,} members (make several archives of it)")
            self.inside = self.unreported = entry.name
            yield from self._content(entry)
            self.inside = self.unreported = ""

    def _content(self, entry: _Entry) -> Iterator[Member | BadMember]:
        if entry.type in _SILENT:
            return
        refusal = _refusal(entry, self._max_bytes)
        if not self._wanted(entry.name):
            self.unreported = ""
        elif refusal is not None:
            self.unreported = ""
            yield refusal
        else:
            data = self._take(entry.size_bytes)
            self.unreported = ""
            yield Member(entry.name, data, xxhash.xxh3_64_hexdigest(data))
            self._skip(-entry.size_bytes % BLOCK)
            return
        if entry.type not in _WITHOUT_CONTENT:
            self._skip(entry.size_bytes + -entry.size_bytes % BLOCK)

    def _entry(self) -> _Entry | None:
        """The next member's header with what extensions say of it, or None at the end."""
        extension, extended, count = _Extension(), False, 0
        while (header := self._header()) is not None:
            count += 1
            if count > MAX_EXTENSIONS + 1:
                raise Damage(FailureKind.CORRUPT, f"more than {MAX_EXTENSIONS} extension headers for one member")
            if header.type not in _EXTENSIONS:
                return _entry_of(header, _Extension(self._global.values | extension.values, self._global.sparse or extension.sparse))
            self._extend(header, self._global if header.type == tarfile.XGLTYPE else extension)
            extended = extended or header.type != tarfile.XGLTYPE
        if extended:
            raise Damage(FailureKind.TRUNCATED, "ends after an extension header")
        return None

    def _header(self) -> tarfile.TarInfo | None:
        start = self._archive.offset
        block = self._archive.take(BLOCK)
        if start == 0 and not block:
            raise Damage(FailureKind.EMPTY, "the archive is empty")
        if not block:
            return None
        if start == 0 and not _could_be_header(block):
            raise Damage(FailureKind.CORRUPT, "not a tar archive")
        if len(block) < BLOCK:
            raise Damage(FailureKind.TRUNCATED, "ends inside a header")
        return _parsed(block) if block.strip(b"\0") else self._after_end_mark()

    def _after_end_mark(self) -> tarfile.TarInfo | None:
        """Pass the padding: nothing follows, or another archive does (archives may be concatenated)."""
        for _ in range(MAX_PADDING_BYTES // BLOCK):
            block = self._archive.take(BLOCK)
            if block.strip(b"\0"):
                if len(block) < BLOCK:
                    raise Damage(FailureKind.CORRUPT, "other data after the end mark")
                return _parsed(block)
            if len(block) < BLOCK:
                return None
        raise Damage(FailureKind.CORRUPT, f"more than {MAX_PADDING_BYTES >> 20} MiB of zeros after the end mark")

    def _extend(self, header: tarfile.TarInfo, extension: _Extension) -> None:
        if not 0 <= header.size <= MAX_EXTENSION_BYTES:
            raise Damage(FailureKind.CORRUPT, f"an extension header of {header.size:,} bytes (at most {MAX_EXTENSION_BYTES:,} are read)")
        data = self._take(header.size)
        self._skip(-header.size % BLOCK)
        if header.type == tarfile.GNUTYPE_LONGNAME:
            extension.values["path"] = _text(data.partition(b"\0")[0])
        elif header.type != tarfile.GNUTYPE_LONGLINK:
            _add_pax(data, extension)

    def _take(self, count: int) -> bytes:
        data = self._archive.take(count)
        if len(data) < count:
            raise Damage(FailureKind.TRUNCATED, f"ends {count - len(data):,} bytes early")
        return data

    def _skip(self, count: int) -> None:
        missing = count - self._archive.skip(count)
        if missing:
            raise Damage(FailureKind.TRUNCATED, f"ends {missing:,} bytes early")


def _opened(stream: BinaryIO, max_bytes: int) -> Pieces:
    """The archive's bytes, inflated if need be."""
    raw = Pieces(pieces_of(stream))
    magic = raw.take(3)
    raw.give_back(magic)
    if magic.startswith(b"\x1f\x8b"):
        return Pieces(inflate(raw, spare_bytes=max_bytes))
    if magic in _OTHER_COMPRESSION:
        raise Damage(FailureKind.UNSUPPORTED, f"{_OTHER_COMPRESSION[magic]}, not tar or tar.gz: repack it")
    return raw


def _parsed(block: bytes) -> tarfile.TarInfo:
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")
    except (tarfile.HeaderError, ValueError) as error:
        raise Damage(FailureKind.CORRUPT, f"a damaged header ({error})") from error
    if block[257:265] == b"ustar  \0":  # GNU: what POSIX calls the prefix is times and sparse maps here
        header.name = _text(block[:100].partition(b"\0")[0])
    return header


def _entry_of(header: tarfile.TarInfo, extension: _Extension) -> _Entry:
    name = extension.values.get("path", header.name)
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    directory = header.isdir() or (header.type in _REGULAR and name.endswith("/"))
    size = _size(extension.values["size"]) if "size" in extension.values else header.size
    if size < 0:
        raise Damage(FailureKind.CORRUPT, f"{name} claims {size} bytes")
    kind = tarfile.DIRTYPE if directory else header.type
    overlong = len(name.encode()) > MAX_NAME_BYTES
    shown = f"{name[:80]}...{name[-80:]}" if overlong else name
    return _Entry(shown, size, kind, header.linkname, extension.sparse or kind == tarfile.GNUTYPE_SPARSE, overlong)


def _refusal(entry: _Entry, max_bytes: int) -> BadMember | None:
    def bad(kind: FailureKind, message: str) -> BadMember:
        return BadMember(entry.name, kind, message, ends_archive=False)

    if entry.type in _WITHOUT_CONTENT:
        to = f" to {entry.target}" if entry.type in (tarfile.LNKTYPE, tarfile.SYMTYPE) else ""
        return bad(FailureKind.UNSUPPORTED, f"{_WITHOUT_CONTENT[entry.type]}{to}, not a file; archive the file itself")
    if entry.sparse:
        return bad(FailureKind.UNSUPPORTED, "a sparse file; archive it without --sparse")
    if entry.type not in _REGULAR:
        return bad(FailureKind.UNSUPPORTED, f"tar type {entry.type!r}, not a file")
    if not entry.name:
        return bad(FailureKind.BAD_NAME, "a file without a name")
    if entry.overlong:
        return bad(FailureKind.BAD_NAME, f"a name of more than {MAX_NAME_BYTES:,} bytes; rename it")
    if entry.size_bytes > max_bytes:
        return bad(FailureKind.TOO_LARGE, f"{entry.size_bytes:,} bytes; limits.max_bytes is {max_bytes:,} (raise it with --limits.max-bytes)")
    return None


def _add_pax(data: bytes, extension: _Extension) -> None:
    """Records `<length> <key>=<value>\\n`; only what changes a member's name, size or form is kept."""
    start, end, count = 0, len(data.rstrip(b"\0")), 0
    while start < end:
        count += 1
        if count > MAX_PAX_RECORDS:
            raise Damage(FailureKind.CORRUPT, f"more than {MAX_PAX_RECORDS:,} records in a PAX header")
        digits = data[start : start + 20].partition(b" ")[0]
        stop = start + _size(_text(digits))
        key, equals, value = data[start + len(digits) + 1 : stop - 1].partition(b"=")
        if data[start + len(digits) : start + len(digits) + 1] != b" " or not equals or stop > len(data) or data[stop - 1 : stop] != b"\n":
            raise Damage(FailureKind.CORRUPT, "a damaged PAX header")
        if key in (b"path", b"size"):
            extension.values[key.decode()] = _text(value)
        extension.sparse = extension.sparse or key.startswith(b"GNU.sparse.")
        start = stop


def _size(digits: str) -> int:
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
        raise Damage(FailureKind.CORRUPT, "a damaged PAX header")
    return int(digits)


def _could_be_header(block: bytes) -> bool:
    """Whether the first bytes may begin a tar: a name padded with zeros, then the mode in octal."""
    after_name = block[:100].partition(b"\0")[2]
    return not any(after_name) and all(char in b"01234567 \0" for char in block[100:108])


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
