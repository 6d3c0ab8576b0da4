"""The encoder process: `python -m tasks.encoder FD OWNER`. Encodes for its owner, holds no credentials, opens no file.

    job -> picture, picture, ... -> bytes of the mp4, each with its place

It reads the source's sound itself, which nobody vouches for, so it is confined like the decoder.
"""

import os
from typing import BinaryIO, cast

from models.picture import Picture
from tasks.confined import Owner, Source, run
from tasks.encode import Mp4Writer
from tasks.sound import Sound
from tasks.wire import EncodeJob, Ended, Ready, Written, receive_next, request_written, send_answer, send_write


class _Target:
    """The owner's output, written through the connection."""

    def __init__(self, owner: Owner[EncodeJob]) -> None:
        self._owner = owner
        self._position = self._size = 0

    def write(self, data: bytes) -> int:
        send_write(self._owner.connection, self._position, data)
        self._owner.alarm()
        self._position += len(data)
        self._size = max(self._size, self._position)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def tell(self) -> int:
        return self._position


class _Written:
    """What was written so far, read back through the connection."""

    def __init__(self, owner: Owner[EncodeJob]) -> None:
        self._owner = owner
        self._position = 0

    def read(self, size: int) -> bytes:
        with self._owner.patience():
            data = request_written(self._owner.connection, self._position, size)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset if whence == 0 else self._position + offset
        return self._position

    def tell(self) -> int:
        return self._position


def encode(owner: Owner[EncodeJob]) -> Written:
    """Do a job."""
    job, base = owner.job, owner.job.track.time_base
    start, end = job.track.first_pts * base, None if job.track.end_pts is None else job.track.end_pts * base
    sound = Sound(cast(BinaryIO, Source(owner)), job.limits, start=start, end=end)
    target = cast(BinaryIO, _Target(owner))
    writer = Mp4Writer(target, lambda: cast(BinaryIO, _Written(owner)), job.track, job.form, job.encoding, sound)
    while not isinstance(said := _next(owner), Ended):
        writer.add(said)
    writer.finish(said.end_pts)
    return Written(writer.encoder.name, bool(sound))


def _next(owner: Owner[EncodeJob]) -> Picture | Ended:
    send_answer(owner.connection, Ready())
    with owner.patience():
        said = receive_next(owner.connection, owner.job.form)
    if said is None:
        raise ValueError("the owner asked for a picture")
    return said


if __name__ == "__main__":
    os.environ["SVT_LOG"] = "0"  # SVT-AV1 reads this and no option; its words would go to the owner's screen
    run(encode, doing="encoding")
