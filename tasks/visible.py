"""What a reader sees of an output: every file that a plain glob finds, each examined by itself.

    OUT/clips/*.parquet  OUT/failures/*.parquet  OUT/embeddings/*/*/*.parquet  OUT/tags/*/*/*.parquet  OUT/enhanced/*/*/*.parquet

Digest, footer, rows' count, the shard that the rows name, clips that are there twice. Knows no plan; whatever is wrong comes back as words.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import repeat

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from infra import storage
from infra.storage import ObjectInfo, StorageError
from tasks.digest import NoDigest, is_unaltered
from tasks.feature import MAKER
from tasks.published import FAILURES_FOLDER, Footer, footer_of

DELTA_LOG = "_delta_log"  # in a table's folder, where `vidmill export delta` was asked for; no glob for Parquet looks into it
DEPTH = {FAILURES_FOLDER: 0, "clips": 0, "embeddings": 2, "tags": 2, "enhanced": 2}  # folders between the table's and the file
# What no other table has.
OWN_COLUMN = {FAILURES_FOLDER: "kind", "clips": "uri", "embeddings": "embedding", "tags": "tags", "enhanced": "media_digest"}


@dataclass(frozen=True, slots=True)
class VisibleFile:
    """A file in its place."""

    found: ObjectInfo
    folder: str
    shard: str


@dataclass(frozen=True, slots=True)
class Examined:
    """A file that was read; clips are kept as 8 bytes each, in the order of its rows."""

    file: VisibleFile
    footer: Footer | None = None
    keys: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))  # hashes of clip_id, or member where there is none
    stages: tuple[str, ...] = ()  # of failures
    fault: str | None = None  # why its content is not to be believed


def visible_files(output: str) -> tuple[dict[str, list[VisibleFile]], list[ObjectInfo]]:
    """Files by folder, failures and clips first, and those that lie where none belongs."""
    places: dict[str, list[VisibleFile]] = {}
    strays: list[ObjectInfo] = []
    for table, depth in DEPTH.items():
        for found in _listed(f"{output.rstrip('/')}/{table}"):
            folder, _, name = storage.relative(found.uri, output).rpartition("/")
            if DELTA_LOG in folder.split("/"):
                continue
            fits = name.endswith(".parquet") and not name.startswith(("_", ".")) and _is_place(folder, table, depth)
            if fits:
                places.setdefault(folder, []).append(VisibleFile(found, folder, name.removesuffix(".parquet")))
            elif name.endswith(".parquet") or not name.startswith(("_", ".")):  # readers skip what begins so
                strays.append(found)
    return places, strays


def _listed(folder: str) -> list[ObjectInfo]:
    try:
        return storage.list_objects(folder)
    except storage.NotFound:
        return []


def _is_place(folder: str, table: str, depth: int) -> bool:
    names = folder.split("/")
    return names[0] == table and len(names) == 1 + depth and all(map(str.startswith, names[1:], (f"{_maker(table)}=", "version=")))


def _maker(table: str) -> str:
    return next((maker for made, maker in MAKER.items() if made == table), "")


def examine(file: VisibleFile) -> Examined:
    """Read a file; never raises because of what is in it."""
    try:
        with storage.open_seekable(file.found) as opened:
            unaltered = is_unaltered(opened, file.found.size_bytes)
            parquet = pq.ParquetFile(opened)
            if not unaltered:
                return Examined(file, fault=_altered(parquet))
            return _judged(file, footer_of(parquet.metadata), parquet)
    except NoDigest as error:
        return Examined(file, fault=f"not a file that vidmill wrote, or truncated ({error})")
    except StorageError as error:
        return Examined(file, fault=f"cannot be read ({error.cause}{f': {error.detail}' if error.detail else ''})")
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:  # Arrow says OSError of damaged pages and footers
        return Examined(file, fault=f"damaged ({' '.join(str(error).split())})")


def _altered(parquet: pq.ParquetFile) -> str:
    for _ in parquet.iter_batches():
        pass  # raises where a page cannot be read
    return "altered since vidmill wrote it: its bytes do not give its digest"


def _judged(file: VisibleFile, footer: Footer, parquet: pq.ParquetFile) -> Examined:
    table = file.folder.partition("/")[0]
    if OWN_COLUMN[table] not in parquet.schema_arrow.names or (
        DEPTH[table] and file.folder != f"{table}/{_maker(table)}={footer.model}/version={footer.version}"
    ):
        return Examined(file, fault="it is of another table, model or version: moved or renamed")
    rows = parquet.read(columns=["clip_id", "shard", *(("member", "stage") if table == FAILURES_FOLDER else ())])
    others = {str(shard) for shard in rows["shard"].unique().to_pylist()} - {file.shard}
    if others:
        return Examined(file, fault=f"its rows are of the shard {min(others)}: copied, moved or renamed")
    stages = tuple(map(str, rows["stage"].to_pylist())) if table == FAILURES_FOLDER else ()
    return Examined(file, footer, hashes(keys_of(rows)), stages, _miscounted(footer, rows, table))


def _miscounted(footer: Footer, rows: pa.Table, table: str) -> str | None:
    promised = footer.failed if table == FAILURES_FOLDER else footer.planned - footer.lacking
    if rows.num_rows != promised:
        return f"it has {rows.num_rows:,} rows, and its footer promises {promised:,}"
    return None


def keys_of(rows: pa.Table) -> Iterator[str]:
    """The clip of each row, or the member where none could be formed."""
    members = rows["member"].to_pylist() if "member" in rows.column_names else [None] * rows.num_rows
    return (str(clip_id or member) for clip_id, member in zip(rows["clip_id"].to_pylist(), members, strict=True))


def hashes(keys: Iterator[str]) -> np.ndarray:
    """8 bytes for each key."""
    return np.fromiter((xxhash.xxh3_64_intdigest(key.encode()) for key in keys), np.uint64)


def attempts_in(examined: Examined) -> np.ndarray:
    """What may be there only once: clips, or of failures a clip at a stage."""
    if not examined.stages:
        return examined.keys
    stages = {stage: np.uint64(xxhash.xxh3_64_intdigest(stage.encode())) for stage in set(examined.stages)}
    return examined.keys ^ np.array([stages[stage] for stage in examined.stages], np.uint64)


def named(file: VisibleFile) -> Iterator[tuple[str, str]]:
    """Each row in words: clip_id or member, and the stage of a failure."""
    of_failures = file.folder == FAILURES_FOLDER
    with storage.open_seekable(file.found) as opened:
        rows = pq.ParquetFile(opened).read(columns=["clip_id", "member", "stage"] if of_failures else ["clip_id"])
    return zip(keys_of(rows), map(str, rows["stage"].to_pylist()) if of_failures else repeat(""), strict=False)
