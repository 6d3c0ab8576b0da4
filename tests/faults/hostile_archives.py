"""Hostile archives: tar and gzip that claim too much, never end, or are full of what is no file.

Each comes with the clips that must come out all the same and with the kinds of failure beside them. Knows the formats; runs nothing.
"""

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain

from tests.corpus import clip, name_of

MIB = 1 << 20
FIRST, LAST = name_of(1), name_of(2)
TIMES = "_000000_000010"
TERMINAL = "\x1b]0;owned\x07\x1b[31m\r\n\t\u202e"


@dataclass(frozen=True, slots=True)
class Archive:
    """One hostile archive."""

    data: bytes
    rows: frozenset[str]  # clip ids
    kinds: tuple[str, ...]  # of the failures, sorted


@cache
def archives() -> dict[str, Archive]:
    """Every hostile archive by name."""
    cases = chain(_members(), _sizes(), _headers(), _bombs())
    return {name: Archive(data, frozenset(rows), tuple(sorted(kinds))) for name, data, rows, kinds in cases}


def good(name: str) -> bytes:
    """A member that is a real clip."""
    return member(f"{name}.mp4", clip(1))


def member(name: str, data: bytes = b"", *, kind: bytes = tarfile.REGTYPE, target: str = "", pax: dict[str, str] | None = None) -> bytes:
    """A member with its header."""
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname, info.pax_headers = len(data), kind, target, pax or {}
    form = tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT
    return info.tobuf(form, "utf-8", "surrogateescape") + padded(data)


def padded(data: bytes) -> bytes:
    """To whole blocks."""
    return data + bytes(-len(data) % 512)


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A header that claims a size, whatever follows."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def deflated(*parts: bytes, zeros: int = 0) -> bytes:
    """Gzip of the parts and of so many zeros, which take a thousandth of their number to write."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    out = b"".join(packer.compress(part) for part in parts) + packer.flush(zlib.Z_FULL_FLUSH)
    return out + _sixteen_mib_of_zeros() * (zeros // (16 * MIB))


@cache
def _sixteen_mib_of_zeros() -> bytes:
    """A block of deflate that stands on its own, so that it can be repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(bytes(16 * MIB)) + packer.flush(zlib.Z_FULL_FLUSH)


Case = tuple[str, bytes, list[str], list[str]]


def _members() -> Iterator[Case]:
    both = [FIRST, LAST]
    kinds = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"Z"]
    links = b"".join(member(f"link{i}{TIMES}.mp4", kind=kind, target="../../canary.mp4") for i, kind in enumerate(kinds))
    yield "links_and_devices", good(FIRST) + links + good(LAST), both, ["UNSUPPORTED"] * len(kinds)
    outside = [f"../../escape{TIMES}", f"/tmp/absolute{TIMES}", f"a/../../../up{TIMES}", f"//net/share{TIMES}", f"C:\\windows{TIMES}"]
    ids = [name.rpartition("/")[2] for name in outside]
    yield "names_that_lead_out", b"".join(good(name) for name in outside), ids, []
    ugly = [f"{TERMINAL}{TIMES}", "\udcff\udcfe\udc80" + TIMES]
    told = [f"{TERMINAL}{TIMES}", "\\xff\\xfe\\x80" + TIMES]
    yield "names_that_command", b"".join(good(name) for name in ugly), told, []
    zero = member("x", clip(1), pax={"path": f"nul\0l{TIMES}.mp4"})
    yield "name_with_zero", zero + good(LAST), [f"nul\0l{TIMES}", LAST], []
    yield "twice", good(FIRST) * 3 + good(LAST), both, ["BAD_NAME"] * 2
    yield "endless_name", member("x", clip(1), pax={"path": "n" * (MIB - 1_000) + f"{TIMES}.mp4"}) + good(LAST), [LAST], ["BAD_NAME"]
    yield "times_without_end", good(f"x_{'9' * 80}_1") + good(LAST), [LAST], ["BAD_NAME"]
    yield "no_name", member("", b"x") + good(LAST), [LAST], []


