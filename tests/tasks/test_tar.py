"""Every whole member comes out, with one report for whatever is wrong."""

import gzip
import io
import random
import tarfile
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Literal, cast

import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.clip import FailureKind
from tasks.tar import BadMember, Member, members

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
Files = list[tuple[str, bytes]]


class Trickle(io.RawIOBase):
    """A stream that gives as much as it likes, and cannot seek."""

    def __init__(self, data: bytes, seed: int) -> None:
        self._data, self._random, self._position = data, random.Random(seed), 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        count = self._random.randint(1, self._random.choice([3, 700, 300_000]))
        part = self._data[self._position : self._position + min(count, size)]
        self._position += len(part)
        return part

    def seek(self, offset: int, whence: int = 0) -> int:
        raise AssertionError("a stream was sought")


def archive(files: Files, *, form: int = tarfile.GNU_FORMAT, mode: Literal["w", "w:gz"] = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=form) as tar:
        for name, data in files:
            add(tar, name, data)
    return out.getvalue()


def add(tar: tarfile.TarFile, name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = "") -> None:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, target
    tar.addfile(info, io.BytesIO(data))


def read(data: bytes, *, seed: int = 0, max_bytes: int = 1 << 30) -> list[Member | BadMember]:
    return list(members(cast(io.BufferedReader, Trickle(data, seed)), max_bytes=max_bytes))


def files_of(found: list[Member | BadMember]) -> Files:
    return [(item.name, item.data) for item in found if isinstance(item, Member)]


def only_report(found: list[Member | BadMember]) -> BadMember:
    """The one report, which is the last thing to come."""
    reports = [item for item in found if isinstance(item, BadMember)]
    assert len(reports) == 1
    assert reports[0] is found[-1]
    assert reports[0].ends_archive
    return reports[0]


