"""Records of YouTube-8M: one video's features, at frame, video or segment level, told by what the record holds.

    SequenceExample   id, labels [, segments] | rgb 1024 x uint8, audio 128 x uint8 of every second     frame level (segments: 2019)
    Example           id, labels | mean_rgb 1024 x float, mean_audio 128 x float                        video level

Older shards say video_id. Nothing is dropped without a word: what a record lacks, or has in another shape, is a fault by its feature's name.
Knows the data set (research.google.com/youtube8m/download.html), nothing of framing, storage or tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tasks.clip import ClipError, FailureKind
from tasks.example_pb2 import Feature
from tasks.frame_lists import Malformed, Parts, parts_of, rows_of

WIDTHS = {"rgb": 1024, "audio": 128}  # numbers of a frame's vector
MEANS = {"rgb": "mean_rgb", "audio": "mean_audio"}
MOST_FRAMES = 300  # one a second of the first five minutes
STEP, LOWEST = 4 / 255, 4 / 512 - 2  # of the quantisation: value = code * STEP + LOWEST


@dataclass(frozen=True, slots=True)
class Segment:
    """Five seconds of a video that people rated for one label."""

    start_s: int
    end_s: int
    label: int
    score: float


@dataclass(frozen=True, slots=True)
class Record:
    """One video's features."""

    id: str
    labels: tuple[int, ...]
    frames: Mapping[str, np.ndarray] = field(default_factory=dict)  # by feature: uint8 [N, width], codes
    means: Mapping[str, np.ndarray] = field(default_factory=dict)  # by feature that has no frames: float32 [width]
    segments: tuple[Segment, ...] = ()
    faults: Mapping[str, str] = field(default_factory=dict)  # by feature: why there is no mean of it
    notes: tuple[str, ...] = ()  # what is unusual and was taken as it is

    def mean(self, feature: str) -> np.ndarray | None:
        """float32 [width], over the frames where there are some; None where the record lacks the feature."""
        return mean_of(self.frames[feature]) if feature in self.frames else self.means.get(feature)


def parse(data: bytes | memoryview) -> Record:
    """Read a record.

    Raises:
        ClipError: BAD_RECORD, it is no message, or has no id.
    """
    try:
        parts = parts_of(data)
        features = parts.context.feature
        name = _id(features)
        found = _Found(parts)
        for feature in WIDTHS:
            found.take(feature)
        return Record(name, _integers(features, "labels"), found.frames, found.means, _segments(features), found.faults, tuple(found.notes))
    except Malformed as error:
        raise ClipError(FailureKind.BAD_RECORD, f"{error}; fetch the shard again") from error


def id_of(data: bytes | memoryview) -> str:
    """The id of a record; raises as `parse`."""
    try:
        return _id(parts_of(data).context.feature)
    except Malformed as error:
        raise ClipError(FailureKind.BAD_RECORD, f"{error}; fetch the shard again") from error


def mean_of(codes: np.ndarray) -> np.ndarray:
    """The mean over frames, dequantised.

    Args:
        codes: uint8 [N, W], N at least 1.

    Returns:
        float32 [W].
    """
    means: np.ndarray = codes.sum(axis=0, dtype=np.uint32) / len(codes) * STEP + LOWEST
    return means.astype(np.float32)


class _Found:
    """What a record holds of each feature."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.frames: dict[str, np.ndarray] = {}
        self.means: dict[str, np.ndarray] = {}
        self.faults: dict[str, str] = {}
        self.notes: list[str] = []

    def take(self, feature: str) -> None:
        """Look for a feature, of frames or of the whole video."""
        if feature in self.parts.lists:
            self._frames(feature)
        elif MEANS[feature] in self.parts.context.feature:
            self._mean(feature)
        else:
            self.faults[feature] = f"the record has neither {feature} nor {MEANS[feature]}"

    def _frames(self, feature: str) -> None:
        width = WIDTHS[feature]
        try:
            rows = rows_of(self.parts.lists[feature])
        except Malformed as error:
            self.faults[feature] = f"{feature} cannot be read: {error}"
            return
        if not len(rows):
            self.faults[feature] = f"{feature} has no frames"
        elif not isinstance(rows, np.ndarray):
            self.faults[feature] = f"{feature} has frames of {min(map(len, rows))} to {max(map(len, rows))} bytes, not of {width}"
        elif rows.shape[1] != width:
            self.faults[feature] = f"{feature} has frames of {rows.shape[1]} bytes, not of {width}"
        else:
            self.frames[feature] = rows
            if len(rows) > MOST_FRAMES:
                self.notes.append(f"{feature} has {len(rows):,} frames, more than {MOST_FRAMES}; all are kept")

    def _mean(self, feature: str) -> None:
        mean = _floats(self.parts.context.feature[MEANS[feature]])
        if len(mean) == WIDTHS[feature]:
            self.means[feature] = mean
        else:
            self.faults[feature] = f"{MEANS[feature]} has {len(mean):,} numbers, not {WIDTHS[feature]}"


def _id(features: Mapping[str, Feature]) -> str:
    for key in ("id", "video_id"):
        values = features[key].bytes_list.value if key in features else []
        if len(values) == 1 and values[0]:
            try:
                return str(values[0], "utf-8")
            except UnicodeDecodeError as error:
                raise Malformed(f"its {key} is no UTF-8") from error
    raise Malformed("it has neither id nor video_id")


def _floats(feature: Feature) -> np.ndarray:
    """float32 [N]. Packed floats are the end of the message, as they lie in memory; a Python number for each would take ten times as long."""
    numbers = feature.float_list
    numbers.DiscardUnknownFields()  # which would stand behind them
    count = len(numbers.value)
    return np.frombuffer(numbers.SerializeToString()[-4 * count :] if count else b"", "<f4")


def _integers(features: Mapping[str, Feature], key: str) -> tuple[int, ...]:
    return tuple(features[key].int64_list.value) if key in features else ()


def _segments(features: Mapping[str, Feature]) -> tuple[Segment, ...]:
    if not any(key.startswith("segment_") for key in features):
        return ()
    starts, ends, labels = (_integers(features, f"segment_{part}") for part in ("start_times", "end_times", "labels"))
    scores = tuple(features["segment_scores"].float_list.value) if "segment_scores" in features else ()
    if not len(starts) == len(ends) == len(labels) == len(scores):
        raise Malformed(f"its segments have {len(starts)} starts, {len(ends)} ends, {len(labels)} labels and {len(scores)} scores")
    return tuple(Segment(*rated) for rated in zip(starts, ends, labels, scores, strict=True))
