"""P9: ten minutes of 720p become twice as large within 3 GB, in this process and both of its children together."""

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import psutil
import pytest

from infra.settings import LimitsConfig
from tasks.encoding import Encoding
from tasks.enhance import Enhancer
from tests.media import moving_pictures
from tests.tasks.restorations import Count, Doubled

MOST_BYTES = 3 << 30
LOOK_S = 0.5


def proportional_bytes(pid: int) -> int:
    """Memory of a process, its share of what it shares (proc(5): smaps_rollup)."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


@contextmanager
def watched(every_s: float = LOOK_S) -> Iterator[list[int]]:
    """Bytes of this process and its children, looked at again and again."""
    seen: list[int] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(every_s):
            seen.append(sum(proportional_bytes(pid) for pid in (os.getpid(), *(child.pid for child in psutil.Process().children()))))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def long_film(path: Path, seconds: int) -> None:
    """720p at 30 pictures a second, with sound."""
    frames = [picture.reformat(format="yuv420p") for picture in moving_pictures(30, 1280, 720)]
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast", "crf": "30"})
        stream.width, stream.height = 1280, 720
        stream.codec_context.time_base = Fraction(1, 30)
        sound = container.add_stream("aac", rate=48_000, layout="mono")
        for number in range(seconds * 30):
            frame = frames[number % len(frames)]
            frame.pts, frame.time_base = number, Fraction(1, 30)
            container.mux(stream.encode(frame))
            if number % 30 == 0:
                second = av.AudioFrame("fltp", "mono", 48_000)
                second.planes[0].update(bytes(4 * 48_000))
                second.sample_rate, second.pts, second.time_base = 48_000, number * 1600, Fraction(1, 48_000)
                container.mux(sound.encode(second))
        container.mux(stream.encode(None))
        container.mux(sound.encode(None))


def restored_within(path: Path, encoding: Encoding) -> tuple[int, list[int]]:
    with path.open("rb") as file, tempfile.TemporaryFile() as sink, watched() as seen:
        found = Enhancer(LimitsConfig()).enhance(
            file, window=None, restoration=Doubled(), encoding=encoding, meter=lambda a, b: Count(a, b), sink=sink
        )
    return found.frames, seen


@pytest.mark.nightly
def test_ten_minutes_of_720p_upscaled_stay_within_three_gigabytes(tmp_path: Path) -> None:
    long_film(tmp_path / "film.mp4", 600)
    frames, seen = restored_within(tmp_path / "film.mp4", Encoding("h264", 23, "ultrafast"))
    assert frames == 18_000
    assert max(seen) < MOST_BYTES
    first, last = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    assert max(last) < 1.2 * max(first), "memory does not grow with the clip"


@pytest.mark.nightly
@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_encoders_that_look_ahead_stay_within_three_gigabytes(tmp_path: Path, codec: str) -> None:
    """Ten seconds fill every queue there is; with the default preset."""
    long_film(tmp_path / "film.mp4", 10)
    frames, seen = restored_within(tmp_path / "film.mp4", Encoding(codec, 23, "medium"))
    assert frames == 300
    assert max(seen) < MOST_BYTES
