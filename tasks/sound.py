"""The sound tracks of a clip, cut to it and ready for an mp4: copied where an mp4 can hold them, else as AAC.

    source      |--a--|--b--|--c--|--d--|--e--|
    clip              [               )            what is copied begins a little early, so that decoders are warm; an edit list hides it

Every time here counts from the clip's first picture, in seconds. Knows PyAV's audio and nothing of pictures or processes.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from typing import BinaryIO, Protocol, cast

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.codec import CodecContext
from av.container import OutputContainer
from av.error import FFmpegError
from av.stream import Discard

from infra.settings import LimitsConfig
from tasks.clip import ClipError, FailureKind
from tasks.container import MEDIA_ERRORS, AudioPacket, Reader, open_container
from tasks.sampling import exact

COPIED = frozenset({"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"})  # what players expect in an mp4 (mp4ra.org); others become AAC
WARM_UP = Fraction(3, 10)  # seconds: MP3's reservoir reaches back 9 frames, Opus wants 80 ms
_SEEK_EARLY = 1  # second more than the warm-up
_LOOK_AT = 4096  # packets at most until every track has shown when it begins
_AAC_RATES = frozenset({96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000})
_AAC_BITS_PER_S = 96_000  # per channel
_JITTER = Fraction(1, 50)  # seconds; containers round times to milliseconds


class SoundTrack(Protocol):
    """One track on its way into an mp4."""

    def take(self, packet: AudioPacket) -> Iterator[AudioPacket]:
        """What becomes of a packet."""

    def finish(self) -> Iterator[AudioPacket]:
        """What was held back."""


class Sound:
    """All sound tracks of a clip, read as far as the pictures are."""

    def __init__(self, file: BinaryIO, limits: LimitsConfig, *, start: Fraction, end: Fraction | None) -> None:
        """Find out which tracks sound in the clip.

        Args:
            start: of the clip's first picture, seconds on the file's own time line.
            end: of the clip, likewise; None takes all there is, also what sounds before the first picture.
        """
        self._reader = Reader(file)
        self._start, self._limits = start, limits
        self._end = None if end is None else end - start
        self._ahead: deque[AudioPacket] = deque()
        self._tracks: dict[int, SoundTrack] = {}
        self._open()
        self._source = self._packets()
        begins = self._look()
        self._sounding = [stream for stream in self._container.streams.audio if stream.index in begins]
        self.lead = max(-min(begins.values(), default=Fraction(0)), Fraction(0)) if end is None else Fraction(0)  # of sound before pictures

    def __bool__(self) -> bool:
        return bool(self._sounding)

    def add_to(self, container: OutputContainer) -> None:
        """Make a track for each that sounds."""
        for stream in self._sounding:
            kind = _Copied if stream.codec_context.codec.canonical_name in COPIED else _Encoded
            self._tracks[stream.index] = kind(stream, container, start=self._start - self.lead, end=self._end)

    def until(self, time: Fraction) -> Iterator[AudioPacket]:
        """Packets of the output up to a time on the output's own time line."""
        while self._tracks and (packet := self._peek()) is not None and self._time(packet) + self.lead < time:
            self._ahead.popleft()
            if track := self._tracks.get(packet.stream.index):
                yield from track.take(packet)

    def rest(self) -> Iterator[AudioPacket]:
        """All that is left."""
        yield from self.until(exact(self._limits.max_duration_s))
        for track in self._tracks.values():
            yield from track.finish()

    def _peek(self) -> AudioPacket | None:
        if not self._ahead and (packet := next(self._source, None)) is not None:
            self._ahead.append(packet)
        return self._ahead[0] if self._ahead else None

    def _open(self) -> None:
        """The container, standing a little before the clip."""
        self._rewind()
        early = self._start - WARM_UP - _SEEK_EARLY
        if self._end is None or early <= 0 or self._container.format.name in ("avi", "mpegvideo"):
            return
        try:
            self._container.seek(int(early * av.time_base))
        except FFmpegError:
            self._rewind()
            return
        packet = next(self._packets(), None)
        if packet is None or self._time(packet) > -WARM_UP:
            self._rewind()
        else:
            self._ahead.append(packet)

    def _rewind(self) -> None:
        self._reader.seek(0)
        self._container = open_container(self._reader, self._limits)
        for stream in self._container.streams:
            if stream.type != "audio":
                stream.discard = Discard.all

    def _packets(self) -> Iterator[AudioPacket]:
        """Those of the clip, each with a time."""
        last: dict[int, int] = {}
        try:
            for packet in self._demuxed():
                index = packet.stream.index
                if not packet.size:
                    continue
                if packet.pts is None:
                    packet.pts = last.get(index)
                if packet.pts is None:
                    continue
                last[index] = packet.pts + (packet.duration or 0)
                if self._end is None or self._time(packet) < self._end:
                    yield packet
                elif all(last.get(stream.index, 0) * _base(stream) - self._start >= self._end for stream in self._container.streams.audio):
                    return
        except MEDIA_ERRORS as error:
            self._raise_failure()
            raise ClipError(FailureKind.TRUNCATED, "reading its sound stopped on the way; fetch the file again") from error
        self._raise_failure()

    def _demuxed(self) -> Iterator[AudioPacket]:
        streams = self._container.streams.audio
        return cast(Iterator[AudioPacket], self._container.demux(*streams)) if streams else iter(())

    def _raise_failure(self) -> None:
        if self._reader.failure:
            raise self._reader.failure

    def _look(self) -> dict[int, Fraction]:
        """When each track begins, as far as the clip goes."""
        begins: dict[int, Fraction] = {}
        for packet in self._ahead:
            self._begin(begins, packet)
        while len(begins) < len(self._container.streams.audio) and len(self._ahead) < _LOOK_AT and (found := next(self._source, None)) is not None:
            self._ahead.append(found)
            self._begin(begins, found)
        return begins

    def _begin(self, begins: dict[int, Fraction], packet: AudioPacket) -> None:
        begin = self._time(packet) + Fraction(_skipped_samples(packet), packet.stream.codec_context.sample_rate or 1)
        over = self._time(packet) + (packet.duration or 0) * _base(packet.stream)
        if not packet.is_discard and (self._end is None or over > 0):
            begins.setdefault(packet.stream.index, begin)

    def _time(self, packet: AudioPacket) -> Fraction:
        return (packet.pts or 0) * _base(packet.stream) - self._start


