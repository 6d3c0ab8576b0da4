"""Shards of YouTube-8M for tests and benches: the bytes of every level, written by hand, any number of records, the same for the same seed.

    made(seed, 0) -> Made -> frame_level | video_level -> record() -> shard bytes

Independent of tasks/: protocol buffers' wire format and TFRecord's framing are spelled out here again, so that a mistake there is not repeated here.
"""

import gzip
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
RGB, AUDIO = 1024, 128
CLASSES = 3862
Segments = Sequence[tuple[int, int, int, float]]  # start_s, end_s, label, score


@dataclass(frozen=True, slots=True)
class Made:
    """What a record was made from."""

    id: str
    labels: tuple[int, ...]
    rgb: np.ndarray  # uint8 [N, 1024]
    audio: np.ndarray  # uint8 [N, 128]
    segments: Segments = ()


def made(seed: int, number: int, *, frames: int | None = None, segments: int = 0) -> Made:
    """A video; 120 to 300 frames where their number is not given. Numbers up to 64**4 have ids of their own, in no order."""
    draw = np.random.default_rng((seed, number))
    count = int(draw.integers(120, 301)) if frames is None else frames
    labels = tuple(map(int, np.unique(draw.integers(0, CLASSES, draw.integers(1, 5)))))
    codes = np.frombuffer(draw.bytes(count * (RGB + AUDIO)), np.uint8)
    rated = tuple((5 * k, 5 * k + 5, labels[0], float(draw.integers(0, 2))) for k in range(segments))
    return Made(id_of(seed, number), labels, codes[: count * RGB].reshape(-1, RGB), codes[count * RGB :].reshape(-1, AUDIO), rated)


def id_of(seed: int, number: int) -> str:
    """Four characters, as the data set's; some begin with a dash."""
    mixed = (number * 7_368_787 + seed * 104_729) % 64**4  # an odd factor: a permutation of all ids
    return "".join(ALPHABET[mixed // 64**place % 64] for place in range(4))


def frame_level(video: Made, *, key: str = "id", without: Iterable[str] = ()) -> bytes:
    """A SequenceExample, with segments where the video has some."""
    context = _context(video, key)
    if video.segments:
        starts, ends, labels, scores = zip(*video.segments, strict=True)
        context |= {"segment_start_times": _ints(starts), "segment_end_times": _ints(ends), "segment_labels": _ints(labels)}
        context |= {"segment_scores": _floats(np.array(scores, np.float32))}
    lists = {"rgb": video.rgb, "audio": video.audio}
    return sequence(context, {name: rows for name, rows in lists.items() if name not in without})


def video_level(video: Made, *, key: str = "id") -> bytes:
    """An Example with the means of the frames."""
    features = _context(video, key) | {f"mean_{name}": _floats(dequantised_mean(rows)) for name, rows in (("rgb", video.rgb), ("audio", video.audio))}
    return _message(1, _features(features))


def dequantised_mean(rows: np.ndarray) -> np.ndarray:
    """float32 [W]: the published formula, frame by frame in double precision."""
    means: np.ndarray = (rows.astype(np.float64) * (4 / 255) + 4 / 512 - 2).mean(axis=0).astype(np.float32)
    return means


def sequence(context: Mapping[str, bytes], lists: Mapping[str, np.ndarray]) -> bytes:
    """A SequenceExample of any content: features as messages, lists as rows of bytes."""
    entries = (_message(1, _message(1, name.encode()) + _message(2, _rows(rows))) for name, rows in lists.items())
    return _message(1, _features(context)) + _message(2, b"".join(entries))


def record(data: bytes) -> bytes:
    """A record as it stands in the file."""
    length = struct.pack("<Q", len(data))
    return length + check(length) + data + check(data)


def shard(seed: int, count: int, *, frames: int | None = None) -> Iterator[bytes]:
    """A frame-level shard, record by record; 1.15 KB a frame."""
    return (record(frame_level(made(seed, number, frames=frames))) for number in range(count))


def write(path: Path, records: Iterable[bytes]) -> Path:
    """A file of these records, in gzip where its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wb", compresslevel=1) if path.suffix == ".gz" else path.open("wb") as file:
        file.writelines(records)
    return path


def check(data: bytes) -> bytes:
    """The masked CRC32C of some bytes as it stands in the file."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF)


def _context(video: Made, key: str) -> dict[str, bytes]:
    return {key: text(video.id.encode()), "labels": _ints(video.labels)}


def text(value: bytes) -> bytes:
    """A Feature with one byte string."""
    return _message(1, _message(1, value))


def _ints(values: Iterable[int]) -> bytes:
    return _message(3, _message(1, b"".join(map(_varint, values))))


def _floats(values: np.ndarray) -> bytes:
    return _message(2, _message(1, values.astype("<f4").tobytes()))


def _features(features: Mapping[str, bytes]) -> bytes:
    return b"".join(_message(1, _message(1, name.encode()) + _message(2, feature)) for name, feature in features.items())


def _rows(rows: np.ndarray) -> bytes:
    """A FeatureList: what stands before a row is the same for all, so rows are joined as columns of an array."""
    width = rows.shape[1]
    head = text(bytes(width))[: len(text(bytes(width))) - width]
    start = _message(1, head + bytes(width))[: -width or None]
    return np.hstack([np.tile(np.frombuffer(start, np.uint8), (len(rows), 1)), rows]).tobytes()


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))
