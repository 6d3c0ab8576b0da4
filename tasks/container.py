"""A video file nobody vouches for, opened so that it can only be read: one stream, its packets, its decoder.

    bytes --av.open--> container --demux--> packets --decode--> pictures
            only the formats and protocols named here       every error a `ClipError`

Knows PyAV and nothing of sampling, Ray, S3 or models.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, BinaryIO, Literal

import av
import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from infra.settings import LimitsConfig
from tasks.clip import ClipError, FailureKind, out_of_memory, too_large
from tasks.random_access import is_random_access

if TYPE_CHECKING:
    VideoPacket = Packet[VideoStream]  # generic in PyAV's stubs only
    AudioPacket = Packet[AudioStream]
else:
    VideoPacket = AudioPacket = Packet

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,ogg,flv,asf"
BUFFER_BYTES = 1 << 16  # 4 KiB to 1 MiB cost the same on memory files; more would read past the last sample
MAX_STREAMS = 64  # a camera's file has a handful
MAX_INDEX = 10_000_000  # frames that an index may name: a day at 115 a second
DECODER_HEADROOM = 4  # the decoder may allocate this many times max_pixels, so that a frame just over it is named, not lost

MEDIA_ERRORS = (av.error.FFmpegError, ValueError, ArithmeticError, LookupError, RuntimeError, AssertionError, OSError, MemoryError, EOFError)

av.logging.set_level(None)
av.logging.set_libav_level(av.logging.PANIC)


class Reader:
    """The file as libav sees it: without a name, never closed; libav may swallow a failed read, so the failure is kept."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.failure: ClipError | None = None

    def read(self, size: int) -> bytes:
        with self._kept():
            return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        with self._kept():
            return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return self._file.seekable()

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except ClipError as failure:
            self.failure = failure
            raise
        except Exception as error:
            self.failure = ClipError(FailureKind.STORAGE, f"reading failed: {error}")
            raise


def open_container(reader: Reader, limits: LimitsConfig) -> InputContainer:
    """Let libav look into a file, with nothing but the file."""
    return av.open(
        reader,
        "r",
        options={"format_whitelist": FORMATS, "protocol_whitelist": "pipe", "max_streams": str(MAX_STREAMS)}
        | {"max_pixels": str(limits.max_pixels * DECODER_HEADROOM)},
        metadata_errors="replace",
        buffer_size=BUFFER_BYTES,
    )


