"""Frames of a clip: encoded bytes in, sampled RGB frames out.

    |  0.0   |  1.0   |  2.0   |            clip time, seconds
    f........f........f........             fps=1: the first frame at or after each tick
             ^ non-reference frames between ticks are never decoded, nor groups of pictures without a tick

The samples are those of a decoder that is fed every packet, bit for bit; a frame that cannot be decoded leaves its tick to the
next one that was. Knows PyAV's pictures and nothing of Ray, S3 or models. Every failure is a `ClipError`.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import BinaryIO

import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from infra.settings import LimitsConfig
from tasks.clip import ClipError, ClipInfo, FailureKind, Frame, Window, too_large
from tasks.container import Video, VideoPacket, open_video
from tasks.extent import all_timed, check_whole, count_frames, count_indexed, end_pts, is_shown, known_end, lead_in, shown_pts, tail
from tasks.planes import display_matrix
from tasks.random_access import single_layer
from tasks.sampling import FOR_EVER, FROM_START, Run, Span, Ticks, exact, plan_runs
from tasks.timed import TimedDecoder, TimedPicture
from tasks.window import from_entry, needed, nothing_shown, read_on, span_of

_SKIPPABLE = frozenset({"h264", "hevc", "mpeg4", "mpeg1video", "mpeg2video"})  # decoders that drop non-reference frames without a trace
PACKET_IS_PICTURE = _SKIPPABLE | {"mjpeg", "prores", "ffv1"}  # no hidden pictures: packets tell which frames there are
UNCODED_VOP_BYTES = 16  # MPEG-4's "not coded" fillers are shorter and give no picture


@dataclass(frozen=True, slots=True)
class Clip:
    """Sampled frames of one clip, to be iterated once; one full-size RGB frame is made at a time."""

    info: ClipInfo
    samples: Iterator[Frame]

    def __iter__(self) -> Iterator[Frame]:
        return self.samples


@contextmanager
def open_clip(file: BinaryIO, *, fps: float, window: Window | None, limits: LimitsConfig) -> Iterator[Clip]:
    """Open a clip and decode its first frame; iterate the result for `Frame`s. The file is not closed.

    Args:
        file: seekable, of encoded video in one of `tasks.container.FORMATS`.
        fps: samples per second; ticks lie at k/fps from the clip's first frame. Above the source's rate every frame is a sample.
        window: seconds from the video's first frame; None takes the whole file, reads all of it and measures its length. With a
            window nothing after the packet that settles the last sample is read, save libav's buffer. The packets read are held.
        limits: what the clip may cost, but for time and memory, which only the owner of a process can limit (`tasks.isolate`).

    Raises:
        ClipError: on opening or between samples; EMPTY also where the window holds no frame, TRUNCATED also where it begins after
            the video's end.
    """
    with open_video(file, limits=limits) as video:
        step = 1 / exact(fps) / video.time_base
        yield _whole(video, step) if window is None else _part(video, step, window)


def probe(file: BinaryIO, *, limits: LimitsConfig) -> ClipInfo:
    """What a whole video is, from its first and last packets; one picture is decoded, to learn which way up it is.

    Args:
        file: seekable; where its container cannot seek, all packets are read.

    Returns:
        duration_s measured on packets, whatever the header says; frames only where the container's index names each.

    Raises:
        ClipError: as `open_clip`; TOO_LARGE also for a video over max_duration_s.
    """
    with open_video(file, limits=limits) as video:
        packets, first = lead_in(video)
        picture, _ = _Decoder(video).until(chain(packets, video.packets()), FROM_START)
        check_whole(video)
        return _info(video, picture, units=end_pts(video, tail(video)) - first, frames=count_indexed(video))


def _whole(video: Video, step: Fraction) -> Clip:
    packets = list(video.packets())
    check_whole(video, sum(not packet.is_corrupt for packet in packets))
    decoder = _Decoder(video)
    picture, first = decoder.until(packets, FROM_START)
    span = Span(first, FOR_EVER)
    shown = [packet for packet in packets if is_shown(packet) and (packet.pts is None or packet.pts >= first)]
    info = _info(video, picture, units=end_pts(video, shown, first) - first, frames=len(shown))
    return Clip(info, _samples(decoder, packets, Ticks(first, step), span))


def _part(video: Video, step: Fraction, window: Window) -> Clip:
    head, zero = lead_in(video)
    span = span_of(video, zero, window)
    source = from_entry(video, head, zero, span.start)
    packets = list(needed(video, source, span, step))
    if not shown_pts(packets, span) and all_timed(packets):
        raise nothing_shown(video, packets, zero, span)
    decoder = _Decoder(video)
    picture, first = decoder.until(read_on(packets, source, span), span.start)
    if first != min(shown_pts(packets, span), default=None):  # the ticks moved: what settles the last one is not known any more
        deque(read_on(packets, source, span), maxlen=0)
    if video.at_end:
        check_whole(video)
    end = min(span.end, known_end(video, packets, zero))
    info = _info(video, picture, units=end - span.start, frames=count_frames(video, packets, span, zero))
    return Clip(info, _samples(decoder, packets, Ticks(first, step), Span(first, span.end)))


class _Decoder(TimedDecoder):
    """Feeds packets first to the start of the clip, then by plan."""

    def __init__(self, video: Video) -> None:
        super().__init__(video)
        self.fed = 0
        self.skips = _skips(video)
        self._unsure = video.codec == "mpeg4"  # an interlaced one takes its field distance from the first B frame, and only pictures tell
        self.interlaced = False
        self._pending: list[TimedPicture] = []

    def until(self, packets: Iterable[VideoPacket], start: int) -> TimedPicture:
        """The first picture at or after `start`, and its pts; frames before `start` that nobody leans on are not decoded.

        Raises:
            ClipError: CORRUPT, or UNSUPPORTED, where there is none.
        """
        for packet in packets:
            self.fed += 1
            if self._kept(self._decode(packet, whole=self._unsure or packet.pts is None or packet.pts >= start), start):
                return self._pending[0]
        if self._kept(self.drain(), start):
            return self._pending[0]
        raise self.video.undecodable(self.fed)

    def rest(self, packets: list[VideoPacket], runs: list[Run], whole: frozenset[int] | None) -> Iterator[TimedPicture]:
        """The picture `until` found and all after it.

        Args:
            packets: the clip's; the first `fed` of them went to `until`.
            runs: which to feed.
            whole: pts of the frames that must be decoded even if nobody leans on them; None for all.
        """
        yield from self._pending
        for run in runs:
            if run.start > self.fed:
                yield from self.drain()
                self.video.decoder.flush_buffers()
            for packet in packets[run.start : run.stop]:
                yield from self._decode(packet, whole=whole is None or packet.pts in whole)
            self.fed = run.stop
        yield from self.drain()

    def _kept(self, pictures: list[TimedPicture], start: int) -> bool:
        self._pending = [(picture, pts) for picture, pts in pictures if pts >= start]
        self.interlaced = any(picture.interlaced_frame for picture, _ in self._pending)
        return bool(self._pending)

    def _decode(self, packet: VideoPacket, *, whole: bool) -> list[TimedPicture]:
        self.video.decode_everything(whole or not self.skips)
        return self.feed(packet)


def _samples(decoder: _Decoder, packets: list[VideoPacket], ticks: Ticks, span: Span) -> Iterator[Frame]:
    """Check the number of samples and plan at once, decode when asked."""
    shown = shown_pts(packets, span)
    wanted = ticks.choose(shown)
    _check_count(decoder.video, len(wanted))
    is_exact = _is_exact(decoder, packets, shown)
    runs = _runs(decoder, packets, wanted) if is_exact else [Run(decoder.fed, len(packets))]
    pictures = decoder.rest(packets, runs, frozenset(wanted) if is_exact else None)
    last = shown[-1] if shown and all_timed(packets) else FOR_EVER
    return _convert(decoder.video, pictures, ticks, Span(span.start, min(span.end, last + 1)))


def _convert(video: Video, pictures: Iterator[TimedPicture], ticks: Ticks, span: Span) -> Iterator[Frame]:
    tick, count = ticks.first, 0
    converter = VideoReformatter()
    for picture, pts in pictures:
        if tick <= pts < span.end:
            count += 1
            _check_count(video, count)
            frame = Frame(_upright(picture, converter), float((pts - ticks.first) * video.time_base))
            tick = ticks.after(pts)
            yield frame
        if tick >= span.end:
            break
    if not count:
        raise ClipError(FailureKind.CORRUPT, "no frame lies where the file says it does; fetch the file again")


def _upright(picture: VideoFrame, converter: VideoReformatter) -> np.ndarray:
    """uint8 [H, W, 3], turned and mirrored as the display matrix says; equal to `picture.to_ndarray(format="rgb24")` without one.

    The matrix [[a, b], [c, d]] maps a stored (x, y) to a shown (a x + c y, b x + d y), in units of 1/65536 (libavutil/display.h).
    """
    try:
        rgb = converter.reformat(picture, format="rgb24", threads=1).to_ndarray()
    except (FFmpegError, ValueError) as error:  # colours that the file names and libswscale does not know
        message = f"its pictures, {picture.format.name}, cannot be turned into RGB; convert it, for example to H.264 in yuv420p"
        raise ClipError(FailureKind.UNSUPPORTED, message) from error
    matrix = display_matrix(picture)
    if matrix is None:
        return rgb
    a, b, _, c, d = matrix[:5]
    if abs(b) > abs(a):
        rgb, a, d = rgb.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(rgb[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _turned(picture: VideoFrame) -> bool:
    return round(picture.rotation / 90) % 2 == 1


def _runs(decoder: _Decoder, packets: list[VideoPacket], wanted: list[int]) -> list[Run]:
    entries = [i for i, packet in enumerate(packets) if i > decoder.fed and decoder.video.is_random_access(packet)]
    at = {packet.pts: i for i, packet in enumerate(packets) if not packet.is_discard}
    pts = [packet.pts if packet.pts is not None else FOR_EVER for packet in packets]
    return plan_runs(pts, entries=entries, wanted=[at[value] for value in wanted], fed=decoder.fed)


def _is_exact(decoder: _Decoder, packets: list[VideoPacket], shown: list[int]) -> bool:
    """Whether packets alone tell which pictures come out, and when; interlaced H.264 and MPEG-4 keep more state than packets show."""
    video = decoder.video
    return (
        video.codec in PACKET_IS_PICTURE
        and not video.format.startswith("avi")
        and all_timed(packets)
        and len(set(shown)) == len(shown)
        and not (video.codec in ("h264", "mpeg4") and decoder.interlaced)
        and not (video.codec == "mpeg4" and min(packet.size for packet in packets) < UNCODED_VOP_BYTES)
        and not any(packet.has_sidedata("new_extradata") for packet in packets)
    )


def _skips(video: Video) -> bool:
    """Whether frames between samples may be left undecoded; HEVC calls a frame unreferenced within its own temporal layer only."""
    return video.codec in _SKIPPABLE and not video.times_are_decode_order and (video.codec != "hevc" or single_layer(video.decoder.extradata or b""))


def _check_count(video: Video, count: int) -> None:
    if count > video.limits.max_frames:
        raise too_large(f"{count:,} frames would be sampled", "max_frames", video.limits.max_frames)


def _info(video: Video, picture: VideoFrame, *, units: int, frames: int | None) -> ClipInfo:
    if units <= 0:
        raise ClipError(FailureKind.CORRUPT, "it ends before it begins; fetch the file again")
    duration_s = float(units * video.time_base)
    if duration_s > video.limits.max_duration_s:
        raise too_large(f"{duration_s:,.1f} s long", "max_duration_s", video.limits.max_duration_s)
    width, height = (picture.height, picture.width) if _turned(picture) else (picture.width, picture.height)
    rate = video.stream.average_rate
    return ClipInfo(duration_s, float(rate) if rate else None, width, height, video.codec, frames, video.has_audio)
