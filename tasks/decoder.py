"""The decoder process: `python -m tasks.decoder FD OWNER`. Decodes for its owner, holds no credentials, opens no file.

job -> bytes on request -> sampled frames, cut to what the models eat
job -> bytes on request -> every picture, each when it is asked for
"""

from collections.abc import Iterable
from typing import BinaryIO, cast

import numpy as np

from models.picture import PictureFormat
from models.prepare import prepare
from models.spec import Geometry
from tasks.clip import Frame
from tasks.confined import Owner, Source, run
from tasks.decode import open_clip, probe
from tasks.stream import open_stream
from tasks.wire import Ended, Job, Samples, StreamJob, receive_next, send_answer, send_picture


def decode(owner: Owner[Job | StreamJob]) -> Samples | Ended:
    """Do a job."""
    job, file = owner.job, cast(BinaryIO, Source(owner))
    return _samples(job, file) if isinstance(job, Job) else _pictures(owner, job, file)


def _pictures(owner: Owner[Job | StreamJob], job: StreamJob, file: BinaryIO) -> Ended:
    """Decode one picture each time the owner asks, so that the owner is watching while this process works."""
    with open_stream(file, window=job.window, limits=job.limits) as stream:
        send_answer(owner.connection, stream.track)
        _await_turn(owner, stream.track.form)
        for picture in stream:
            send_picture(owner.connection, picture)
            _await_turn(owner, stream.track.form)
        return Ended(stream.end_pts)


def _await_turn(owner: Owner[Job | StreamJob], form: PictureFormat) -> None:
    with owner.patience():
        receive_next(owner.connection, form)


def _samples(job: Job, file: BinaryIO) -> Samples:
    if job.fps is None:
        return Samples(probe(file, limits=job.limits), np.empty(0, np.float32), ())
    with open_clip(file, fps=job.fps, window=job.window, limits=job.limits) as clip:
        return Samples(clip.info, *_squares(clip, job.geometries))


def _squares(frames: Iterable[Frame], geometries: tuple[Geometry, ...]) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    times: list[float] = []
    columns: list[list[np.ndarray]] = [[] for _ in geometries]
    for frame in frames if geometries else ():  # a first frame shows that it can be decoded
        times.append(frame.time_s)
        for column, geometry in zip(columns, geometries, strict=True):
            column.append(prepare(frame.rgb, geometry))
    return np.array(times, np.float32), tuple(np.stack(column) for column in columns)


if __name__ == "__main__":
    run(decode, doing="decoding")