def _sizes() -> Iterator[Case]:
    huge = good(FIRST) + header(f"huge{TIMES}.mp4", 1 << 60)
    yield "claims_an_exabyte", huge + good(LAST), [FIRST], ["TOO_LARGE", "TRUNCATED"]
    yield "claims_an_exabyte_gz", gzip.compress(huge + good(LAST)), [FIRST], ["TOO_LARGE", "TRUNCATED"]
    below = bytearray(header(f"x{TIMES}.mp4", 0))
    below[124:136] = b"\xff" * 12
    yield "claims_less_than_nothing", good(FIRST) + _summed(below), [FIRST], ["CORRUPT"]
    base256 = bytearray(header(f"x{TIMES}.mp4", 0))
    base256[124:136] = b"\x80" + b"\x7f" * 11
    yield "claims_2_to_the_87", good(FIRST) + _summed(base256), [FIRST], ["TOO_LARGE", "TRUNCATED"]
    yield "pax_size", good(FIRST) + member("x", b"", pax={"path": f"x{TIMES}.mp4", "size": str(1 << 63)}), [FIRST], ["TOO_LARGE", "TRUNCATED"]
    yield "pax_size_is_no_number", good(FIRST) + member("x", b"", pax={"size": "-1"}), [FIRST], ["CORRUPT"]


def _summed(block: bytearray) -> bytes:
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _headers() -> Iterator[Case]:
    for name, kind in {"pax": tarfile.XHDTYPE, "pax_global": tarfile.XGLTYPE, "longname": tarfile.GNUTYPE_LONGNAME}.items():
        yield f"{name}_claims_3_gib", good(FIRST) + header("x", 3 << 30, kind) + good(LAST), [FIRST], ["CORRUPT"]
        yield f"{name}_of_100_mib", deflated(good(FIRST), header("x", 100 * MIB, kind), zeros=112 * MIB), [FIRST], ["CORRUPT"]
        one = header("x", 12, kind) + padded(b"12 path=abc\n" if kind != tarfile.GNUTYPE_LONGNAME else b"name")
        yield f"{name}_chain", gzip.compress(good(FIRST) + one * 5_000 + good(LAST)), [FIRST], ["CORRUPT"]
    records = b"6 a=b\n" * (MIB // 6)
    yield "pax_of_small_records", good(FIRST) + (header("x", len(records), tarfile.XHDTYPE) + padded(records)) * 8 + good(LAST), [FIRST], ["CORRUPT"]


def _bombs() -> Iterator[Case]:
    huge = header(f"huge{TIMES}.mp4", 10 << 30)
    yield "ten_gb_of_zeros", deflated(good(FIRST), huge, zeros=10 << 30), [FIRST], ["TOO_LARGE", "TOO_LARGE"]
    yield "ten_gb_nobody_wants", deflated(good(FIRST), header("notes.txt", 10 << 30), zeros=10 << 30), [FIRST], ["TOO_LARGE"]
    zeros = header(f"zeros{TIMES}.mp4", 16 * MIB) + bytes(16 * MIB)
    yield "many_zeros", gzip.compress(good(FIRST) + zeros + good(LAST)), [FIRST, LAST], ["CORRUPT"]
    inner = deflated(header(f"x{TIMES}.mp4", 1 << 30), zeros=1 << 30)
    yield "nested", gzip.compress(good(FIRST) + member(f"inner{TIMES}.mp4", inner) + good(LAST)), [FIRST, LAST], ["CORRUPT"]
    yield "twice_compressed", gzip.compress(gzip.compress(good(FIRST))), [], ["CORRUPT"]
    empty = gzip.compress(b"")
    yield "streams_without_content", gzip.compress(good(FIRST)) + empty * 50_000 + gzip.compress(good(LAST)), [FIRST], ["TOO_LARGE"]
    yield "zeros_for_ever", deflated(good(FIRST), zeros=1 << 30), [FIRST], ["CORRUPT"]
    name = b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * MIB
    yield "gzip_name_without_end", name, [], ["CORRUPT"]


def webdataset() -> bytes:
    """One sample of many videos and an absurd label."""
    buffer = io.BytesIO()
    buffer.write(member("s/1.mp4", clip(1)))
    for number in range(30):
        buffer.write(header(f"s/1.{number}.mp4", 16 * MIB) + bytes([number]) * (16 * MIB))
    buffer.write(header("s/1.cls", 16 * MIB) + b"7" * (16 * MIB) + member("s/2.mp4", clip(2)) + member("s/2.cls", b"7"))
    return buffer.getvalue()