class Video:
    """One video stream of an open file. Close it, or use `open_video`."""

    def __init__(self, file: BinaryIO, limits: LimitsConfig) -> None:
        self.limits = limits
        self._file = file
        self._bytes_read = 0  # of the video stream's packets, since the last seek
        self.at_end = False  # whether the last packet was read
        self.damage: ClipError | None = None  # what the last packet that gave no picture was refused for
        self._reader = Reader(file)
        with self._translated():
            self.rewind()

    def rewind(self) -> None:
        """Begin again at the first packet; opening anew is the one way every container has."""
        self.close()
        self._reader.seek(0)
        self._container = open_container(self._reader, self.limits)
        self.stream = self._choose()
        if (named := len(self.stream.index_entries)) > MAX_INDEX:
            raise ClipError(FailureKind.TOO_LARGE, f"its index names {named:,} frames, over {MAX_INDEX:,}; cut the video into parts")
        self.decoder = self.stream.codec_context
        self.check_size(self.decoder.width, self.decoder.height)
        self.decoder.options = {"max_pixels": str(self.limits.max_pixels * DECODER_HEADROOM)}
        self.decoder.thread_count = 1
        self.decoder.thread_type = "NONE"

        self._from_here()

    def _from_here(self) -> None:
        self._bytes_read = 0
        self.at_end = False

    def close(self) -> None:
        """Free the container; the file stays open."""
        container = getattr(self, "_container", None)
        if container is not None:
            container.close()

    @property
    def time_base(self) -> Fraction:
        """Seconds per unit of every pts."""
        return self.stream.time_base or Fraction(1, av.time_base)

    @property
    def format(self) -> str:
        """libav's name of the container, such as `matroska,webm`."""
        return self._container.format.name

    @property
    def codec(self) -> str:
        """libav's name of the video's codec."""
        return self.decoder.codec.canonical_name

    @property
    def frame_units(self) -> int:
        """Units of pts from frame to frame, on average; 25 a second where nothing is known."""
        return max(int(1 / (self.stream.average_rate or self.stream.guessed_rate or Fraction(25)) / self.time_base), 1)

    @property
    def times_are_decode_order(self) -> bool:
        """Whether pts are right as a set but not for each frame: AVI numbers packets, and libav reorders them for MPEG-4's B frames only."""
        return self.format == "avi" and self.codec in ("h264", "hevc")

    @property
    def has_audio(self) -> bool:
        """Whether the file has a sound track."""
        return len(self._container.streams.audio) > 0

    @property
    def seekable(self) -> bool:
        """AVI and raw MPEG streams carry no presentation times; those libav guesses hold only when read from the start."""
        return self._reader.seekable() and self.format not in ("avi", "mpegvideo")

    @property
    def size(self) -> int:
        """Bytes of the whole file; libav must find its place again."""
        place = self._reader.tell()
        size = self._reader.seek(0, 2)
        self._reader.seek(place)
        return size

    def packets(self) -> Iterator[VideoPacket]:
        """Packets from where the file stands to its end, in decode order.

        Raises:
            ClipError: TRUNCATED where reading fails on the way, CORRUPT before the first packet, TOO_LARGE, STORAGE.
        """
        read = 0
        try:
            for packet in self._container.demux(self.stream):
                if packet.size == 0:
                    continue
                read += 1
                self._count(packet.size)
                yield packet
        except MEDIA_ERRORS as error:
            raise self._demux_failure(error, read) from error
        if self._reader.failure:
            raise self._reader.failure
        self.at_end = True

    def _count(self, size: int) -> None:
        self._bytes_read += size
        if self._bytes_read > self.limits.max_bytes:
            raise too_large(f"the clip needs more than {self.limits.max_bytes:,} bytes", "max_bytes", self.limits.max_bytes)

    def _demux_failure(self, error: Exception, read: int) -> ClipError:
        failure = self._failure(error)
        if failure.kind is not FailureKind.CORRUPT or not read:
            return failure
        total = f"{self.stream.frames:,}" if self.stream.frames else "unknown"
        return ClipError(FailureKind.TRUNCATED, f"reading stopped after {read:,} of {total} frames: {_reason(error)}; fetch the file again")

    def seek(self, pts: int, *, any_frame: bool = False) -> None:
        """Go to the keyframe (or with `any_frame` the packet) at or before `pts`, as well as the container can, or to the start."""
        with self._translated():
            try:
                self._container.seek(pts, stream=self.stream, any_frame=any_frame)
            except av.error.FFmpegError:
                self.rewind()
        self._from_here()

    def decode_everything(self, everything: bool) -> None:
        """Whether frames no other frame leans on are decoded from the next packet on."""
        mode: Literal["DEFAULT", "NONREF"] = "DEFAULT" if everything else "NONREF"
        if self.decoder.skip_frame != mode:
            self.decoder.skip_frame = mode

    def decode(self, packet: VideoPacket | None) -> list[VideoFrame]:
        """Pictures that come out when `packet` goes in; None drains the decoder. A damaged packet gives none."""
        try:
            frames = self.decoder.decode(packet)
        except MEDIA_ERRORS as error:
            self._judge(error)
            return []
        for frame in frames:
            self.check_size(frame.width, frame.height)
        return frames

    def _judge(self, error: Exception) -> None:
        """Let a damaged packet pass, raise for what would hit the next one too."""
        self.check_size(self.decoder.width, self.decoder.height)
        if isinstance(error, av.error.ArgumentError) and not self.decoder.width:  # libavcodec's ff_set_dimensions refused the size
            allowed = self.limits.max_pixels
            raise too_large(f"a frame is over {allowed * DECODER_HEADROOM:,} pixels", "max_pixels", allowed) from error
        failure = self._failure(error)
        if failure.kind not in (FailureKind.CORRUPT, FailureKind.UNSUPPORTED):
            raise failure from error
        self.damage = failure

    def undecodable(self, packets: int) -> ClipError:
        """The failure of a video of which no picture came out."""
        damage = self.damage or ClipError(FailureKind.CORRUPT, "no frame can be decoded; fetch the file again")
        return ClipError(damage.kind, f"none of {packets:,} frames could be decoded: {damage.message}")

    def check_size(self, width: int, height: int) -> None:
        """Raise `ClipError` TOO_LARGE for a picture over max_pixels."""
        if width * height > self.limits.max_pixels:
            raise too_large(f"{width}x{height} is {width * height:,} pixels", "max_pixels", self.limits.max_pixels)

    def is_random_access(self, packet: VideoPacket) -> bool:
        """Whether decoding may start at `packet` and give the same pictures, from its own pts on, as decoding from the file's start."""
        return packet.is_keyframe and is_random_access(
            memoryview(packet), self.codec, self.decoder.extradata, open_groups=not self.times_are_decode_order
        )

    def _choose(self) -> VideoStream:
        """The first real video stream; all others are told to be quiet."""
        pictures = Disposition.attached_pic | Disposition.timed_thumbnails
        streams = [stream for stream in self._container.streams.video if not stream.disposition & pictures]
        if not streams:
            raise ClipError(FailureKind.NO_VIDEO, "the file has no video stream; remove it from the corpus")
        if streams[0].codec_context is None:
            raise ClipError(FailureKind.UNSUPPORTED, "no decoder for the video's codec; convert it, for example to H.264")
        for stream in self._container.streams:
            if stream.index != streams[0].index:
                stream.discard = Discard.all
        return streams[0]

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except MEDIA_ERRORS as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> ClipError:
        """The same error as data; what the file said first goes before what libav made of it."""
        if self._reader.failure:
            return self._reader.failure
        if isinstance(error, MemoryError):
            return out_of_memory(self.limits.max_memory_bytes)
        if isinstance(error, av.error.DecoderNotFoundError | av.error.PatchWelcomeError):
            return ClipError(FailureKind.UNSUPPORTED, f"the codec cannot be decoded ({_reason(error)}); convert it, for example to H.264")
        return ClipError(FailureKind.CORRUPT, f"not a readable video ({_reason(error)}); fetch the file again")


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


@contextmanager
def open_video(file: BinaryIO, *, limits: LimitsConfig) -> Iterator[Video]:
    """Open a seekable file of encoded video; the file itself is not closed.

    Raises:
        ClipError: EMPTY, CORRUPT, NO_VIDEO, UNSUPPORTED, TOO_LARGE or STORAGE.
    """
    if not _first_byte(file):
        raise ClipError(FailureKind.EMPTY, "the file is empty; fetch it again")
    video = Video(file, limits)
    try:
        yield video
    finally:
        video.close()


def _first_byte(file: BinaryIO) -> bytes:
    try:
        file.seek(0)
        return file.read(1)
    except OSError as error:
        raise ClipError(FailureKind.STORAGE, f"reading failed: {error}") from error
