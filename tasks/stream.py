"""Every picture of a clip, one after the other: encoded bytes in, planes and times out.

    packets -> decoder -> picture, picture, picture ...    memory: the packet fed and the pictures the decoder holds back

Where sampled frames (`tasks.decode`) leave the tick of a lost frame to the next one, a video with a hole is not the same video:
a picture that cannot be decoded is a failure. Knows PyAV's pictures and nothing of processes, networks or what becomes of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from heapq import heappop, heappush
from itertools import chain
from typing import BinaryIO

from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from infra.settings import LimitsConfig
from models.picture import Picture
from tasks.clip import ClipError, FailureKind, Window, too_large
from tasks.container import Video, VideoPacket, open_video
from tasks.decode import PACKET_IS_PICTURE, UNCODED_VOP_BYTES
from tasks.extent import check_whole, end_pts, is_shown, lead_in
from tasks.planes import colour_of, display_matrix, format_of, picture_of
from tasks.sampling import FOR_EVER, FROM_START, Span
from tasks.timed import TimedDecoder, TimedPicture
from tasks.track import Track
from tasks.window import from_entry, nothing_shown, span_of


@contextmanager
def open_stream(file: BinaryIO, *, window: Window | None, limits: LimitsConfig) -> Iterator["Stream"]:
    """Open a clip and decode its first picture; iterate the result for `Picture`s. The file is not closed.

    Args:
        file: seekable, of encoded video in one of `tasks.container.FORMATS`.
        window: as `tasks.decode.open_clip`.
        limits: max_pixels, max_duration_s and max_bytes count; the pictures are not counted.

    Raises:
        ClipError: on opening or between pictures; CORRUPT names the time of the picture that is lost.
    """
    with open_video(file, limits=limits) as video:
        yield Stream(video, window)


class Stream:
    """The pictures of one clip, to be iterated once."""

    def __init__(self, video: Video, window: Window | None) -> None:
        self._video = video
        self._converter = VideoReformatter()
        if window is None:
            check_whole(video)
            self._zero, self._span, packets = 0, Span(FROM_START, FOR_EVER), video.packets()
        else:
            head, self._zero = lead_in(video)
            self._span = span_of(video, self._zero, window)
            packets = from_entry(video, head, self._zero, self._span.start)
        self._ledger = _Ledger(video, self._span)
        self._newest_pts: int | None = None  # of what left the decoder
        self._pictures = self._shown(packets)
        first, pts = self._first()
        if window is None:
            self._zero = pts
        self.track = self._track(first, pts, window)
        self._pictures = chain([(first, pts)], self._pictures)

    @property
    def end_pts(self) -> int:
        """When the last picture's turn is over, known after the last picture."""
        return min(max(self._ledger.end_pts, self._last_pts + 1), self._span.end)

    def __iter__(self) -> Iterator[Picture]:
        form = self.track.form
        for frame, pts in self._pictures:
            self._check(frame, pts)
            self._last_pts = pts
            yield picture_of(frame, pts, form, self._converter)
        if self._video.at_end:
            check_whole(self._video)

    def _first(self) -> TimedPicture:
        for first in self._pictures:
            self._last_pts = first[1] - 1
            return first
        ledger = self._ledger
        if ledger.shown or not ledger.fed or self._span.start == FROM_START:
            raise self._video.undecodable(ledger.fed)
        raise nothing_shown(self._video, [ledger.latest] if ledger.latest else [], self._zero, self._span)

    def _track(self, first: VideoFrame, pts: int, window: Window | None) -> Track:
        video = self._video
        return Track(
            form=format_of(first),
            codec=video.codec,
            time_base=video.time_base,
            first_pts=pts,
            end_pts=None if window is None else self._span.end,
            rate=video.stream.average_rate or video.stream.guessed_rate,
            colour=colour_of(first),
            pixel_aspect=video.stream.sample_aspect_ratio,
            display_matrix=display_matrix(first),
        )

    def _shown(self, packets: Iterator[VideoPacket]) -> Iterator[TimedPicture]:
        """The span's pictures, as they leave the decoder; ends with the first one after the span."""
        decoder, ledger = TimedDecoder(self._video), self._ledger
        for packet in packets:
            ledger.note(packet)
            pictures = decoder.feed(packet)
            self._check_damage(packet)
            for picture, pts in self._in_order(pictures):
                if pts >= self._span.end:
                    return
                if pts >= self._span.start:
                    self._check_lost(ledger.lost_before(picture, pts))
                    yield picture, pts
        for picture, pts in self._in_order(decoder.drain()):
            if pts in self._span:
                self._check_lost(ledger.lost_before(picture, pts))
                yield picture, pts
        self._check_lost(ledger.lost_at_end())

    def _in_order(self, pictures: list[TimedPicture]) -> Iterator[TimedPicture]:
        """A program stream tells few times; where libav's guess lies before the picture shown last, that one's turn has its usual length."""
        for picture, pts in pictures:
            if self._video.format == "mpeg" and self._newest_pts is not None and pts <= self._newest_pts:
                pts = self._newest_pts + self._video.frame_units
            self._newest_pts = pts
            yield picture, pts

    def _check_damage(self, packet: VideoPacket) -> None:
        damage = self._video.damage
        if damage and self._ledger.leaned_on(packet):
            kind = FailureKind.CORRUPT if damage.kind is FailureKind.CORRUPT else damage.kind
            raise ClipError(kind, f"the picture at {self._time(packet.pts)} cannot be decoded: {damage.message}")
        self._video.damage = None

    def _check_lost(self, pts: int | None) -> None:
        if pts is not None:
            raise ClipError(FailureKind.CORRUPT, f"the picture at {self._time(pts)} cannot be decoded; fetch the file again")

    def _check(self, frame: VideoFrame, pts: int) -> None:
        video, form, time = self._video, self.track.form, self._time(pts)
        if frame.is_corrupt:
            raise ClipError(FailureKind.CORRUPT, f"the picture at {time} is damaged; fetch the file again")
        if (frame.width, frame.height) != (form.width, form.height):
            sizes = f"from {form.width}x{form.height} to {frame.width}x{frame.height}"
            raise ClipError(FailureKind.UNSUPPORTED, f"its pictures change {sizes} at {time}; cut the video there")
        if pts <= self._last_pts:
            raise ClipError(FailureKind.CORRUPT, f"its clock goes back at {time}; remux the video")
        if (pts - self.track.first_pts) * video.time_base > video.limits.max_duration_s:
            raise too_large(f"over {video.limits.max_duration_s:,} s long", "max_duration_s", video.limits.max_duration_s)

    def _time(self, pts: int | None) -> str:
        return "an unknown time" if pts is None else f"{float((pts - self._zero) * self._video.time_base):.3f} s"