def _skipped_samples(packet: AudioPacket) -> int:
    """At the beginning of a packet, which players leave out: what an encoder needed to get going."""
    if not packet.has_sidedata("skip_samples"):
        return 0
    return int.from_bytes(bytes(packet.get_sidedata("skip_samples"))[:4], "little")


def _base(stream: AudioStream) -> Fraction:
    return stream.time_base or Fraction(1, av.time_base)


class _Copied:
    """A track whose packets go into the mp4 as they are."""

    def __init__(self, stream: AudioStream, container: OutputContainer, *, start: Fraction, end: Fraction | None) -> None:
        base = _base(stream)
        self._shift = round(start / base)
        self._end = None if end is None else int(end / base)
        self._first = None if end is None else -int(WARM_UP / base)
        self._target = container.add_stream_from_template(stream)
        _name_language(stream, self._target)
        self._last: int | None = None

    def take(self, packet: AudioPacket) -> Iterator[AudioPacket]:
        pts = (packet.pts or 0) - self._shift
        duration = packet.duration or 0
        if (self._first is not None and pts < self._first) or (self._last is not None and pts <= self._last):
            return
        if self._end is not None:
            if pts >= self._end:
                return
            duration = min(duration, self._end - pts)
        packet.pts = packet.dts = self._last = pts
        packet.duration, packet.stream = duration, self._target
        yield packet

    def finish(self) -> Iterator[AudioPacket]:
        yield from ()


