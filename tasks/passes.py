"""Passes: the rows of a feature that are published, in the order of their clips, some megabytes at a time.

    fragment 0   b d        pass 0   a b        written as one row group each, and forgotten
    fragment 1   a c        pass 1   c d

Every file was looked at once, for its clips; then each row is read once, by its place. Memory is a few passes and the clip ids, however large the
shard, or a row, is.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tasks.shardwork import RowFile
from tasks.stored_rows import NUMBER

ROWS = 8192
BYTES = 32 << 20
FEW = 1024  # rows of a pass that are lined up as they lie: they are large, and copying them cost half of publication
READ_THREADS = 8  # of one shard: a store far away answers slowly, and many at once

Place = tuple[int, int]  # number of the file, number of the row in it


@dataclass(frozen=True, slots=True)
class Chosen:
    """The rows of one feature that are published."""

    files: tuple[RowFile, ...]
    places: Mapping[str, Place]  # by clip_id

    @property
    def fresh(self) -> bool:
        """Whether a row comes from another file than the first, which is the published one where there is one."""
        return any(file for file, _ in self.places.values())


def choose(files: Iterator[RowFile], members: Mapping[str, str]) -> Chosen:
    """Where each clip's row is taken from; the first that holds wins.

    Args:
        members: source_etag by clip_id; a row made from anything else does not hold.
    """
    places: dict[str, Place] = {}
    looked_at: list[RowFile] = []
    for file in files:
        for key, row in zip(file.keys, file.rows[NUMBER].to_pylist(), strict=True):
            if members.get(key[0]) == key[1]:
                places.setdefault(key[0], (len(looked_at), row))
        looked_at.append(file)
    return Chosen(tuple(looked_at), places)


def passes(chosen: Chosen) -> Iterator[pa.Table]:
    """The chosen rows, sorted by clip_id; nothing where there are none.

    Raises:
        StorageError: also where a file is gone.
        pa.ArrowException, OSError: a file is damaged.
    """
    with ThreadPoolExecutor(READ_THREADS) as pool:
        for part in _parts(chosen):
            yield _read([chosen.places[key] for key in part], chosen.files, pool.map)


def _parts(chosen: Chosen) -> Iterator[list[str]]:
    """The clips of each pass."""
    sizes = [file.stored.sizes() for file in chosen.files]
    part, size = list[str](), 0
    for key in sorted(chosen.places):
        file, row = chosen.places[key]
        if part and (size + sizes[file][row] > BYTES or len(part) == ROWS):
            yield part
            part, size = [], 0
        part.append(key)
        size += sizes[file][row]
    if part:
        yield part


def _read(places: Sequence[Place], files: Sequence[RowFile], each: Callable[..., Iterator[pa.Table]]) -> pa.Table:
    wanted: dict[int, list[int]] = {}
    for file, row in places:
        wanted.setdefault(file, []).append(row)
    tables = list(each(lambda file: files[file].stored.rows(wanted[file]), wanted))
    starts = dict(zip(wanted, np.cumsum([0, *map(len, wanted.values())]).tolist(), strict=False))
    order: list[int] = []
    for file, _ in places:
        order.append(starts[file])
        starts[file] += 1
    together = pa.concat_tables(tables, promote_options="default")
    if len(order) <= FEW:
        return pa.concat_tables([together.slice(row, 1) for row in order])
    return together.take(pa.array(order))