class _Ledger:
    """Which pictures the packets announced and the decoder still owes."""

    def __init__(self, video: Video, span: Span) -> None:
        self._video, self._span = video, span
        self._is_sure = video.codec in PACKET_IS_PICTURE and not video.format.startswith("avi")
        self._owed: list[int] = []  # heap: pts
        self._began = False
        self._entry: int | None = None  # pts of the packet that decoding began with
        self.fed = 0
        self.shown = 0
        self.latest: VideoPacket | None = None  # by the time it is shown

    @property
    def end_pts(self) -> int:
        """When the last picture announced is over; `FROM_START` where the packets do not tell."""
        return end_pts(self._video, [self.latest]) if self.latest else FROM_START

    def note(self, packet: VideoPacket) -> None:
        """Take note of a packet that is fed."""
        self.fed += 1
        if packet.pts is None or packet.size < UNCODED_VOP_BYTES:
            self._is_sure = self._is_sure and packet.pts is not None and self._video.codec != "mpeg4"
        if packet.pts is None or not is_shown(packet):
            return
        if self._entry is None:
            self._entry = packet.pts
        if packet.pts < self._span.end and (self.latest is None or packet.pts > (self.latest.pts or 0)):
            self.latest = packet
        if packet.pts in self._span:
            self.shown += 1
            heappush(self._owed, packet.pts)

    def leaned_on(self, packet: VideoPacket) -> bool:
        """Whether the packet's damage is the clip's: pictures shown before the one decoding began with may lean on what was left out."""
        return packet.pts is None or self._entry is None or packet.pts >= self._entry

    def lost_before(self, picture: VideoFrame, pts: int) -> int | None:
        """Strike a picture off; the first one announced for an earlier time that did not come."""
        if picture.interlaced_frame and self._video.codec in ("h264", "mpeg4"):
            self._is_sure = False  # a packet may hold one of its two fields
        lost = None
        while self._owed and self._owed[0] <= pts:
            owed = heappop(self._owed)
            lost = owed if lost is None and owed < pts else lost
        began, self._began = self._began, True
        return lost if self._is_sure and began else None

    def lost_at_end(self) -> int | None:
        """The first picture announced that did not come, when no more come."""
        return min(self._owed) if self._is_sure and self._began and self._owed else None
