"""The packets a window of a longer video needs: from a keyframe before it to the one that settles its last sample.

    K.......|K.......|K.......|K.......
                  [ window )
             <------------>                  read; leading B frames of the first group are left out

Containers seek roughly, so what a seek brings is checked. Knows packets and nothing of pictures.
"""

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain

from tasks.clip import ClipError, FailureKind, Window
from tasks.container import Video, VideoPacket
from tasks.extent import end_pts, is_shown
from tasks.sampling import FROM_START, Horizon, Span, exact


def span_of(video: Video, zero: int, window: Window) -> Span:
    """A window in pts.

    Args:
        zero: pts of the video's first frame.
    """
    return Span(*(zero + int(exact(t) // video.time_base) for t in (window.start_s, window.end_s)))


def needed(video: Video, source: Iterator[VideoPacket], span: Span, step: Fraction) -> Iterator[VideoPacket]:
    """Packets up to the one that settles the span's last sample; all of them where timestamps are missing."""
    horizon = Horizon(span, step)
    for packet in source:
        yield packet
        if packet.pts is None or packet.dts is None:
            continue
        if video.times_are_decode_order:
            if packet.pts >= span.end and video.is_random_access(packet):
                return
        elif horizon.reached(packet.pts if is_shown(packet) else FROM_START, packet.dts):
            return


def read_on(packets: list[VideoPacket], source: Iterator[VideoPacket], span: Span) -> Iterator[VideoPacket]:
    """`packets`, then those of `source` up to the span's end, which are added to them."""
    yield from tuple(packets)
    for packet in source:
        if packet.dts is not None and packet.dts >= span.end:
            return
        packets.append(packet)
        yield packet


def from_entry(video: Video, head: list[VideoPacket], zero: int, start: int) -> Iterator[VideoPacket]:
    """Packets from one at which decoding may start to show `start`; containers seek as they please, so ask ever further back.

    Args:
        head: the video's first packets, just read.
        zero: pts of the first frame.
        start: pts wanted.
    """
    back = 0
    while video.seekable and start - back > max(packet.pts or zero for packet in head):
        video.seek(start - back)
        packets = video.packets()
        entry = _entry(video, packets, start)
        if entry is not None:
            return _without_leading(video, entry, packets)
        back = max(4 * back, int(1 / video.time_base))
    if back:
        video.rewind()
        head = []
    return _trimmed(video, chain(head, video.packets()), start)


def _trimmed(video: Video, packets: Iterator[VideoPacket], start: int) -> Iterator[VideoPacket]:
    """Packets from the last one at which decoding may start to show `start`, where all from the video's first are read."""
    held: list[VideoPacket] = []
    for packet in packets:
        if packet.pts is not None and packet.pts <= start and video.is_random_access(packet):
            held.clear()
        held.append(packet)
        if packet.dts is not None and packet.dts > start:
            break
    return _without_leading(video, held[0], chain(held[1:], packets)) if held else packets


def _entry(video: Video, packets: Iterator[VideoPacket], start: int) -> VideoPacket | None:
    """The first packet at which decoding may start, if it is not after `start`; a program stream's times are guesses for one group after a seek."""
    groups_to_pass = 1 if video.format == "mpeg" else 0
    for packet in packets:
        if packet.pts is None or packet.pts > start:
            return None
        if video.is_random_access(packet):
            if not groups_to_pass:
                return packet
            groups_to_pass -= 1
    return None


def _without_leading(video: Video, entry: VideoPacket, packets: Iterator[VideoPacket]) -> Iterator[VideoPacket]:
    """`entry` and what follows, without the B frames that lean on the group before: they would spoil MPEG-4's notion of a field's time."""
    yield entry
    leading_is_useless = video.codec in ("mpeg4", "mpeg1video", "mpeg2video") and entry.pts is not None
    for packet in packets:
        if not (leading_is_useless and packet.pts is not None and packet.pts < (entry.pts or 0)):
            yield packet


def nothing_shown(video: Video, packets: list[VideoPacket], zero: int, span: Span) -> ClipError:
    """The failure of a window without frames: TRUNCATED after the video's end, EMPTY in a gap between frames."""
    start_s, end_s = (float((pts - zero) * video.time_base) for pts in (span.start, span.end))
    asked = f"{start_s:g} to {end_s:g} s"
    if video.at_end and (end := end_pts(video, packets)) <= span.start:
        return ClipError(FailureKind.TRUNCATED, f"the video ends at {float((end - zero) * video.time_base):g} s, before {asked}; correct the window")
    return ClipError(FailureKind.EMPTY, f"the video shows no frame from {asked}; leave the window out")
