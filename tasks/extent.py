"""How much of a video there is: its first frame, its last, how many, and whether all of it arrived.

    header says 10 s     packets end at 9.4 s     index names 300 frames, the file ends after 282
         a claim              the truth                        TRUNCATED

Knows packets and the container's index and nothing of sampling or pictures.
"""

from itertools import pairwise

from tasks.clip import ClipError, FailureKind
from tasks.container import Video, VideoPacket
from tasks.sampling import FOR_EVER, Span

_FAR_FUTURE_S = 1_000_000_000  # later than any timestamp: "seek to the end"
_LAST_PACKETS = 32  # of an index; more than any codec reorders, so they hold the last frame shown
_LAST_SECONDS = 5  # of an MPEG stream, whose packets just after a seek lack timestamps
_LEAD_IN = 64  # packets until the first timestamp is certain; H.264 and HEVC reorder over 16 at most


def lead_in(video: Video) -> tuple[list[VideoPacket], int]:
    """The file's first packets, as few as settle the first frame's pts, and that pts (0 where it has none). The file stands behind them.

    Raises:
        ClipError: CORRUPT where there is no packet at all.
    """
    packets: list[VideoPacket] = []
    first: int | None = None
    for packet in video.packets():
        packets.append(packet)
        if packet.pts is not None and is_shown(packet):
            first = packet.pts if first is None else min(first, packet.pts)
        if len(packets) == _LEAD_IN or (first is not None and packet.dts is not None and packet.dts >= first):
            break
    if not packets:
        raise ClipError(FailureKind.CORRUPT, "the video track holds no frames; fetch the file again")
    return packets, first or 0


def tail(video: Video) -> list[VideoPacket]:
    """The last packets: few where the container can seek, else all."""
    index = video.stream.index_entries
    if _index_is_complete(video):
        return _from(video, index[-min(_LAST_PACKETS, len(index))].timestamp, any_frame=True)
    if not video.seekable:
        video.rewind()
        return list(video.packets())
    packets = _from(video, int(_FAR_FUTURE_S / video.time_base))
    if video.format.startswith("mpeg"):
        return _from(video, end_pts(video, packets) - int(_LAST_SECONDS / video.time_base))
    return packets


def _from(video: Video, pts: int, *, any_frame: bool = False) -> list[VideoPacket]:
    video.seek(pts, any_frame=any_frame)
    if packets := list(video.packets()):
        return packets
    video.rewind()
    return list(video.packets())


def check_whole(video: Video, read: int | None = None) -> None:
    """Raise `ClipError` TRUNCATED where an mp4's index names frames beyond the end of the file.

    Args:
        read: how many frames could be read, where all were tried; None looks at the index alone.
    """
    index = video.stream.index_entries
    total = len(index)
    if not video.format.startswith("mov") or not total or (read is not None and read >= total):
        return
    size = video.size
    if read is None:
        if index[-1].pos + index[-1].size <= size:
            return
        read = sum(entry.pos + entry.size <= size for entry in index)
    raise ClipError(FailureKind.TRUNCATED, f"the file ends early: {read:,} of {total:,} frames can be read; fetch it again")


def is_shown(packet: VideoPacket) -> bool:
    """Not cut away by an edit list, nor one of VP8's hidden reference frames (RFC 6386 9.1: bit 4 is show_frame)."""
    return not packet.is_discard and not (packet.stream.codec_context.codec.canonical_name == "vp8" and not memoryview(packet)[0] & 0x10)


def shown_pts(packets: list[VideoPacket], span: Span) -> list[int]:
    """pts of the span's frames, ascending."""
    return sorted(packet.pts for packet in packets if packet.pts is not None and packet.pts in span and is_shown(packet))


def all_timed(packets: list[VideoPacket]) -> bool:
    """Whether every packet says when its frame is shown."""
    return all(packet.pts is not None for packet in packets)


def end_pts(video: Video, packets: list[VideoPacket], first: int = 0) -> int:
    """When the last frame's turn is over; without timestamps, as many average frame times after `first` as there are frames."""
    ends = [packet.pts + (packet.duration or video.frame_units) for packet in packets if packet.pts is not None and not packet.is_discard]
    return max(ends) if ends else first + len(packets) * video.frame_units


def count_frames(video: Video, packets: list[VideoPacket], span: Span, zero: int) -> int | None:
    """Source frames of the span: counted where all were read, else taken from a complete index.

    The index holds decode times, so its count is certain only where frames are evenly spaced; else None.

    Args:
        packets: those read for the span.
        zero: pts of the video's first frame.
    """
    if video.at_end:
        return len(shown_pts(packets, span))
    if not _index_is_complete(video):
        return None
    index = video.stream.index_entries
    shift = _shift(video, zero)
    begin, end = max(index.search_timestamp(span.start - shift), 0), index.search_timestamp(span.end - shift, backward=False)
    times = [entry.timestamp + shift for entry in index[begin : end + 1 if end >= 0 else len(index)] if not entry.is_discard]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    return sum(time in span for time in times) if gaps and max(gaps) - min(gaps) <= 1 else None


def known_end(video: Video, packets: list[VideoPacket], zero: int) -> int:
    """The video's end as far as it is known without reading on: by packets or by a complete index; `FOR_EVER` where neither tells."""
    if video.at_end:
        return end_pts(video, packets)
    if _index_is_complete(video):
        return video.stream.index_entries[-1].timestamp + _shift(video, zero) + video.frame_units
    return FOR_EVER


def _shift(video: Video, zero: int) -> int:
    """From an index's decode times to pts."""
    return zero - next((entry.timestamp for entry in video.stream.index_entries if not entry.is_discard), 0)


def count_indexed(video: Video) -> int | None:
    """Frames of the whole video by its index, None where that is not complete."""
    return sum(not entry.is_discard for entry in video.stream.index_entries) if _index_is_complete(video) else None


def _index_is_complete(video: Video) -> bool:
    """Only mp4 and AVI promise to name every frame."""
    return video.format.startswith(("mov", "avi")) and 0 < video.stream.frames <= len(video.stream.index_entries)
