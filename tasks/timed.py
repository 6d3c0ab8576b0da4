"""A decoder that says when each picture is shown, also where containers number packets and not pictures.

Knows packets and pictures and nothing of sampling.
"""

from heapq import heappop, heappush

from av.video.frame import VideoFrame

from tasks.container import Video, VideoPacket

TimedPicture = tuple[VideoFrame, int]


class TimedDecoder:
    """Feeds packets and gives pictures with their pts, in order of output."""

    def __init__(self, video: Video) -> None:
        self.video = video
        self._last_pts: int | None = None
        self._times: list[int] = []  # heap: of packets fed, where frames take them in order of output

    def feed(self, packet: VideoPacket) -> list[TimedPicture]:
        """Pictures that come out when `packet` goes in."""
        if self.video.times_are_decode_order and packet.pts is not None:
            heappush(self._times, packet.pts)
        return self._timed(self.video.decode(packet))

    def drain(self) -> list[TimedPicture]:
        """Pictures that were waiting for others."""
        return self._timed(self.video.decode(None))

    def _timed(self, pictures: list[VideoFrame]) -> list[TimedPicture]:
        """Pictures with their pts; one without follows its predecessor by the average frame time."""
        timed = []
        for picture in pictures:
            pts = heappop(self._times) if self._times else picture.pts
            self._last_pts = self._next_pts() if pts is None else pts
            timed.append((picture, self._last_pts))
        return timed

    def _next_pts(self) -> int:
        return 0 if self._last_pts is None else self._last_pts + self.video.frame_units
