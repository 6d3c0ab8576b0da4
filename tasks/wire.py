"""What a process that handles media and its owner say to each other: JSON and raw bytes, so the owner unpickles nothing hostile bytes may shape.

    owner    -- Job -->                                 decoder
             <-- Samples, or Failed --
    owner    -- StreamJob -->                           decoder
             <-- Track, or Failed --
             -- next -->  <-- Pictured, Ended or Failed --        until the end
    owner    -- EncodeJob -->                           encoder
             <-- Ready --
             -- picture or end -->  <-- Ready, Written or Failed --   until the end
    any time <-- ReadRequest, Reread -- the bytes -->   <-- Write --

Knows the messages, and nothing of processes or codecs.
"""

import json
from dataclasses import asdict, dataclass
from fractions import Fraction
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from infra.settings import LimitsConfig
from models.picture import Picture, PictureFormat
from models.spec import Geometry
from tasks.clip import ClipInfo, FailureKind, Window
from tasks.encoding import Encoding
from tasks.track import Colour, Track

LONGEST_HEADER_BYTES = 1 << 20
LONGEST_WRITE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked of one file."""

    size_bytes: int
    limits: LimitsConfig
    window: Window | None = None  # None: the whole file
    fps: float | None = None  # None: only what the video is, no samples
    geometries: tuple[Geometry, ...] = ()


@dataclass(frozen=True, slots=True)
class StreamJob:
    """Every picture of one file is asked for."""

    size_bytes: int
    limits: LimitsConfig
    window: Window | None


@dataclass(frozen=True, slots=True)
class EncodeJob:
    """Pictures will come, and the sound of the file they came from is asked for."""

    size_bytes: int
    limits: LimitsConfig
    track: Track  # of the source
    form: PictureFormat  # of the pictures
    encoding: Encoding


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


@dataclass(frozen=True, slots=True)
class Pictured:
    """A picture's planes follow."""

    pts: int


@dataclass(frozen=True, slots=True)
class Ended:
    """There are no more pictures."""

    end_pts: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The next picture may come."""


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes of the output."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Reread:
    """A part of the output is wanted back."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Written:
    """The output is whole."""

    encoder: str
    has_audio: bool


Answer = Samples | Failed | Track | Pictured | Ended | Ready | Written
Message = Answer | ReadRequest | Reread | Write


def send_job(connection: Connection, job: Job | StreamJob | EncodeJob) -> None:
    """Owner: ask."""
    fields = asdict(job) | {"limits": job.limits.model_dump(mode="json")}
    _send(connection, type(job).__name__, **fields)


def receive_job(connection: Connection) -> Job | StreamJob | EncodeJob:
    """Process: wait to be asked. Raises EOFError when the owner is gone."""
    kind, fields = _receive(connection)
    size_bytes, limits = fields["size_bytes"], LimitsConfig(**fields["limits"])
    if kind == "EncodeJob":
        return EncodeJob(size_bytes, limits, _track(fields["track"]), PictureFormat(**fields["form"]), Encoding(**fields["encoding"]))
    window = fields["window"] and Window(**fields["window"])
    if kind == "StreamJob":
        return StreamJob(size_bytes, limits, window)
    return Job(size_bytes, limits, window, fields["fps"], tuple(Geometry(**geometry) for geometry in fields["geometries"]))


def request_bytes(connection: Connection, offset: int, size: int) -> bytes:
    """Process: read a part of the file; fewer bytes at its end."""
    _send(connection, "ReadRequest", offset=offset, size=size)
    return connection.recv_bytes()


def request_written(connection: Connection, offset: int, size: int) -> bytes:
    """Process: read a part of what it wrote."""
    _send(connection, "Reread", offset=offset, size=size)
    return connection.recv_bytes()


def send_write(connection: Connection, offset: int, data: bytes) -> None:
    """Process: put bytes into the output."""
    _send(connection, "Write", offset=offset)
    connection.send_bytes(data)


