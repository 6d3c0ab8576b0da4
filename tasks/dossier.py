"""Everything that an output holds of one clip: its row, what models found, its failures, and in which files.

Knows the tables; opens no media. Reads only files whose statistics say that the clip may be in them.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra import storage
from infra.problem import Problem
from tasks.published import FAILURES_FOLDER, FOOTER_THREADS
from tasks.visible import VisibleFile, visible_files

FIRST_VALUES = 5
NEAR_FILES = 16  # files searched for names like one that is not there


@dataclass(frozen=True, slots=True)
class EmbeddingSummary:
    """One embedding, in a few numbers."""

    folder: str
    size: int
    norm: float
    first: tuple[float, ...]
    frames: int


@dataclass(frozen=True, slots=True)
class TagList:
    """What one model saw, best first."""

    folder: str
    tags: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class RestoredVideo:
    """What one recipe made of the clip."""

    folder: str
    uri: str
    width: int
    height: int
    fps: float | None
    frames: int
    duration_s: float
    size_bytes: int
    codec: str
    noise_before: float | None
    noise_after: float | None
    psnr_down_db: float | None
    flicker_before: float | None
    flicker_after: float | None
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class Dossier:
    """What is known of one clip; more than one row only where verification would find a fault."""

    clip_id: str
    clips: tuple[dict[str, Any], ...]
    embeddings: tuple[EmbeddingSummary, ...]
    tags: tuple[TagList, ...]
    enhanced: tuple[RestoredVideo, ...]
    failures: tuple[dict[str, Any], ...]
    files: tuple[str, ...]


def dossier_of(output: str, clip_id: str) -> Dossier:
    """Look a clip up, or a member that no clip_id could be formed of.

    Raises:
        Problem: no table has it; the message names clips with names like it. Or a file is damaged.
    """
    places, _ = visible_files(output)
    if not places:
        raise Problem(f"{output}: no file of vidmill's is there; check the path, or run `vidmill run` first")
    clips = list(_search(places.get("clips", []), clip_id))
    failures = list(_search(places.get(FAILURES_FOLDER, []), clip_id))
    shards = {file.shard for file, _ in (*clips, *failures)}
    others = [file for folder, files in places.items() if folder not in ("clips", FAILURES_FOLDER) for file in files if file.shard in shards]
    found = list(_search(others, clip_id))
    if not shards:
        raise Problem(_unknown(output, clip_id, [*places.get("clips", []), *places.get(FAILURES_FOLDER, [])]))
    rows = [(file.folder, row) for file, table in found for row in table]
    return Dossier(
        clip_id,
        clips=tuple(row for _, table in clips for row in table),
        embeddings=tuple(_embedding(folder, row) for folder, row in rows if "embedding" in row),
        tags=tuple(_tags(folder, row) for folder, row in rows if "tags" in row),
        enhanced=tuple(_restored(folder, row) for folder, row in rows if "media_digest" in row),
        failures=tuple(row for _, table in failures for row in table),
        files=tuple(file.found.uri for file, _ in (*clips, *found, *failures)),
    )


def _search(files: Sequence[VisibleFile], clip_id: str) -> Iterator[tuple[VisibleFile, list[dict[str, Any]]]]:
    """Files with rows of the clip, and these rows."""
    with ThreadPoolExecutor(FOOTER_THREADS) as pool:
        for file, rows in zip(files, pool.map(lambda file: _rows(file, clip_id), files), strict=True):
            if rows:
                yield file, rows


def _rows(file: VisibleFile, clip_id: str) -> list[dict[str, Any]]:
    with _opened(file) as parquet:
        by_member = file.folder == FAILURES_FOLDER
        groups = [n for n in range(parquet.num_row_groups) if by_member or _may_hold(parquet.metadata.row_group(n), clip_id)]
        if not groups:
            return []
        keys = ["clip_id", "member"] if by_member else ["clip_id"]
        fits = _any(pc.equal(column, clip_id) for column in parquet.read_row_groups(groups, columns=keys).columns)
        if not pc.any(fits).as_py():
            return []
        rows: list[dict[str, Any]] = parquet.read_row_groups(groups).filter(fits).to_pylist()
        return rows


def _any(masks: Iterable[pa.ChunkedArray]) -> pa.ChunkedArray:
    first, *others = (pc.fill_null(mask, False) for mask in masks)
    for other in others:
        first = pc.or_(first, other)
    return first


def _may_hold(group: pq.RowGroupMetaData, clip_id: str) -> bool:
    """By the smallest and largest clip_id; where these are not told, perhaps."""
    columns = (group.column(number) for number in range(group.num_columns))
    statistics = next((column.statistics for column in columns if column.path_in_schema == "clip_id"), None)
    return statistics is None or not statistics.has_min_max or bool(statistics.min <= clip_id <= statistics.max)


@contextmanager
def _opened(file: VisibleFile) -> Iterator[pq.ParquetFile]:
    """A Parquet file; a Problem names it where it is damaged."""
    try:
        with storage.open_seekable(file.found) as opened:
            yield pq.ParquetFile(opened)
    except (pa.ArrowException, OSError) as error:
        raise Problem(f"{file.found.uri}: damaged; `vidmill verify` says what to do") from error


def _embedding(folder: str, row: dict[str, Any]) -> EmbeddingSummary:
    vector = np.array(row["embedding"], np.float32)
    first = tuple(float(value) for value in vector[:FIRST_VALUES])
    return EmbeddingSummary(folder, len(vector), float(np.linalg.norm(vector)), first, len(row["frame_time_s"] or ()))


def _tags(folder: str, row: dict[str, Any]) -> TagList:
    return TagList(folder, tuple((tag["label"], tag["score"]) for tag in row["tags"]))


def _restored(folder: str, row: dict[str, Any]) -> RestoredVideo:
    return RestoredVideo(folder, **{field.name: row[field.name] for field in fields(RestoredVideo) if field.name != "folder"})


def _unknown(output: str, clip_id: str, files: Sequence[VisibleFile]) -> str:
    names: set[str] = set()
    for file in files[:NEAR_FILES]:
        with _opened(file) as parquet:
            names.update(name for name in parquet.read(columns=["clip_id"])["clip_id"].to_pylist() if name)
    near = get_close_matches(clip_id, names, n=3)
    return f"{output}: no clip {clip_id} there; " + (
        f"did you mean {' or '.join(near)}?" if near else "clip_ids are in its clips and failures tables"
    )