class _Encoded:
    """A track that becomes AAC: samples laid on the clip's time line without holes."""

    def __init__(self, stream: AudioStream, container: OutputContainer, *, start: Fraction, end: Fraction | None) -> None:
        source = stream.codec_context
        if source is None:
            raise ClipError(FailureKind.UNSUPPORTED, "no decoder for its sound; convert it, for example to AAC")
        source.thread_count = 1
        self._decoder, self._start = source, start
        self._rate = source.sample_rate if source.sample_rate in _AAC_RATES else 48_000
        self._layout = _layout(source, self._rate)
        self._channels = AudioLayout(self._layout).nb_channels
        self._target = container.add_stream("aac", rate=self._rate, layout=self._layout, bit_rate=_AAC_BITS_PER_S * self._channels)
        _name_language(stream, self._target)
        self._end = None if end is None else int(end * self._rate)
        self._next: int | None = None  # sample that follows those encoded
        self._resampler = AudioResampler(format="fltp", layout=self._layout, rate=self._rate)
        self._has_sounded = False

    def take(self, packet: AudioPacket) -> Iterator[AudioPacket]:
        try:
            frames = self._decoder.decode(packet)
        except FFmpegError:  # one packet that is damaged is a moment of silence, as in any player
            return
        for frame in frames:
            yield from self._resampled(frame)

    def finish(self) -> Iterator[AudioPacket]:
        with suppress(FFmpegError):
            for frame in self._decoder.decode(None):
                yield from self._resampled(frame)
        yield from self._resampled(None)
        if not self._has_sounded:
            codec = self._decoder.codec.canonical_name
            raise ClipError(FailureKind.CORRUPT, f"its sound, {codec}, cannot be decoded; fetch the file again")
        yield from self._target.encode(None)

    def _resampled(self, frame: AudioFrame | None) -> Iterator[AudioPacket]:
        for part in self._resampler.resample(frame):
            self._has_sounded = True
            yield from self._laid(part.to_ndarray(), self._place(part))

    def _place(self, frame: AudioFrame) -> int:
        """The sample at which a frame begins: where the last one ended, unless its time says something else than jitter."""
        if frame.pts is None or frame.time_base is None:
            return self._next or 0
        at = round((frame.pts * frame.time_base - self._start) * self._rate)
        return at if self._next is None or abs(at - self._next) > _JITTER * self._rate else self._next

    def _laid(self, values: np.ndarray, at: int) -> Iterator[AudioPacket]:
        """Encode what lies in the clip and was not there before, with silence where nothing was."""
        begin = self._next if self._next is not None else at if self._end is None else max(at, 0)
        values = values[:, max(begin - at, 0) : None if self._end is None else max(self._end - at, 0)]
        at = max(at, begin)
        while values.shape[1] and (hole := at - begin) > 0:
            silence = min(hole, self._rate)
            yield from self._encoded(np.zeros((self._channels, silence), np.float32), begin)
            begin += silence
        if values.shape[1]:
            yield from self._encoded(values, at)

    def _encoded(self, values: np.ndarray, at: int) -> Iterator[AudioPacket]:
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(values, np.float32), format="fltp", layout=self._layout)
        frame.sample_rate, frame.pts, frame.time_base = self._rate, at, Fraction(1, self._rate)
        self._next = at + values.shape[1]
        yield from self._target.encode(frame)


def _layout(source: AudioCodecContext, rate: int) -> str:
    """The source's arrangement of channels where AAC knows it, else mono or stereo."""
    trial = CodecContext.create("aac", "w")
    trial.sample_rate, trial.layout, trial.format = rate, source.layout.name, "fltp"
    try:
        trial.open()
    except (FFmpegError, ValueError):
        return "mono" if source.channels == 1 else "stereo"
    return source.layout.name


def _name_language(source: AudioStream, target: AudioStream) -> None:
    if source.language:
        target.metadata["language"] = source.language
