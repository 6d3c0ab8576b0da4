"""Stored embeddings of a shard: published rows of several models, joined by clip, a few at a time.

    embeddings/model=a  -0 -1    -3 ...   sorted by clip_id --+
    embeddings/model=b  -0    -2 -3 ...   sorted by clip_id --+--> -0 (a, b)  -1 (a, none)  -2 (none, b)  -3 (a, b)

Memory holds one batch of rows of each table, however long the shard. Knows the embeddings' columns; opens no media and no archive.
"""

from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from itertools import groupby
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra import storage
from infra.problem import Problem
from tasks.frame_features import columns_of, frames_of
from tasks.published import path_of

ROWS = 64  # of a table in memory at once: 300 frames of 1024 codes each are 20 MB
BUFFER_BYTES = 1 << 20  # of a column read ahead

Item = TypeVar("Item")


def stored(output: str, folders: Sequence[str], shard: str) -> Iterator[tuple[str, tuple[np.ndarray | None, ...]]]:
    """Every clip that one of these tables has, by clip_id, with its vectors in each, as `tasks.frame_features.frames_of` gives them.

    Raises:
        Problem: a table is damaged.
        StorageError: it cannot be read now.
    """
    return outer_join([_rows(path_of(output, folder, shard)) for folder in folders])


def outer_join(tables: Sequence[Iterable[tuple[str, Item]]]) -> Iterator[tuple[str, tuple[Item | None, ...]]]:
    """Join tables that are sorted by a key without duplicates; keys come out sorted, each once."""
    numbered = (_numbered(table, number) for number, table in enumerate(tables))
    for key, found in groupby(merge(*numbered, key=lambda entry: entry[0]), key=lambda entry: entry[0]):
        held = {number: item for _, number, item in found}
        yield key, tuple(held.get(number) for number in range(len(tables)))


def _numbered(table: Iterable[tuple[str, Item]], number: int) -> Iterator[tuple[str, int, Item]]:
    return ((key, number, item) for key, item in table)


def _rows(uri: str) -> Iterator[tuple[str, np.ndarray]]:
    """The rows of a published table in their order; none where there is no file."""
    last = ""
    try:
        with storage.open_seekable(uri) as file:
            parquet = pq.ParquetFile(file, buffer_size=BUFFER_BYTES, pre_buffer=False)
            for batch in parquet.iter_batches(ROWS, columns=["clip_id", *columns_of(parquet.schema_arrow)]):
                for clip_id, frames in zip(batch.column("clip_id").to_pylist(), frames_of(batch), strict=True):
                    if clip_id <= last:
                        raise Problem(f"{uri}: damaged (not sorted by clip_id); delete it and run again, only it will be computed")
                    last = clip_id
                    yield clip_id, frames
    except storage.NotFound:
        return
    except (pa.ArrowException, OSError, KeyError) as error:  # Arrow says OSError of damaged pages
        raise Problem(f"{uri}: damaged ({' '.join(str(error).split())}); delete it and run again, only it will be computed") from error
