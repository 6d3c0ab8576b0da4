"""Hostile files that call themselves .mp4: playlists that name other files, and videos whose headers lie.

Each comes with the kinds of failure it may become; `none` is a row, where the lie is harmless and the truth is measured. Knows the formats;
runs nothing.
"""

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from tests.corpus import clip
from tests.faults.canary import Canary
from tests.media import Recipe, encode, moving_pictures

CORRUPT, TOO_LARGE = frozenset({"CORRUPT"}), frozenset({"TOO_LARGE"})
ROW = frozenset({"none"})
LIE = frozenset({"CORRUPT", "TRUNCATED", "TOO_LARGE", "UNSUPPORTED", "EMPTY", "NO_VIDEO"})
HUGE = 0x7FFFFFFF
SIDE = 100_000
FRONT = Recipe(rate=10, muxer={"movflags": "faststart"})
FAST_VPX = {"deadline": "realtime", "cpu-used": "8"}


@dataclass(frozen=True, slots=True)
class Media:
    """One hostile file."""

    data: bytes
    kinds: frozenset[str]


def playlists(bird: Canary) -> dict[str, Media]:
    """Files that ask a player to open another one, by a relative name, a path, and over the network."""
    found: dict[str, bytes] = {}
    for how, target in {"name": bird.path.name, "path": str(bird.path), "file": f"file:{bird.path}", "http": bird.url}.items():
        found |= {f"{form}_{how}": text.replace("@", target).encode() for form, text in FORMS.items()}
    found["gzipped_playlist"] = zlib.compress(FORMS["m3u8"].replace("@", bird.url).encode())
    return {name: Media(data, CORRUPT) for name, data in found.items()} | {
        "mov_alias": Media(with_alias(clip(0), str(bird.path)), frozenset({"TRUNCATED"})),
        "mov_reference": Media(box(b"ftyp", b"qt  \0\0\2\0qt  ") + box(b"moov", _reference(bird.url)), frozenset({"NO_VIDEO"})),
    }


FORMS = {
    "ffconcat": "ffconcat version 1.0\nfile '@'\nduration 10\n",
    "concat_unsafe": "ffconcat version 1.0\noption safe 0\noption protocol_whitelist file,http,tcp,crypto,data\nfile @\n",
    "m3u8": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n@\n#EXT-X-ENDLIST\n",
    "m3u8_master": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1280000,RESOLUTION=160x128\n@\n",
    "m3u8_map": '#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXT-X-MAP:URI="@"\n#EXTINF:10,\n@\n#EXT-X-ENDLIST\n',
    "m3u8_key": '#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXT-X-KEY:METHOD=AES-128,URI="@",IV=0x00\n#EXTINF:10,\n@\n#EXT-X-ENDLIST\n',
    "m3u8_concat": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nconcat:@|@\n#EXTINF:10,\nsubfile,,start,0,end,0,,:@\n#EXT-X-ENDLIST\n",
    "ffmetadata": ";FFMETADATA1\ntitle=@\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1\ntitle=@\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=@\nc=IN IP4 127.0.0.1\nt=0 0\na=control:@\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT10S"><Period><AdaptationSet'
    ' mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>@</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "entity": '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "@">]><MPD><Period>&e;</Period></MPD>',
    "srt": "1\n00:00:00,000 --> 00:00:10,000\n@\n",
    "ass": "[Script Info]\nVideo File: @\n[Events]\nDialogue: 0,0:00:00.00,0:00:10.00,x,,0,0,0,,@\n",
    "asx": '<asx version="3.0"><entry><ref href="@"/></entry></asx>',
    "reference": "[Reference]\nRef1=@\n",
    "pls": "[playlist]\nFile1=@\nNumberOfEntries=1\n",
    "vobsub": "# VobSub index file, v7\nsize: 720x480\nid: en, index: 0\ntimestamp: 00:00:00:000, filepos: 000000000\n# @\n",
    "protocol": "concat:@|@",
    "lavfi": "movie=@",
}


def liars() -> dict[str, Media]:
    """Videos whose headers claim what would cost a reader its memory, its time or its patience."""
    return {name: Media(data, kinds) for group in (_pixels, _durations, _counts, _shapes) for name, data, kinds in group()}


