"""Pictures and the sound of their source into an mp4.

    picture, picture, ... --encoder--> packets --+
    source's sound, copied or AAC ---------------+--> mp4, its index in front

What the source's picture track was the output's is: times, the last picture's duration, turn, pixel shape, colours. Knows PyAV and
nothing of processes; the file it writes is one it can also read, for the index to move to the front.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import BinaryIO

import av
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from models.picture import Picture, PictureFormat
from tasks.clip import ClipError, FailureKind
from tasks.container import AudioPacket, VideoPacket
from tasks.encoder_choice import encoder_for
from tasks.encoding import Encoding
from tasks.planes import frame_of
from tasks.sound import Sound
from tasks.track import Track

WRITE_BYTES = 1 << 20
_COARSEST = 10_000  # units a second at least, as libav's own mp4s have; a multiple of the source's, so that every time is exact
_FINEST = (1 << 31) - 1


class Mp4Writer:
    """One mp4 in the making."""

    def __init__(self, target: BinaryIO, reopen: Callable[[], BinaryIO], track: Track, form: PictureFormat, encoding: Encoding, sound: Sound) -> None:
        """Begin.

        Args:
            target: seekable.
            reopen: what was written to target so far, for reading.
            track: of the source.
            form: of the pictures to come.
        """
        self._track, self._form, self._sound = track, form, sound
        self._colour = track.colour.kept(height=track.form.height, output_height=form.height)
        self.encoder = encoder_for(encoding, form)
        options = {"movflags": "+faststart", "movie_timescale": str(_scale(track.time_base))}
        self._container = av.open(target, "w", format="mp4", options=options, buffer_size=WRITE_BYTES, io_open=lambda *_: reopen())
        self._stream = self._video()
        sound.add_to(self._container)
        self._lead = round(sound.lead / track.time_base)
        self._converter = VideoReformatter()
        self._times: list[int] = []  # of pictures whose packets are not written yet, ascending
        self._packets: deque[VideoPacket] = deque()  # that wait for the next picture's time
        self._first_dts: int | None = None
        self.pictures = 0

    def add(self, picture: Picture) -> None:
        """Encode a picture.

        Raises:
            ClipError: UNSUPPORTED where the encoder does not take such pictures; what `Sound` raises.
        """
        self.pictures += 1
        placed = replace(picture, pts=picture.pts - self._track.first_pts + self._lead)
        self._times.append(placed.pts)
        frame = frame_of(placed, self._form, self._colour, self.encoder.pixel_format, self._converter)
        frame.time_base = self._track.time_base
        try:
            self._packets.extend(self._stream.encode(frame))
        except FFmpegError as error:
            raise self._refusal(error) from error
        self._write(end=None)

    def finish(self, end_pts: int) -> None:
        """Write all that is left and the index.

        Args:
            end_pts: when the last picture's turn is over, on the source's time line.
        """
        self._packets.extend(self._stream.encode(None))
        self._write(end=end_pts - self._track.first_pts + self._lead)
        self._mux(self._sound.rest())
        self._container.close()

    def _video(self) -> VideoStream:
        encoder, track = self.encoder, self._track
        stream = self._container.add_stream(encoder.name, rate=track.rate or Fraction(25), options=dict(encoder.options))
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = self._form.width, self._form.height, encoder.pixel_format
        context.time_base, context.codec_tag = track.time_base, encoder.tag
        context.thread_count, context.thread_type = encoder.threads, "FRAME"
        context.color_range, context.colorspace = self._colour.range, self._colour.matrix
        context.color_primaries, context.color_trc = self._colour.primaries, self._colour.transfer
        if track.pixel_aspect:
            context.sample_aspect_ratio = track.pixel_aspect
        if track.display_matrix:
            stream.set_display_matrix(self._turn(track.display_matrix))
        return stream

    def _turn(self, matrix: tuple[int, ...]) -> list[int]:
        """The display matrix; where it also moves the picture, by so many of the new pixels."""
        grown = Fraction(self._form.width, self._track.form.width)
        return [int(value * grown) if place in (6, 7) else value for place, value in enumerate(matrix)]

    def _write(self, *, end: int | None) -> None:
        """Write the packets whose duration is known, each with the sound that goes before it."""
        while self._packets:
            packet = self._packets[0]
            is_last = end is not None and len(self._packets) == 1
            if (duration := self._duration(packet, end, is_last=is_last)) is None:
                return
            packet.duration = duration
            self._mux(self._sound.until((packet.dts or 0) * self._track.time_base))
            self._container.mux(self._packets.popleft())

    def _mux(self, packets: Iterator[AudioPacket]) -> None:
        for packet in packets:
            self._container.mux_one(packet)

    def _duration(self, packet: VideoPacket, end: int | None, *, is_last: bool) -> int | None:
        """From its picture to the next shown; the last in decode order lasts to the end, whichever picture it is.

        Readers take the track to be as long as its samples together, and those last from one dts to the next: so the last dts may go up.
        """
        assert packet.pts is not None
        assert packet.dts is not None
        if self._first_dts is None:
            self._first_dts = packet.dts
        if is_last and end is not None:
            packet.dts = max(packet.dts, packet.pts + self._first_dts - self._lead)
            return end - packet.pts
        del self._times[: bisect_left(self._times, packet.dts)]  # no packet to come is shown before
        place = bisect_right(self._times, packet.pts)
        following = self._times[place] if place < len(self._times) else end
        return None if following is None else following - packet.pts

    def _refusal(self, error: FFmpegError) -> ClipError:
        form, name = self._form, self.encoder.name
        message = f"{name} does not take {form.width}x{form.height} in {self.encoder.pixel_format} ({error.strerror}); choose another codec"
        return ClipError(FailureKind.UNSUPPORTED, message)


def _scale(time_base: Fraction) -> int:
    """Units of a second for times of the whole file: those libav gives the picture track, where they fit."""
    scale = time_base.denominator
    while scale < _COARSEST:
        scale *= 2
    return min(scale, _FINEST)
