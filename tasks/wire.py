"""What a decoder process and its owner say to each other: JSON and raw pixels, so the owner unpickles nothing that hostile bytes may have shaped.

    owner    -- Job -->                                 decoder process
             <-- ReadRequest --     -- the bytes -->    any number of times
             <-- Samples, or Failed --

Knows the messages, and nothing of processes or codecs.
"""

import json
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from infra.settings import LimitsConfig
from models.spec import Geometry
from tasks.clip import ClipInfo, FailureKind, Window

LONGEST_HEADER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked of one file."""

    size_bytes: int
    limits: LimitsConfig
    window: Window | None = None  # None: the whole file
    fps: float | None = None  # None: only what the video is, no samples
    geometries: tuple[Geometry, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """A part of the file is wanted."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The file gives nothing."""

    kind: FailureKind
    message: str


@dataclass(frozen=True, slots=True)
class Samples:
    """A clip as the models see it."""

    info: ClipInfo
    time_s: np.ndarray  # float32 [T], from the clip's first frame, by PTS
    squares: tuple[np.ndarray, ...]  # per geometry, uint8 [T, S, S, 3]


def send_job(connection: Connection, job: Job) -> None:
    """Owner: ask."""
    limits = job.limits.model_dump(mode="json")
    _send(connection, "job", **(asdict(job) | {"limits": limits}))


def receive_job(connection: Connection) -> Job:
    """Decoder process: wait to be asked. Raises EOFError when the owner is gone."""
    fields = _receive(connection)[1]
    window = fields["window"] and Window(**fields["window"])
    geometries = tuple(Geometry(**geometry) for geometry in fields["geometries"])
    return Job(fields["size_bytes"], LimitsConfig(**fields["limits"]), window, fields["fps"], geometries)


def request_bytes(connection: Connection, offset: int, size: int) -> bytes:
    """Decoder process: read a part of the file; fewer bytes at its end."""
    _send(connection, "read", offset=offset, size=size)
    return connection.recv_bytes()


def send_answer(connection: Connection, answer: Samples | Failed) -> None:
    """Decoder process: the end of a job."""
    if isinstance(answer, Failed):
        _send(connection, "failed", **asdict(answer))
        return
    _send(connection, "samples", info=asdict(answer.info), shapes=[square.shape for square in answer.squares])
    for array in (answer.time_s, *answer.squares):
        connection.send_bytes(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def receive(connection: Connection) -> ReadRequest | Failed | Samples:
    """Owner: what the process wants or found.

    Raises:
        EOFError, OSError: the process is gone.
        ValueError, KeyError, TypeError: it does not keep to the protocol.
    """
    message, fields = _receive(connection)
    if message == "read":
        return ReadRequest(**fields)
    if message == "failed":
        return Failed(FailureKind(fields["kind"]), fields["message"])
    shapes = fields["shapes"]
    time_s = np.frombuffer(connection.recv_bytes(), np.float32)
    squares = tuple(np.frombuffer(connection.recv_bytes(), np.uint8).reshape(shape) for shape in shapes)
    return Samples(ClipInfo(**fields["info"]), time_s, squares)


def _send(connection: Connection, message: str, /, **fields: Any) -> None:
    connection.send_bytes(json.dumps([message, fields]).encode())


def _receive(connection: Connection) -> tuple[str, dict[str, Any]]:
    message, fields = json.loads(connection.recv_bytes(LONGEST_HEADER_BYTES))
    return message, fields
