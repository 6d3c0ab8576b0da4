"""A clip restored: its pictures through a network, its sound as it was, into an mp4.

    decoder process --thread--> source pictures --> restoration --> restored pictures --thread--> encoder process --> sink
                     a few ahead                                                      a few behind

Decoding, network and encoding overlap; what waits between them is bounded in bytes, so memory does not grow with the clip. Hostile
bytes are only touched in the two processes (`tasks.child`). Knows nothing of networks, Ray or where files go.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO, Generic, Protocol, TypeVar

from infra.settings import LimitsConfig
from models.picture import Picture, PictureFormat
from tasks.child import Child, Employer, SharedFile, persistently
from tasks.clip import ClipError, FailureKind, Window
from tasks.encoding import Codec, Encoding
from tasks.track import Track, picture_bytes
from tasks.wire import EncodeJob, Ended, Pictured, Ready, StreamJob, Written

__all__ = ["Encoding", "Enhanced", "Enhancer", "Meter", "Restoration"]

QUEUE_BYTES = 64 << 20  # of pictures that wait on either side of the network
LONGEST_QUEUE = 8  # pictures
PATIENCE_OF_S = 60.0  # of video that limits.clip_timeout_s is for; a long clip may take it for each such part

Quality = TypeVar("Quality")
Measured = TypeVar("Measured", covariant=True)


class Restoration(Protocol):
    """What makes pictures better."""

    @property
    def gpu_s(self) -> float:
        """Seconds that a GPU was at work for it, ever."""

    def output_format(self, form: PictureFormat, /) -> PictureFormat:
        """Of the pictures restored."""

    def restore(self, pictures: Iterable[Picture], form: PictureFormat, /) -> Iterator[tuple[Picture, Picture]]:
        """Every picture and what became of it, in order, as they come."""


class Meter(Protocol[Measured]):
    """What measures the difference."""

    def add(self, source: Picture, restored: Picture, /) -> None:
        """Take note of a picture."""

    def quality(self) -> Measured:
        """Of all pictures noted."""


@dataclass(frozen=True, slots=True)
class Enhanced(Generic[Quality]):
    """What was written."""

    width: int  # pixels as shown, after rotation
    height: int
    fps: float  # average
    frames: int
    duration_s: float
    size_bytes: int
    codec: Codec
    encoder: str  # libav's name of what encoded it
    has_audio: bool
    quality: Quality
    elapsed_s: float
    gpu_s: float
    first_pts: int  # of the pictures
    time_base: Fraction  # seconds that one step of their pts takes


class Enhancer:
    """Restores clips; its processes end with this object."""

    def __init__(self, limits: LimitsConfig) -> None:
        self._limits = limits
        self._decoders, self._encoders = Employer("decoder"), Employer("encoder")

    def enhance(
        self,
        file: BinaryIO,
        *,
        window: Window | None,
        restoration: Restoration,
        encoding: Encoding,
        meter: Callable[[PictureFormat, PictureFormat], Meter[Quality]],
        sink: BinaryIO,
    ) -> Enhanced[Quality]:
        """Restore a clip.

        Args:
            file: seekable; what it raises is raised here, and its time does not count.
            window: as `tasks.decode.open_clip`.
            restoration: what it raises is raised here; gpu_s is what its own `gpu_s` grows by.
            meter: makes what measures the difference between pictures of two formats.
            sink: seekable, open for writing and reading ("w+b"); what is in it after an exception is of no use.

        Raises:
            ClipError: as `tasks.stream.open_stream`; also CRASH, TIMEOUT, and TOO_LARGE for memory.
            Problem: a process does not start.
        """
        shared = SharedFile(file)
        stream = StreamJob(shared.size_bytes, self._limits, window)
        return persistently(lambda: self._attempt(shared, stream, restoration, encoding, meter, sink))

    def _attempt(
        self,
        file: SharedFile,
        job: StreamJob,
        restoration: Restoration,
        encoding: Encoding,
        meter: Callable[[PictureFormat, PictureFormat], Meter[Quality]],
        sink: BinaryIO,
    ) -> Enhanced[Quality]:
        began_s, began_gpu_s = time.monotonic(), restoration.gpu_s
        sink.seek(0)
        sink.truncate()
        with self._decoders.child() as decoder:
            source = _Source(decoder, job, file)
            form = restoration.output_format(source.track.form)
            measured = meter(source.track.form, form)
            with self._encoders.child() as encoder, _threads(decoder, encoder) as (reader, writer):
                target = _Target(encoder, EncodeJob(file.size_bytes, self._limits, source.track, form, encoding), file, sink)
                behind = _Behind(writer, target.add, _longest_queue(form))
                for original, restored in restoration.restore(_ahead(reader, source.next, _longest_queue(source.track.form)), source.track.form):
                    measured.add(original, restored)
                    behind.put(restored)
                behind.wait()
                written = target.finish(source)
        duration_s = source.duration_s
        width, height = (form.height, form.width) if source.track.is_turned else (form.width, form.height)
        return Enhanced(
            width=width,
            height=height,
            fps=source.pictures / duration_s,
            frames=source.pictures,
            duration_s=duration_s,
            size_bytes=sink.seek(0, os.SEEK_END),
            codec=encoding.codec,
            encoder=written.encoder,
            has_audio=written.has_audio,
            quality=measured.quality(),
            elapsed_s=time.monotonic() - began_s,
            gpu_s=restoration.gpu_s - began_gpu_s,
            first_pts=source.track.first_pts,
            time_base=source.track.time_base,
        )


class _Source:
    """The decoder's side: pictures when they are asked for."""

    def __init__(self, decoder: Child, job: StreamJob, file: SharedFile) -> None:
        self._decoder = decoder
        decoder.begin(job, file)
        self.track = decoder.answer(Track)
        if self.track.form.width * self.track.form.height > job.limits.max_pixels:
            raise ClipError(FailureKind.CRASH, "the decoder sends pictures larger than it may; remove the clip, and tell vidmill's developers")
        self.pictures = 0
        self.end_pts = self.track.first_pts
        self._is_over = False
        self._patient_for_s = PATIENCE_OF_S

    @property
    def duration_s(self) -> float:
        """From the first picture until the last one's turn is over; known after the last."""
        return float((self.end_pts - self.track.first_pts) * self.track.time_base)

    def next(self) -> Picture | None:
        """The next picture, None after the last or after a failure."""
        if self._is_over:
            return None
        self._is_over = True
        self._decoder.tell(None)
        said = self._decoder.answer(Pictured, Ended)
        if isinstance(said, Ended):
            self.end_pts = said.end_pts
            return None
        picture = self._decoder.planes(said.pts, self.track.form)
        self._renew_patience(said.pts)
        self.pictures += 1
        self._is_over = False
        return picture

    def _renew_patience(self, pts: int) -> None:
        if (pts - self.track.first_pts) * self.track.time_base >= self._patient_for_s:
            self._patient_for_s += PATIENCE_OF_S
            self._decoder.renew_patience()