def box(kind: bytes, content: bytes) -> bytes:
    """An mp4 box."""
    return struct.pack(">I", len(content) + 8) + kind + content


def _reference(url: str) -> bytes:
    """A QuickTime movie that is elsewhere: rmra > rmda > rdrf."""
    return box(b"rmra", box(b"rmda", box(b"rdrf", bytes(4) + b"url " + struct.pack(">I", len(url) + 1) + url.encode() + b"\0")))


def with_alias(video: bytes, path: str) -> bytes:
    """An mp4 whose samples lie, it says, in another file: a Macintosh alias in `dref`."""
    name = path.rpartition("/")[2].encode()
    record = bytes(10) + b"\x06canary".ljust(28, b"\0") + bytes(12) + bytes([len(name)]) + name.ljust(63, b"\0") + bytes(16)
    record += struct.pack(">HH", 1, 1) + bytes(16) + struct.pack(">HH", 2, len(path)) + path.encode() + b"\0" * (len(path) % 2) + b"\xff\xff\0\0"
    entry = box(b"alis", bytes(4) + record)
    return replaced(video, b"dref", lambda content: content[:8] + entry)


def replaced(video: bytes, kind: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """An mp4 with the content of every box of a kind changed; sizes around it, and where its samples lie, are corrected."""
    changed = _replaced(video, kind, change)
    moved = len(changed) - len(video)
    return _replaced(changed, b"stco", lambda old: old[:8] + struct.pack(">I", int.from_bytes(old[8:12], "big") + moved)) if moved else changed


def _replaced(video: bytes, kind: bytes, change: Callable[[bytes], bytes]) -> bytes:
    out, start = b"", 0
    while start + 8 <= len(video):
        size, found = struct.unpack(">I4s", video[start : start + 8])
        content = video[start + 8 : start + size]
        if found in CONTAINERS:
            content = _replaced(content, kind, change)
        out += box(found, change(content) if found == kind else content)
        start += size
    return out


CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf")


def put(offset: int, form: str, *values: int) -> Callable[[bytes], bytes]:
    """A change that packs numbers at a place."""
    packed = struct.pack(form, *values)
    return lambda content: content[:offset] + packed + content[offset + len(packed) :]


def _pixels() -> Iterator[tuple[str, bytes, frozenset[str]]]:
    video = clip(0)
    sample = put(32, ">HH", 0xFFFF, 0xFFFF)  # of the visual sample entry behind stsd's own 8 bytes
    yield "avc1_65535", replaced(video, b"stsd", sample), ROW | TOO_LARGE
    yield "tkhd_65535", replaced(video, b"tkhd", put(76, ">II", 0xFFFF0000, 0xFFFF0000)), ROW
    yield "sps_100000", replaced(video, b"stsd", _with_sps), TOO_LARGE | CORRUPT
    yield "sps_in_stream", _annex_b(), TOO_LARGE | CORRUPT
    for codec in ("png", "mjpeg"):
        whole = encode(_pictures(), Recipe("mov", codec, "rgb24" if codec == "png" else "yuvj420p"))
        change = _png if codec == "png" else _jpeg
        yield f"{codec}_in_frame", change(whole), TOO_LARGE | CORRUPT
        yield f"{codec}_everywhere", replaced(change(whole), b"stsd", sample), TOO_LARGE | CORRUPT
    ffv1 = encode(_pictures(), Recipe("matroska", "ffv1"))
    yield "mkv_100000", _matroska(ffv1), TOO_LARGE | CORRUPT
    vp8, vp9 = (encode(_pictures(), Recipe("webm", codec, options=FAST_VPX)) for codec in ("libvpx", "libvpx-vp9"))
    yield "vp8_16383", _patched(vp8, b"\x9d\x01\x2a", struct.pack("<HH", 0x3FFF, 0x3FFF)), TOO_LARGE
    yield "vp9_65536", _vp9(vp9), TOO_LARGE
    flv = encode(_pictures(), Recipe("flv", "flv"))
    yield "flv_65535", _flv(flv), TOO_LARGE | CORRUPT
    mpeg2 = encode(_pictures(), Recipe("mpeg", "mpeg2video"))
    yield "mpeg2_extension", _patched(mpeg2, b"\0\0\1\xb3", b"\xff\xff\xff"), ROW
    yield "avi_100000", _avi(encode(_pictures(), Recipe("avi", "mpeg4"))), ROW | TOO_LARGE


@cache
def _pictures() -> tuple:  # type: ignore[type-arg]
    return moving_pictures(4, 96, 80)


class _Bits:
    """Writes an H.264 parameter set bit by bit."""

    def __init__(self) -> None:
        self.bits = ""

    def u(self, count: int, value: int) -> "_Bits":
        self.bits += f"{value:0{count}b}"
        return self

    def ue(self, value: int) -> "_Bits":
        code = f"{value + 1:b}"
        self.bits += "0" * (len(code) - 1) + code
        return self

    def done(self) -> bytes:
        bits = self.bits + "1"
        bits += "0" * (-len(bits) % 8)
        return int(bits, 2).to_bytes(len(bits) // 8, "big")


def sps(side: int) -> bytes:
    """A baseline sequence parameter set of a square picture (ITU-T H.264 7.3.2.1.1)."""
    bits = _Bits().u(8, 66).u(8, 0).u(8, 62).ue(0).ue(0).ue(0).ue(0).ue(1).u(1, 0)
    bits.ue(side // 16 - 1).ue(side // 16 - 1).u(1, 1).u(1, 1).u(1, 0).u(1, 0)
    return b"\x67" + bits.done()


def _with_sps(stsd: bytes) -> bytes:
    """`avcC` with another parameter set, and a sample entry that claims nothing unusual."""
    own = sps(SIDE)
    at = stsd.index(b"avcC") - 4
    size = int.from_bytes(stsd[at : at + 4], "big")
    old = stsd[at + 8 : at + size]
    length = int.from_bytes(old[6:8], "big")
    avcc = box(b"avcC", old[:6] + struct.pack(">H", len(own)) + own + old[8 + length :])
    entry = stsd[8:at] + avcc + stsd[at + size :]
    return stsd[:8] + struct.pack(">I", len(entry)) + entry[4:]


def _annex_b() -> bytes:
    """A transport stream that begins well and then changes its size."""
    small = encode(_pictures(), Recipe("mpegts"))
    at = small.index(b"\0\0\0\1\x67")
    return small[: at + 4] + sps(SIDE) + b"\0\0\0\1" + small[at + 4 + len(sps(SIDE)) + 4 :]


def _png(video: bytes) -> bytes:
    out, at = bytearray(video), 0
    while (at := out.find(b"IHDR", at + 1)) >= 0:
        out[at + 4 : at + 12] = struct.pack(">II", SIDE, SIDE)
        out[at + 17 : at + 21] = struct.pack(">I", zlib.crc32(out[at : at + 17]))
    return bytes(out)


def _jpeg(video: bytes) -> bytes:
    out, at = bytearray(video), 0
    while (at := out.find(b"\xff\xc0\0\x11\x08", at + 1)) >= 0:
        out[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    return bytes(out)


def _matroska(video: bytes) -> bytes:
    """PixelWidth and PixelHeight with three bytes each, in the place of what follows them."""
    at = video.index(b"\xb0\x81\x60\xba\x81\x50")
    end = video.index(b"\xec\x01", at)  # a Void that the muxer leaves
    size = b"\xb0\x83" + SIDE.to_bytes(3, "big") + b"\xba\x83" + SIDE.to_bytes(3, "big")
    assert end - at >= len(size) + 2
    return video[:at] + size + b"\xec" + bytes([0x80 | (end - at - len(size) - 2)]) + bytes(end - at - len(size) - 2) + video[end:]


def _patched(video: bytes, after: bytes, value: bytes) -> bytes:
    at = video.index(after) + len(after)
    return video[:at] + value + video[at + len(value) :]


def _vp9(video: bytes) -> bytes:
    """Behind the sync code of profile 0: colour space (3 bits), range (1 bit), width - 1, height - 1 (16 bits each)."""
    at = video.index(b"\x49\x83\x42") + 3
    value = int.from_bytes(video[at : at + 5], "big") | ((1 << 32) - 1) << 4
    return video[:at] + value.to_bytes(5, "big") + video[at + 5 :]


def _flv(video: bytes) -> bytes:
    """Sorenson H.263: start code (17 bits), version (5), temporal reference (8), size format (3); format 1 takes 16 bits a side."""
    out, at = bytearray(video), 0
    while (at := out.find(b"\0\0\x84", at + 1)) >= 0:
        out[at + 4 : at + 9] = b"\x80\xff\xff\xff\xff"
    return bytes(out)


def _avi(video: bytes) -> bytes:
    at = video.index(b"strf") + 8
    return video[: at + 4] + struct.pack("<II", SIDE, SIDE) + video[at + 12 :]


def _durations() -> Iterator[tuple[str, bytes, frozenset[str]]]:
    video = clip(0)
    yield "mvhd_years", replaced(video, b"mvhd", put(16, ">I", HUGE)), ROW
    yield "mdhd_years", replaced(video, b"mdhd", put(16, ">I", HUGE)), ROW
    yield "mdhd_no_timescale", replaced(video, b"mdhd", put(12, ">I", 0)), ROW | LIE
    yield "mdhd_fast_timescale", replaced(video, b"mdhd", put(12, ">I", HUGE)), ROW | LIE
    yield "elst_years", replaced(video, b"elst", put(8, ">Ii", HUGE, HUGE)), ROW | LIE
    yield "elst_before_time", replaced(video, b"elst", put(8, ">Ii", HUGE, -HUGE)), ROW | LIE
    yield "elst_many", _again_and_again(clip(0), 10_000), TOO_LARGE
    yield "elst_many_tiny", _again_and_again(encode([moving_pictures(1, 16, 16)[0]] * 20, FRONT), 100_000), TOO_LARGE
    yield "stts_years", replaced(video, b"stts", put(12, ">I", HUGE)), TOO_LARGE
    yield "stts_zero", replaced(video, b"stts", put(12, ">I", 0)), ROW | LIE
    yield "ctts_years", replaced(video, b"ctts", put(12, ">I", HUGE)), ROW | LIE
    yield "fps_of_a_million", replaced(replaced(video, b"stts", put(12, ">I", 1)), b"mdhd", put(12, ">I", HUGE)), ROW | LIE


def _again_and_again(video: bytes, times: int) -> bytes:
    """An edit list that shows the whole video thousands of times: a short file with packets without end."""
    return replaced(video, b"elst", lambda old: struct.pack(">II", 0, times) + old[8:20] * times)


def _counts() -> Iterator[tuple[str, bytes, frozenset[str]]]:
    video = clip(0)
    yield "stsz_billions", replaced(video, b"stsz", lambda old: struct.pack(">III", 0, 1, HUGE)), LIE | {"OOM"}
    yield "samples_11_million", _many_samples(video, 11_000_000), TOO_LARGE
    yield "stts_billions", replaced(video, b"stts", put(8, ">I", HUGE)), ROW | LIE
    for kind in (b"stts", b"stsz", b"stco", b"stsc", b"ctts", b"stss"):
        yield f"{kind.decode()}_entries", replaced(video, kind, put(8 if kind == b"stsz" else 4, ">I", 0xFFFFFFFF)), ROW | LIE | {"OOM"}
    trak = video[video.index(b"trak") - 4 :]
    trak = trak[: int.from_bytes(trak[:4], "big")]
    yield "traks_5000", replaced(video, b"moov", lambda old: old + trak * 5_000), LIE | {"OOM"}
    yield "programs_2000", _programs(encode(_pictures(), Recipe("mpegts")), 2_000), ROW | LIE
    mkv = encode(_pictures(), Recipe("matroska"))
    yield "tracks_5000", _tracks(mkv, 5_000), LIE | ROW
    yield "nested_boxes", _nest(20_000), CORRUPT
    yield "nested_ebml", mkv[: mkv.index(b"\x16\x54\xae\x6b")] + b"\x16\x54\xae\x6b\x01\xff\xff\xff\xff\xff\xff\xff" * 5_000, LIE


def endless() -> bytes:
    """A transport stream of 50 kB that holds libav for minutes inside one call, where no deadline is looked at: only a process can be ended.

    Its program tables name 20,000 programs; the time grows with the cube of their number (2,000: 0.1 s; 5,000: 1 s; 10,000: 14 s).
    """
    return _programs(encode(_pictures(), Recipe("mpegts")), 20_000)


def greedy() -> bytes:
    """An mp4 of 16 kB whose index libav unfolds to some GB before anybody can count it; only a process's own limit stops it earlier."""
    return _many_samples(clip(0), 80_000_000)


def _many_samples(video: bytes, count: int) -> bytes:
    """One chunk with all samples, each of one byte."""
    video = replaced(video, b"stsz", lambda old: struct.pack(">III", 0, 1, count))
    video = replaced(video, b"stsc", lambda old: struct.pack(">IIIII", 0, 1, 1, count, 1))
    return replaced(video, b"stts", lambda old: struct.pack(">IIII", 0, 1, count, 2))


def _nest(depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        data = box(b"moov", data)
    return box(b"ftyp", b"isom\0\0\2\0isom") + data


def _programs(ts: bytes, count: int) -> bytes:
    """Program association tables that name thousands of programs, then the stream."""
    tables = b""
    for start in range(0, count, 40):
        entries = b"".join(struct.pack(">HH", 2 + start + i, 0xE000 | (0x100 + (start + i) % 0x1E00)) for i in range(40))
        section = b"\0" + struct.pack(">H", 0xB000 | (len(entries) + 9)) + b"\0\1\xc1\0\0" + entries
        section += struct.pack(">I", _crc(section))
        tables += b"\x47\x40\0\x10\0" + section.ljust(183, b"\xff")
    return tables + ts


def _crc(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7) & 0xFFFFFFFF if crc & 0x80000000 else crc << 1
    return crc


def _tracks(mkv: bytes, count: int) -> bytes:
    """A Tracks element of thousands of entries before the real one."""
    entry = b"\xae\x8a\xd7\x81\x09\x73\xc5\x81\x09\x83\x81\x01\x86"
    entries = entry[:1] + b"\x89" + entry[2:11]
    tracks = entries * count
    at = mkv.index(b"\x16\x54\xae\x6b")
    return mkv[:at] + b"\x16\x54\xae\x6b\x08" + len(tracks).to_bytes(7, "big").lstrip(b"\0").rjust(4, b"\0")[-4:] + tracks + mkv[at:]


def _shapes() -> Iterator[tuple[str, bytes, frozenset[str]]]:
    video = clip(0)
    packed = zlib.compress(bytes(1 << 20), 9)
    moov = video[video.index(b"moov") - 4 :]
    moov = moov[: int.from_bytes(moov[:4], "big")]
    inner = box(b"dcom", b"zlib") + box(b"cmvd", struct.pack(">I", 0xFFFFFF00) + packed)
    yield "compressed_moov_bomb", box(b"ftyp", b"qt  \0\0\2\0qt  ") + box(b"moov", box(b"cmov", inner)), LIE | {"OOM"}
    yield "box_beyond_the_end", video[:32] + b"\0\0\0\1moov" + b"\x7f" + b"\xff" * 7 + video[40:], LIE
    yield "box_of_zero", video.replace(struct.pack(">I", len(moov)) + b"moov", bytes(4) + b"moov"), LIE | ROW
    yield "mdat_of_4_gib", video.replace(video[video.index(b"mdat") - 4 : video.index(b"mdat")] + b"mdat", b"\xff\xff\xff\xffmdat"), ROW | LIE
    yield "elf", b"\x7fELF\2\1\1" + bytes(4_000), CORRUPT
    yield "shell", b"#!/bin/sh\ntouch canary\n" * 50, CORRUPT
    yield "html", b"<html><body>503 Service Unavailable</body></html>", CORRUPT
    yield "zeros", bytes(1 << 20), CORRUPT


def all_media(bird: Canary) -> Mapping[str, Media]:
    """Every hostile file by name."""
    return {**playlists(bird), **liars()}