def send_answer(connection: Connection, answer: Answer) -> None:
    """Process: what was asked for."""
    if not isinstance(answer, Samples):
        _send(connection, type(answer).__name__, **asdict(answer))
        return
    _send(connection, "Samples", info=asdict(answer.info), shapes=[square.shape for square in answer.squares])
    for array in (answer.time_s, *answer.squares):
        _send_array(connection, array)


def send_next(connection: Connection, picture: Picture | Ended | None) -> None:
    """Owner: the next picture, that there is none, or (None) that one is wanted."""
    if picture is None or isinstance(picture, Ended):
        _send(connection, "next", end_pts=picture and picture.end_pts)
        return
    send_picture(connection, picture)


def receive_next(connection: Connection, form: PictureFormat) -> Picture | Ended | None:
    """Process: as `send_next`."""
    kind, fields = _receive(connection)
    if kind == "Pictured":
        return receive_picture(connection, fields["pts"], form)
    return None if fields["end_pts"] is None else Ended(fields["end_pts"])


def send_picture(connection: Connection, picture: Picture) -> None:
    """Either side: a picture."""
    _send(connection, "Pictured", pts=picture.pts)
    for plane in picture.planes:
        _send_array(connection, plane)


def receive_picture(connection: Connection, pts: int, form: PictureFormat) -> Picture:
    """Either side: the planes of a picture that was announced."""
    dtype = np.uint16 if form.bits == 10 else np.uint8
    shapes = ((form.height, form.width), form.chroma_shape, form.chroma_shape)
    y, u, v = (_receive_array(connection, np.empty(shape, dtype)) for shape in shapes)
    return Picture((y, u, v), pts)


def receive(connection: Connection) -> Message:
    """Owner: what the process wants or found.

    Raises:
        EOFError, OSError: the process is gone.
        ValueError, KeyError, TypeError: it does not keep to the protocol.
    """
    kind, fields = _receive(connection)
    if kind == "Failed":
        return Failed(FailureKind(fields["kind"]), fields["message"])
    if kind == "Track":
        return _track(fields)
    if kind == "Write":
        return Write(fields["offset"], connection.recv_bytes(LONGEST_WRITE_BYTES))
    if kind == "Samples":
        time_s = np.frombuffer(connection.recv_bytes(), np.float32)
        squares = tuple(np.frombuffer(connection.recv_bytes(), np.uint8).reshape(shape) for shape in fields["shapes"])
        return Samples(ClipInfo(**fields["info"]), time_s, squares)
    return _PLAIN[kind](**fields)


_PLAIN: dict[str, type[ReadRequest | Reread | Pictured | Ended | Ready | Written]] = {
    each.__name__: each for each in (ReadRequest, Reread, Pictured, Ended, Ready, Written)
}


def _track(fields: dict[str, Any]) -> Track:
    matrix, rate, aspect = (fields[name] for name in ("display_matrix", "rate", "pixel_aspect"))
    own = {
        "form": PictureFormat(**fields["form"]),
        "time_base": Fraction(fields["time_base"]),
        "rate": rate and Fraction(rate),
        "colour": Colour(**fields["colour"]),
        "pixel_aspect": aspect and Fraction(aspect),
        "display_matrix": matrix and tuple(matrix),
    }
    return Track(**fields | own)


def _send_array(connection: Connection, array: np.ndarray) -> None:
    connection.send_bytes(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _receive_array(connection: Connection, array: np.ndarray) -> np.ndarray:
    if (size := connection.recv_bytes_into(array.reshape(-1).view(np.uint8).data)) != array.nbytes:
        raise ValueError(f"{size} bytes for a plane of {array.nbytes}")
    return array


def _send(connection: Connection, message: str, /, **fields: Any) -> None:
    connection.send_bytes(json.dumps([message, fields], default=str).encode())


def _receive(connection: Connection) -> tuple[str, dict[str, Any]]:
    message, fields = json.loads(connection.recv_bytes(LONGEST_HEADER_BYTES))
    return message, fields
