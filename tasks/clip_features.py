"""The clips of one published shard with their embeddings, as a stream: a few rows of each file in memory, however large the shard.

    clips/<shard>.parquet                 a  b  c  d
    embeddings/.../<shard>.parquet        a     c  d       a clip may lack a vector, a vector has a clip

All files are sorted by clip_id, so one pass joins them. Knows the tables; nothing of what becomes of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra import storage
from infra.problem import Problem

CLIP_ROWS, VECTOR_ROWS = 1024, 16  # in memory at once; 16 x 300 frames x 1024 codes = 5 MB
BUFFER_BYTES = 1 << 20  # of each column: without it Arrow holds a row group's whole column


class DamagedShard(Problem):
    """Files of a shard cannot be read, or do not belong together; other shards can be."""


@dataclass(frozen=True, slots=True)
class Vectors:
    """What a model found in one clip."""

    mean: np.ndarray  # float32 [D]
    codes: np.ndarray | None = None  # uint8 [N, D], N at least 1: the frames as YouTube-8M stores them
    frames: np.ndarray | None = None  # float16 [N, D], N at least 1: the frames as vidmill's own models leave them


@dataclass(frozen=True, slots=True)
class ClipFeatures:
    """One clip."""

    row: Mapping[str, Any]  # of `clips`
    vectors: Mapping[str, Vectors]  # by the name its table was asked for with


def clip_features(clips: str, tables: Mapping[str, str], *, columns: Sequence[str], per_frame: bool) -> Iterator[ClipFeatures]:
    """Every clip of a shard, in clip_id order.

    Args:
        clips: the shard's file of clips.
        tables: the shard's files of embeddings, by the names to give their vectors.
        columns: of `clips`, besides clip_id; those it lacks are left out.
        per_frame: whether frames are wanted where there are any.

    Raises:
        DamagedShard: see there.
        StorageError: not there, or cannot be fetched.
    """
    with ExitStack() as opened:
        cursors = {name: _Cursor(_vectors(uri, opened, per_frame=per_frame), uri) for name, uri in tables.items()}
        for batch in _batches(clips, opened, CLIP_ROWS, ("clip_id", *columns)):
            for row in batch.to_pylist():
                found = {name: cursor.take(row["clip_id"]) for name, cursor in cursors.items()}
                yield ClipFeatures(row, {name: vectors for name, vectors in found.items() if vectors is not None})
        for cursor in cursors.values():
            cursor.end()


class _Cursor:
    """Walks one file of embeddings beside the clips."""

    def __init__(self, rows: Iterator[tuple[str, Vectors]], uri: str) -> None:
        self.rows, self.uri = rows, uri
        self.ahead = next(rows, None)

    def take(self, clip_id: str) -> Vectors | None:
        """The clip's vectors, if the next row is its."""
        if self.ahead is None or self.ahead[0] != clip_id:
            return None
        vectors = self.ahead[1]
        self.ahead = next(self.rows, None)
        return vectors

    def end(self) -> None:
        if self.ahead is not None:
            raise DamagedShard(f"{self.uri}: no clip, or no second time, for {self.ahead[0]}; `vidmill verify` tells what is wrong")


def _vectors(uri: str, opened: ExitStack, *, per_frame: bool) -> Iterator[tuple[str, Vectors]]:
    frames = ("frame_codes", "frame_embedding") if per_frame else ()
    for batch in _batches(uri, opened, VECTOR_ROWS, ("clip_id", "embedding", *frames)):
        means = batch["embedding"].flatten().to_numpy().reshape(len(batch), -1)
        found = {name: _frames(batch[name]) if name in batch.schema.names else [None] * len(batch) for name in ("frame_codes", "frame_embedding")}
        yield from zip(batch["clip_id"].to_pylist(), map(Vectors, means, *found.values()), strict=True)


def _frames(lists: pa.ListArray) -> list[np.ndarray | None]:
    """Each row's frames [N, D], as views of Arrow's own bytes; None where there are none."""
    values, offsets = lists.values, lists.offsets.to_numpy()
    if pa.types.is_fixed_size_binary(values.type):
        width = values.type.byte_width
        rows = np.frombuffer(values.buffers()[1], np.uint8, len(values) * width, values.offset * width).reshape(-1, width)
    else:
        rows = values.flatten().to_numpy().reshape(-1, values.type.list_size)
    return [rows[start:stop] if stop > start else None for start, stop in pairwise(offsets)]


def _batches(uri: str, opened: ExitStack, count: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Some rows at a time; columns that the file lacks are left out."""
    try:
        file = opened.enter_context(storage.open_seekable(uri))
        parquet = pq.ParquetFile(file, buffer_size=BUFFER_BYTES, pre_buffer=False)  # else it fetches a row group whole all the same
        there = [name for name in columns if name in parquet.schema_arrow.names]
        yield from parquet.iter_batches(count, columns=there, use_threads=False)
    except (pa.ArrowException, OSError) as error:  # Arrow says OSError of damaged pages and footers
        raise DamagedShard(f"{uri}: damaged ({' '.join(str(error).split())}); delete it and run again, only it will be computed") from error
