"""The data model: what travels from a source to a Parquet row.

    corpus > shard > video > clip > frame

Knows nothing of Ray, storage or models.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np


class FailureKind(StrEnum):
    """Why a clip or member gave no row; the set is closed."""

    CORRUPT = "CORRUPT"
    NO_VIDEO = "NO_VIDEO"
    EMPTY = "EMPTY"
    TRUNCATED = "TRUNCATED"
    UNSUPPORTED = "UNSUPPORTED"
    TOO_LARGE = "TOO_LARGE"
    BAD_NAME = "BAD_NAME"
    BAD_RECORD = "BAD_RECORD"
    CRASH = "CRASH"
    TIMEOUT = "TIMEOUT"
    OOM = "OOM"
    STORAGE = "STORAGE"
    MISSING = "MISSING"
    MODEL = "MODEL"


class ClipError(Exception):
    """A clip or member that gives no row: the kind for the machine, the message for a person."""

    def __init__(self, kind: FailureKind, message: str, attempts: int = 1) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.attempts = attempts

    def __reduce__(self) -> "tuple[type[ClipError], tuple[FailureKind, str, int]]":
        """Pickle by what it was made from: errors cross processes."""
        return type(self), (self.kind, self.message, self.attempts)


def too_large(what: str, limit: str, allowed: float) -> ClipError:
    """The TOO_LARGE failure: value, limit and the flag that raises it."""
    return ClipError(FailureKind.TOO_LARGE, f"{what}; limits.{limit} is {allowed:,} (raise it with --limits.{limit.replace('_', '-')})")


def out_of_memory(max_memory_bytes: int, doing: str = "decoding") -> ClipError:
    """The TOO_LARGE failure of a video that asked for memory in vain."""
    return too_large(f"{doing} needs more memory", "max_memory_bytes", max_memory_bytes)


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a video, on the video's own time line; the end is exclusive."""

    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class ClipInfo:
    """What the container and the packets say of a clip; measured, not taken from a header that may lie."""

    duration_s: float
    fps: float | None  # average, None where the container does not tell
    width: int  # pixels as shown, after rotation
    height: int
    codec: str
    frames: int | None  # source frames of the clip; None where counting would read past the last sample
    has_audio: bool


@dataclass(frozen=True, slots=True)
class Frame:
    """One sampled frame."""

    rgb: np.ndarray  # uint8 [H, W, 3], upright
    time_s: float  # from the clip's first frame, by PTS
