"""What the read stage hands on: encoded clips in parcels small enough to keep every core busy.

Knows the data model only.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from tasks.clip import ClipError, FailureKind, Window
from tasks.feature import Feature


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a clip or member gave no row; `stage` is read, decode or the name of a model or recipe."""

    clip_id: str | None
    member: str
    stage: str
    kind: FailureKind
    message: str
    source_etag: str
    attempts: int = 1
    failed_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __str__(self) -> str:
        return f"{self.member}: {self.stage} {self.kind}: {self.message}"


@dataclass(frozen=True, slots=True)
class EncodedClip:
    """One clip before decoding: its bytes, or where to seek for them."""

    key: str  # clip_id, or the member where none could be formed
    video_id: str
    uri: str  # <source uri>, or <archive uri>!<member>
    source_etag: str
    size_bytes: int  # of the member or video
    start_s: float  # on the video's own time line
    end_s: float | None  # None: the clip ends where the video does
    window: Window | None = None  # the part of the video to decode; None: all of it
    data: bytes | None = None  # None: read from `uri`
    label: str | None = None
    failure: Failure | None = None  # known bad before decoding


@dataclass(frozen=True, slots=True)
class Parcel:
    """Some clips of one shard, sized to travel; the last parcel of a shard says how many clips it had."""

    shard: str
    features: tuple[Feature, ...]  # what the shard lacks
    clips: tuple[EncodedClip, ...] = ()
    end: "ShardEnd | None" = None


@dataclass(frozen=True, slots=True)
class ShardEnd:
    """A shard was read to its end, or could not be."""

    sent: int  # clips sent on to be computed
    known: int  # clips that earlier runs had finished
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a parcel."""

    shard: str
    clips: int
    failures: tuple[Failure, ...]
    end: ShardEnd | None
    problem: str | None  # the store is in trouble: the shard cannot become whole in this run
    fatal: str | None = None  # no clip can succeed: a model cannot be built
    noted: int = 0  # of the clips, those that are unusual and were taken as they are


def failed_clip(error: ClipError, *, uri: str, etag: str, size_bytes: int, clip_id: str | None = None) -> EncodedClip:
    """A member that cannot become a clip."""
    failure = Failure(clip_id, uri, "read", error.kind, error.message, etag, error.attempts)
    return EncodedClip(clip_id or uri, "", uri, etag, size_bytes, 0.0, None, failure=failure)
