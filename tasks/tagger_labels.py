"""What clips are labelled with, for taggers: rows of `clips` in, keys and names of labels, sides of the split, rated segments out.

    YouTube-8M    label_ids [3, 7], labels ["Guitar", None]   ->   3 "Guitar", 7 "7"
    Kinetics      label "abseiling"                           ->   "abseiling"

A label without a name is called by its id; names that several ids share are told apart by them. A clip without any label is neither learned from nor
judged by. Knows the columns, nothing of files.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

Key = int | str

COLUMNS = ("clip_id", "video_id", "split", "label", "label_ids", "labels", "segments")


@dataclass(frozen=True, slots=True)
class RatedSegment:
    """What people said of a label in some seconds."""

    start_s: int
    end_s: int
    key: Key
    right: bool


@dataclass(frozen=True, slots=True)
class Labelled:
    """A clip and its labels."""

    clip_id: str
    video_id: str
    split: str | None
    names: Mapping[Key, str]
    segments: tuple[RatedSegment, ...]


@dataclass(frozen=True, slots=True)
class Label:
    """A label that a tagger learns."""

    key: Key
    name: str
    count: int  # clips that have it, of those that are learned from


@dataclass(frozen=True, slots=True)
class Sides:
    """Which clips judge: those of a split, or those whose video's digest lies in the first `share` of all digests."""

    share: float
    split: str | None = None

    def is_held_out(self, clip: Labelled) -> bool:
        """Whether a clip judges; all clips of a video do or none."""
        if self.split is not None:
            return clip.split == self.split
        digest = hashlib.sha256(clip.video_id.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:6]) / 2**48 < self.share


def labelled(clips: pa.Table) -> Iterator[Labelled]:
    """The clips that have a label, in the order of the rows."""
    for row in clips.select([name for name in COLUMNS if name in clips.column_names]).to_pylist():
        if names := _names(row):
            yield Labelled(row["clip_id"], row["video_id"], row.get("split"), names, tuple(_segments(row)))


def most_frequent(counts: Counter[tuple[Key, str]], most: int) -> tuple[Label, ...]:
    """The labels to be learned, the most frequent first; of equally frequent ones by name."""
    chosen = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0][1], str(entry[0][0])))[:most]
    shared = Counter(name for (_, name), _ in chosen)
    return tuple(Label(key, f"{name} ({key})" if shared[name] > 1 else name, count) for (key, name), count in chosen)


def _names(row: Mapping[str, Any]) -> dict[Key, str]:
    ids: Sequence[int] = row.get("label_ids") or ()
    if ids:
        names = row.get("labels") or [None] * len(ids)
        return {label: name or str(label) for label, name in zip(ids, names, strict=True)}
    return {row["label"]: row["label"]} if row.get("label") else {}


def _segments(row: Mapping[str, Any]) -> Iterator[RatedSegment]:
    for rated in row.get("segments") or ():
        yield RatedSegment(rated["start_s"], rated["end_s"], rated["label_id"], rated["score"] > 0.5)