def content(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


SAMPLE: Files = [("a.mp4", content(1, 700)), ("folder with (x)/b.mp4", content(2, 512)), ("empty.mp4", b""), ("c.mp4", content(3, 3000))]

LETTERS = st.characters(exclude_characters="/\0", exclude_categories=["Cs"])
PART = st.text(LETTERS, min_size=1, max_size=120).filter(lambda part: part not in (".", ".."))
NAMES = st.lists(PART, min_size=1, max_size=3).map("/".join)
ARCHIVES = st.lists(st.tuples(NAMES, st.binary(max_size=1500)), max_size=6)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(files=ARCHIVES, form=st.sampled_from(FORMATS[1:]), gzipped=st.booleans(), seed=st.integers(0, 99))
def test_what_tarfile_wrote_comes_out(files: Files, form: int, gzipped: bool, seed: int) -> None:
    found = read(archive(files, form=form, mode="w:gz" if gzipped else "w"), seed=seed)
    assert files_of(found) == files
    assert [item.digest for item in found if isinstance(item, Member)] == [xxhash.xxh3_64(data).hexdigest() for _, data in files]
    assert len(found) == len(files)


USTAR_NAMES = st.text("abcXYZ09-_ ()[]", min_size=1, max_size=60).map(lambda name: f"{name}/{'p' * 50}/{name}")


@settings(max_examples=25)
@given(files=st.lists(st.tuples(USTAR_NAMES, st.binary(max_size=1500)), max_size=5), seed=st.integers(0, 99))
def test_ustar_with_its_split_names_comes_out(files: Files, seed: int) -> None:
    assert files_of(read(archive(files, form=tarfile.USTAR_FORMAT), seed=seed)) == files


def boundaries(data: bytes) -> list[int]:
    """Where members, with their padding, end."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [info.offset_data + -(-info.size // 512) * 512 for info in tar.getmembers()]


LONG: Files = [("short", b"1" * 600), ("n" * 150, b"2" * 512), ("päx/" + "m" * 130, b"3" * 100), ("last", b"")]


@pytest.mark.parametrize("form", FORMATS[1:])
def test_a_tar_cut_anywhere_gives_what_was_whole_and_one_report(form: int) -> None:
    data = archive(LONG, form=form)
    clean = boundaries(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        content_ends = [info.offset_data + info.size for info in tar.getmembers()]
    for cut in sorted({*range(1, max(clean) + 1, 37), *(place + shift for place in clean for shift in (-1, 0, 1) if place + shift > 0)}):
        found = read(data[:cut], seed=cut)
        whole = sum(cut >= end for end in content_ends)
        assert files_of(found) == LONG[:whole]
        if cut in clean:
            assert len(found) == whole
        else:
            report = only_report(found)
            assert report.kind is FailureKind.TRUNCATED
            assert f"byte {cut:,} " in report.message
            assert report.name not in [name for name, _ in files_of(found)]


def test_the_member_that_is_cut_is_named() -> None:
    report = only_report(read(archive(SAMPLE)[:1000]))
    assert (report.name, report.kind) == ("a.mp4", FailureKind.TRUNCATED)
    assert report.message == "ends 212 bytes early at byte 1,000 of the archive, in a.mp4"


@settings(max_examples=80)
@given(share=st.floats(0, 1, exclude_max=True), seed=st.integers(0, 99))
def test_a_gzip_cut_anywhere_gives_what_was_whole_and_one_report(share: float, seed: int) -> None:
    data = archive(SAMPLE, mode="w:gz")
    cut = int(share * len(data))
    decoder = zlib.decompressobj(31)
    inflated = len(decoder.decompress(data[:cut]))
    found = read(data[:cut], seed=seed)
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as tar:
        whole = sum(inflated >= info.offset_data + info.size for info in tar.getmembers())
    assert files_of(found) == SAMPLE[:whole]
    expected = {FailureKind.EMPTY} if cut == 0 else {FailureKind.CORRUPT} if cut == 1 else {FailureKind.TRUNCATED}
    assert only_report(found).kind in expected | ({FailureKind.TRUNCATED} if cut == 1 else set())


@settings(max_examples=80)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), seed=st.integers(0, 99))
def test_a_flipped_bit_in_a_gzip_never_passes_in_silence(place: float, bit: int, seed: int) -> None:
    data = bytearray(archive(SAMPLE, mode="w:gz"))
    at = int(place * len(data))
    data[at] ^= 1 << bit
    found = read(bytes(data), seed=seed)
    if at in range(3, 10) and len(found) == len(SAMPLE):  # flags, time, system: nothing depends on most of them
        assert files_of(found) == SAMPLE
        return
    assert only_report(found).kind in (FailureKind.CORRUPT, FailureKind.TRUNCATED)
    assert [name for name, _ in files_of(found)] == [name for name, _ in SAMPLE][: len(found) - 1]


def test_a_wrong_checksum_at_the_end_loses_no_member() -> None:
    data = bytearray(archive(SAMPLE, mode="w:gz"))
    data[-5] ^= 1
    found = read(bytes(data))
    assert files_of(found) == SAMPLE
    report = only_report(found)
    assert report.kind is FailureKind.CORRUPT
    assert "wrong gzip checksum" in report.message


def test_a_damaged_header_ends_the_archive_after_what_was_before() -> None:
    data = bytearray(archive(SAMPLE))
    data[512 + 1024 + 3] ^= 1
    found = read(bytes(data))
    assert files_of(found) == SAMPLE[:1]
    report = only_report(found)
    assert (report.name, report.kind) == ("", FailureKind.CORRUPT)
    assert "damaged header" in report.message


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", FailureKind.EMPTY),
        (gzip.compress(b""), FailureKind.EMPTY),
        (b"<html>" + b"not here " * 200, FailureKind.CORRUPT),
        (b"<html>" + b"not here " * 20, FailureKind.CORRUPT),
        (gzip.compress(b"text " * 500), FailureKind.CORRUPT),
        (b"BZh91AY" + bytes(1000), FailureKind.UNSUPPORTED),
        (b"PK\x03\x04" + bytes(1000), FailureKind.UNSUPPORTED),
        (archive(SAMPLE, mode="w:gz") + b"garbage", FailureKind.CORRUPT),
        (archive(SAMPLE) + b"garbage" * 100, FailureKind.CORRUPT),
        (content(9, 5000), FailureKind.CORRUPT),
    ],
    ids=["nothing", "gzip of nothing", "page", "short page", "gzip of text", "bzip2", "zip", "gzip and more", "tar and more", "noise"],
)
def test_what_is_no_archive_or_more_than_one_is_one_report(data: bytes, kind: FailureKind) -> None:
    found = read(data)
    assert only_report(found).kind is kind
    assert len(found) in (1, 1 + len(SAMPLE))


@pytest.mark.parametrize(
    "data",
    [archive([]), gzip.compress(archive(SAMPLE)) + bytes(900), archive(SAMPLE)[: boundaries(archive(SAMPLE))[-1]]],
    ids=["no member", "zeros after gzip", "no end mark"],
)
def test_padding_or_none_is_no_damage(data: bytes) -> None:
    assert all(isinstance(item, Member) for item in read(data))


def test_gzip_members_and_archives_may_be_concatenated() -> None:
    plain = archive(SAMPLE)
    parts = b"".join(gzip.compress(plain[start : start + 700]) for start in range(0, len(plain), 700))
    assert files_of(read(parts)) == SAMPLE
    assert files_of(read(plain + plain)) == SAMPLE + SAMPLE
    named = io.BytesIO()
    with gzip.GzipFile("a name.tar", "wb", fileobj=named) as file:
        file.write(plain)
    assert files_of(read(named.getvalue())) == SAMPLE


def test_what_is_no_file_is_told_and_directories_are_not() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        add(tar, "./", kind=tarfile.DIRTYPE)
        add(tar, "./a.mp4", b"a")
        add(tar, "link", kind=tarfile.SYMTYPE, target="/etc/passwd")
        add(tar, "hard", kind=tarfile.LNKTYPE, target="a.mp4")
        add(tar, "pipe", kind=tarfile.FIFOTYPE)
        add(tar, "device", kind=tarfile.CHRTYPE)
        add(tar, "../../etc/passwd", b"b")
        add(tar, "/abs", b"c")
    found = read(out.getvalue())
    assert files_of(found) == [("a.mp4", b"a"), ("../../etc/passwd", b"b"), ("/abs", b"c")]
    bad = [item for item in found if isinstance(item, BadMember)]
    assert [(item.name, item.kind, item.ends_archive) for item in bad] == [
        (name, FailureKind.UNSUPPORTED, False) for name in ("link", "hard", "pipe", "device")
    ]
    assert bad[0].message == "a symbolic link to /etc/passwd, not a file; archive the file itself"


def test_pax_says_path_and_size_and_a_global_header_lasts() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "x", "path": "everyone"}) as tar:
        add(tar, "a", b"1")
        info = tarfile.TarInfo("b")
        info.size, info.pax_headers = 3, {"path": "own", "mtime": "1.5"}
        tar.addfile(info, io.BytesIO(b"333"))
    assert files_of(read(out.getvalue())) == [("everyone", b"1"), ("own", b"333")]


def with_checksum(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def claim(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def test_a_size_beyond_octal_is_understood() -> None:
    found = read(claim("huge", 10 << 30) + b"x" * 5000, max_bytes=1 << 20)
    assert [(item.name, item.kind) for item in found if isinstance(item, BadMember)] == [("huge", FailureKind.TOO_LARGE), ("", FailureKind.TRUNCATED)]
    negative = bytearray(claim("negative", 0))
    negative[124:136] = b"\xff" * 12
    assert only_report(read(with_checksum(negative))).kind is FailureKind.CORRUPT


def test_an_endless_extension_header_is_refused() -> None:
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        found = read(archive(SAMPLE[:1])[:1536] + claim("x", 2 << 20, kind) + b"1" * (2 << 20))
        assert files_of(found) == SAMPLE[:1]
        assert "extension header of 2,097,152 bytes" in only_report(found).message


@pytest.mark.parametrize("record", [b"9 path=a", b"99 path=a\n", b"x path=a\n", b"0 path=a\n", b"9999999999999999999999 path=a\n", b"12 size=-5\n\n"])
def test_a_damaged_pax_record_is_told(record: bytes) -> None:
    data = claim("x", len(record), tarfile.XHDTYPE) + record.ljust(512, b"\0") + claim("y", 1) + b"1".ljust(512, b"\0")
    assert only_report(read(data)).kind is FailureKind.CORRUPT


def test_a_member_too_large_is_passed_over_and_its_neighbours_come_out() -> None:
    found = read(archive(SAMPLE, mode="w:gz"), max_bytes=1000)
    assert files_of(found) == SAMPLE[:3]
    assert found[3] == BadMember(
        "c.mp4", FailureKind.TOO_LARGE, "3,000 bytes; limits.max_bytes is 1,000 (raise it with --limits.max-bytes)", ends_archive=False
    )


def test_what_is_not_wanted_is_passed_over_without_a_word() -> None:
    asked: list[str] = []

    def wanted(name: str) -> bool:
        asked.append(name)
        return name == "c.mp4"

    assert files_of(list(members(io.BytesIO(archive(SAMPLE)), max_bytes=1 << 20, wanted=wanted))) == SAMPLE[3:]
    assert asked == [name for name, _ in SAMPLE]


def bomb(size_bytes: int, claimed_bytes: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(claim("bomb", claimed_bytes)) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(size_bytes >> 20)) + packer.flush()


@pytest.mark.parametrize("max_bytes", [8 << 20, 200 << 30])
def test_a_bomb_takes_little_memory(max_bytes: int) -> None:
    data = bomb(64 << 20, 100 << 30)
    tracemalloc.start()
    found = [item for item in members(io.BytesIO(data), max_bytes=max_bytes) if isinstance(item, BadMember)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found[-1].kind is FailureKind.TRUNCATED
    assert peak < (8 << 20 if max_bytes < 100 << 30 else 150 << 20)  # read: what came, not what was claimed


def test_one_member_at_a_time_is_held() -> None:
    data = archive([(str(index), content(index, 4 << 20)) for index in range(10)])
    tracemalloc.start()
    assert sum(item.size_bytes for item in members(io.BytesIO(data), max_bytes=1 << 30) if isinstance(item, Member)) == 40 << 20
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20


def test_zeros_without_end_are_not_read_for_ever() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    data = packer.compress(archive(SAMPLE)) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(80)) + packer.flush()
    found = read(data, seed=5)
    assert files_of(found) == SAMPLE
    assert "64 MiB of zeros" in only_report(found).message


def test_a_failing_store_is_not_taken_for_a_damaged_archive() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise ConnectionError("store")

    def drained() -> Iterator[Member | BadMember]:
        return members(Failing(), max_bytes=1)

    with pytest.raises(ConnectionError):
        list(drained())
