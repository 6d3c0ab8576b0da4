"""Whatever the bytes: members, rows, frames, or an error of the declared kind; never anything else, never without end."""

import gzip
import io
import tarfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from infra.problem import Problem
from infra.settings import RunConfig
from models.spec import Geometry
from tasks.clip import ClipError, FailureKind, Window
from tasks.encoded import EncodedClip
from tasks.gunzip import Damage, Pieces, inflate
from tasks.infer import DecodedClip, decode
from tasks.isolate import Decoder
from tasks.labels import read_annotations
from tasks.manifest import read
from tasks.roots import Roots
from tasks.source import SourceFile
from tasks.tar import BadMember, Member, members
from tests.corpus import config_for
from tests.faults.mutation import EDITS, RECIPES, Edit, mutated, video

T = TypeVar("T")
FEW, MANY = 200, 5_000
SHAPES = (Geometry(32, 32),)
LIMITS = {"clip_timeout_s": 20, "max_pixels": 1 << 22, "max_frames": 1_000, "max_bytes": 16 << 20}
MEDIA_KINDS = {"CORRUPT", "NO_VIDEO", "EMPTY", "TRUNCATED", "UNSUPPORTED", "TOO_LARGE", "OOM"}
PLAIN = [Phase.explicit, Phase.generate]  # a crash leaves nothing to shrink
quick = settings(max_examples=FEW, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
decoding = settings(quick, phases=PLAIN)
long = settings(decoding, max_examples=MANY)
WOUNDS = st.lists(EDITS, min_size=1, max_size=6)


@cache
def config() -> RunConfig:
    return config_for({"kind": "kinetics", "uri": "/c"}, "/out", decode={"fps": 5}, limits=LIMITS)


@cache
def decoder() -> Decoder:
    return Decoder(config().limits)


def entry(data: bytes, window: Window | None) -> DecodedClip:
    """The one way in; what a worker calls."""
    clip = EncodedClip("k", "k", "/a.tar!k.mp4", "e", len(data), 0.0, None, data=data, window=window)
    return decode(clip, decoder(), SHAPES, fps=config().decode.fps)


def check_decoded(name: str, other: str, wounds: Sequence[Edit], window: Window | None) -> None:
    data = mutated(video(name), wounds, video(other))
    with suppress(ClipError):
        assert decoder().probe(io.BytesIO(data)).duration_s > 0
    found = entry(data, window)
    assert found.problem is None
    if found.failure is not None:
        assert found.failure.kind in MEDIA_KINDS
        assert found.failure.message
        return
    assert found.info is not None
    assert found.info.duration_s > 0
    assert found.time_s is not None
    assert len(found.time_s) == len(found.squares[0]) > 0
    assert [square.shape[1:] for square in found.squares] == [(32, 32, 3)]


names = st.sampled_from(sorted(RECIPES))
windows = st.none() | st.just(Window(0.1, 0.2))


NO_FRAME = [Edit("overwrite", 0.06008849473078695, 47, 43909), Edit("splice", 0.8050953526146448, 45, 39027)]
NO_COLOURS = [
    Edit("overwrite", 0.10684988721365415, 6, 53257),
    Edit("delete", 0.7129415873154604, 31, 22881),
    Edit("repeat", 0.1925517462311722, 46, 63175),
    Edit("splice", 0.04970404972924383, 18, 65526),
]
NO_TIME = [
    Edit("overwrite", 0.5539602643961763, 11, 21950),
    Edit("repeat", 0.1146794019128203, 59, 51287),
    Edit("box", 0.08825694612288137, 40, 14094),
    Edit("cut", 0.6488261589002893, 55, 23030),
]


@given(name=names, other=names, wounds=WOUNDS, window=windows)
@example(name="mpeg2 transport", other="vp8 ogg", wounds=NO_FRAME, window=Window(0.1, 0.2))
@example(name="mpeg2 transport", other="h264 mpegts", wounds=NO_COLOURS, window=None)
@example(name="h264 mpegts", other="flv1 flv", wounds=NO_TIME, window=Window(0.1, 0.2))
@decoding
def test_a_wounded_clip_gives_frames_or_a_failure(name: str, other: str, wounds: list[Edit], window: Window | None) -> None:
    """P6: without `_MEDIA_ERRORS` in tasks.container an unforeseen exception of libav takes the worker, and every clip with it.

    The examples: a clip of which no sample came out (without the check in `_convert` of tasks.decode numpy raised), one whose colours
    libswscale does not know (without that in `_upright` libav's error came out), one that ended before it began.
    """
    check_decoded(name, other, wounds, window)


@pytest.mark.nightly
@given(name=names, other=names, wounds=WOUNDS, window=windows)
@long
def test_thousands_of_wounded_clips_give_frames_or_failures(name: str, other: str, wounds: list[Edit], window: Window | None) -> None:
    """P6: as above, longer."""
    check_decoded(name, other, wounds, window)


@given(name=names, head=st.binary(max_size=64), at=st.integers(0, 300))
@decoding
def test_containers_with_another_beginning(name: str, head: bytes, at: int) -> None:
    """P6: a container's first bytes decide which of libav's readers gets the rest."""
    data = bytearray(video(name))
    data[at : at + len(head)] = head
    with suppress(ClipError):
        assert decoder().probe(io.BytesIO(bytes(data))).duration_s > 0


@cache
def archive(form: int, gz: bool) -> bytes:
    """Every sort of member that tarfile writes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, pax_headers={"comment": "c"} if form == tarfile.PAX_FORMAT else None) as tar:
        for number, name in enumerate(["a.mp4", "d/" + "long" * 40 + ".mp4", "ü (x).mp4", "link", "fifo", "dir", "empty.mp4", "b.cls"]):
            info = tarfile.TarInfo(name)
            info.size = 0 if name in ("link", "fifo", "dir", "empty.mp4") else 300 * number + 7
            info.type = {"link": tarfile.SYMTYPE, "fifo": tarfile.FIFOTYPE, "dir": tarfile.DIRTYPE}.get(name, tarfile.REGTYPE)
            info.linkname = "target" * 30 if name == "link" else ""
            info.pax_headers = {"mtime": "1.5"} if form == tarfile.PAX_FORMAT else {}
            tar.addfile(info, io.BytesIO(bytes([number]) * info.size))
    return gzip.compress(out.getvalue()) if gz else out.getvalue()


MAX_MEMBER = 1 << 16


def check_members(data: bytes) -> None:
    found = list(members(io.BytesIO(data), max_bytes=MAX_MEMBER))
    assert all(isinstance(item, Member | BadMember) for item in found)
    assert all(item.size_bytes <= MAX_MEMBER for item in found if isinstance(item, Member))
    assert [item.ends_archive for item in found[:-1] if isinstance(item, BadMember)].count(True) == 0
    assert all(item.name.encode() and len(item.name.encode()) <= 5_000 for item in found if isinstance(item, Member))
    assert sum(item.size_bytes for item in found if isinstance(item, Member)) <= (1 << 27)


headers = st.integers(0, 30).map(lambda block: block * 512)
fields = st.sampled_from([0, 100, 108, 116, 124, 136, 148, 156, 157, 257, 263, 265, 297, 329, 345, 482])


@given(form=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT][1:]), gz=st.booleans(), wounds=WOUNDS)
@quick
def test_a_wounded_archive_gives_members_and_reports(form: int, gz: bool, wounds: list[Edit]) -> None:
    """P6: without the guards of tasks.tar a header takes the reader down, and the shard never ends."""
    check_members(mutated(archive(form, gz), wounds))


@given(
    form=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    edits=st.lists(st.tuples(headers, fields, st.binary(min_size=1, max_size=12)), min_size=1, max_size=4),
    summed=st.booleans(),
)
@quick
def test_headers_with_other_fields_and_right_sums(form: int, edits: list[tuple[int, int, bytes]], summed: bool) -> None:
    """P6: as above, past the checksum, which stops most random damage."""
    data = bytearray(archive(form, False))
    for block, field, value in edits:
        if block + 512 <= len(data):
            data[block + field : block + field + len(value)] = value
            if summed:
                data[block + 148 : block + 156] = b" " * 8
                data[block + 148 : block + 156] = b"%06o\0 " % sum(data[block : block + 512])
    check_members(bytes(data))


@given(data=st.binary(max_size=3_000), magic=st.sampled_from([b"", b"\x1f\x8b\x08", b"\x1f\x8b\x08\x1f", b"a" * 100 + b"0000644\0"]))
@quick
def test_noise_is_no_archive(data: bytes, magic: bytes) -> None:
    """P6: whatever lies in a bucket."""
    check_members(magic + data)


@given(payload=st.binary(max_size=5_000), repeats=st.integers(1, 40), wounds=st.lists(EDITS, max_size=4))
@quick
def test_wounded_gzip_gives_bytes_then_damage(payload: bytes, repeats: int, wounds: list[Edit]) -> None:
    """P6: without the translation in tasks.gunzip the decoder's own exception comes out; what was whole before comes out."""
    whole = gzip.compress(payload * repeats) * 2
    data = mutated(whole, wounds)
    out, kind = bytearray(), None
    try:
        for piece in inflate(Pieces(iter([part for part in (data[:100], data[100:]) if part]))):
            out += piece
    except Damage as damage:
        kind = damage.kind
    assert kind in (None, FailureKind.CORRUPT, FailureKind.TRUNCATED, FailureKind.TOO_LARGE)
    assert wounds or (kind, bytes(out)) == (None, payload * repeats * 2)


Cells = list[list[str]]
cells = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(
    [
        "1",
        "-1",
        "1e308",
        "nan",
        "",
        '"',
        '""',
        ",",
        "\n",
        "\0",
        "=1+1",
        "9" * 30,
        "2020-01-01",
        "true",
        "0x10",
        "é",
        "\ufeff",
        "s3://k:p@b/x",
        "http://h/x",
    ]
)
rows = st.lists(st.lists(cells, max_size=7), max_size=8)


def csv_of(header: str, body: Cells, wounds: list[Edit]) -> bytes:
    text = header + "\n" + "\n".join(",".join(line) for line in body)
    return mutated(text.encode(), wounds)


def written(folder: Path, name: str, data: bytes) -> str:
    path = folder / name
    path.write_bytes(data)
    return str(path)


def attempted(path: str, attempt: Callable[[str], T]) -> T | None:
    """What was read; None where the whole was refused, in one line."""
    try:
        return attempt(path)
    except Problem as problem:
        told = str(problem)
    assert "\n" not in told
    return None


ANNOTATIONS = st.sampled_from(["label,youtube_id,time_start,time_end,split", "youtube_id,time_start,time_end"])
MANIFESTS = st.sampled_from(["uri", "uri,label,price", "a,uri"])
FEWER = st.lists(EDITS, max_size=3)


@given(body=rows, wounds=FEWER, header=ANNOTATIONS)
@quick
def test_any_annotations_are_a_table_or_one_line(tmp_path_factory: pytest.TempPathFactory, body: Cells, wounds: list[Edit], header: str) -> None:
    """P6: without `pa.ArrowException` in tasks.labels a date among the seconds was a traceback."""
    path = written(tmp_path_factory.getbasetemp(), "train.csv", csv_of(header, body, wounds))
    found = attempted(path, lambda uri: read_annotations(SourceFile("train.csv", uri, "1", 1)).table)
    assert found is None or found.column_names == ["clip_id", "label", "split"]


@given(body=rows, wounds=FEWER, header=MANIFESTS)
@quick
def test_any_manifest_is_rows_or_one_line(tmp_path_factory: pytest.TempPathFactory, body: Cells, wounds: list[Edit], header: str) -> None:
    """P6, P12: a manifest names what it likes; each row is a video, a refusal, or the whole is one line."""
    folder = tmp_path_factory.getbasetemp()
    path = written(folder, "list.csv", csv_of(header, body, wounds))
    found = attempted(path, lambda uri: read(uri, Roots((f"{folder}/",)))) or []
    assert all(row.refused or row.uri.startswith(f"{folder}/") for row in found)
    assert len({row.name for row in found}) == len(found)
