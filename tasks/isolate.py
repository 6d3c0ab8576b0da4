"""Sampled frames from a decoder in a process of its own (`tasks.child`): what a clip does to it is one failure, and the next clip gets its frames.

Knows what is asked of the decoder and nothing of codecs.
"""

from collections.abc import Sequence
from typing import BinaryIO

from infra.settings import LimitsConfig
from models.spec import Geometry
from tasks.child import Employer, SharedFile, persistently
from tasks.clip import ClipInfo, Window
from tasks.wire import Job, Samples


class Decoder:
    """Decodes files; its process ends with this object."""

    def __init__(self, limits: LimitsConfig) -> None:
        self._limits = limits
        self._employer = Employer("decoder")

    def decode(self, file: BinaryIO, *, fps: float, window: Window | None, geometries: Sequence[Geometry]) -> Samples:
        """Sampled frames of a clip, cut to what the models eat.

        Args:
            file: seekable; what it raises is raised here, and its time does not count.
            fps: as `tasks.decode.open_clip`, like `window`.
            geometries: of the squares wanted.

        Raises:
            ClipError: as `tasks.decode.open_clip`; also CRASH, TIMEOUT, and TOO_LARGE for memory.
            Problem: the process does not start.
        """
        return self._asked(file, window, fps, tuple(geometries))

    def probe(self, file: BinaryIO) -> ClipInfo:
        """What a whole video is; raises as `decode`."""
        return self._asked(file).info

    def _asked(self, file: BinaryIO, window: Window | None = None, fps: float | None = None, geometries: tuple[Geometry, ...] = ()) -> Samples:
        shared = SharedFile(file)
        job = Job(shared.size_bytes, self._limits, window, fps, geometries)
        return persistently(lambda: self._attempt(job, shared))

    def _attempt(self, job: Job, file: SharedFile) -> Samples:
        with self._employer.child() as child:
            child.begin(job, file)
            return child.answer(Samples)