class _Target:
    """The encoder's side: takes pictures, its bytes go into the sink."""

    def __init__(self, encoder: Child, job: EncodeJob, file: SharedFile, sink: BinaryIO) -> None:
        self._encoder = encoder
        encoder.begin(job, file, sink)
        encoder.answer(Ready)
        self._pictures = 0
        self._is_over = False

    def add(self, picture: Picture) -> None:
        """Encode a picture; nothing after a failure."""
        if self._is_over:
            return
        self._is_over = True
        self._encoder.renew_patience()
        self._encoder.tell(picture)
        self._encoder.answer(Ready)
        self._pictures += 1
        self._is_over = False

    def finish(self, source: _Source) -> Written:
        """Write what is left."""
        if self._pictures != source.pictures:
            raise ClipError(FailureKind.MODEL, f"the recipe gave {self._pictures:,} pictures for {source.pictures:,}; choose another")
        self._encoder.renew_patience()
        self._encoder.tell(Ended(source.end_pts))
        return self._encoder.answer(Written)


@contextmanager
def _threads(*children: Child) -> Iterator[tuple[ThreadPoolExecutor, ThreadPoolExecutor]]:
    """One for each child; on an error the children are ended first, so that no thread waits for them."""
    with ThreadPoolExecutor(1, "decoding") as reader, ThreadPoolExecutor(1, "encoding") as writer:
        try:
            yield reader, writer
        except BaseException:
            for child in children:
                if not child.is_idle:
                    child.kill()
            raise


def _ahead(thread: ThreadPoolExecutor, take: Callable[[], Picture | None], depth: int) -> Iterator[Picture]:
    """Pictures as they are taken, `depth` of them before they are wanted."""
    coming = deque(thread.submit(take) for _ in range(depth))
    while (picture := coming.popleft().result()) is not None:
        coming.append(thread.submit(take))
        yield picture


class _Behind:
    """Gives pictures to a thread, at most `depth` of them before they are taken."""

    def __init__(self, thread: ThreadPoolExecutor, give: Callable[[Picture], None], depth: int) -> None:
        self._thread, self._give, self._depth = thread, give, depth
        self._going: deque[Future[None]] = deque()

    def put(self, picture: Picture) -> None:
        """Raises what went wrong with an earlier one."""
        if len(self._going) >= self._depth:
            self._going.popleft().result()
        self._going.append(self._thread.submit(self._give, picture))

    def wait(self) -> None:
        """Until all are taken."""
        while self._going:
            self._going.popleft().result()


def _longest_queue(form: PictureFormat) -> int:
    return max(1, min(LONGEST_QUEUE, QUEUE_BYTES // picture_bytes(form)))
