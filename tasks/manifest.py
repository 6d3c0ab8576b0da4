"""A manifest: a CSV or Parquet table with a `uri` column; its other columns travel into `clips`.

Knows Arrow and storage; opens no video.
"""

import hashlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from infra import storage
from infra.problem import Problem
from infra.storage import Cause, StorageError
from tasks import foreign_table
from tasks.clip import FailureKind
from tasks.roots import Roots

Refusal = tuple[FailureKind, str]  # why a video is not opened, though it is listed

STAT_THREADS = 32
MESSAGE_CHARS = 500  # of what a row says of itself
ONE_VIDEOS_TROUBLE = {  # and not the whole store's
    Cause.BAD_URI: FailureKind.BAD_RECORD,
    Cause.NOT_FILE: FailureKind.UNSUPPORTED,
    Cause.DENIED: FailureKind.STORAGE,
    Cause.NO_BUCKET: FailureKind.MISSING,
    Cause.FAILED: FailureKind.STORAGE,
}


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One video of a manifest; the etag is empty where nothing lies at the uri."""

    name: str
    uri: str
    etag: str
    size_bytes: int
    columns: tuple[tuple[str, object], ...]
    refused: Refusal | None = None


def read_table(uri: str) -> pa.Table:
    """The manifest as a table.

    Raises:
        Problem: not readable as CSV or Parquet, no `uri` column, an empty uri.
    """
    try:
        table = foreign_table.read(uri, text=("uri", "label", "split"))
    except foreign_table.BadTable as reason:
        raise Problem(f"source.uri {uri}: not a CSV or Parquet table ({reason}); name a .csv or .parquet file") from reason
    if "uri" not in table.column_names:
        raise Problem(f"source.uri {uri}: needs one column 'uri' (its columns: {foreign_table.names_of(table)}); name it so")
    _check_columns(uri, table)
    uris = table["uri"].to_pylist()
    if not uris:
        raise Problem(f"source.uri {uri}: lists no video; add rows")
    if not all(isinstance(video, str) and video for video in uris):
        raise Problem(f"source.uri {uri}: a uri is empty or no text; each video needs one row")
    return table


def _check_columns(uri: str, table: pa.Table) -> None:
    """Refuse here, before any work, what cannot be written into `clips` after it."""
    for field in table.schema:
        if pa.types.is_string(field.type) or pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_boolean(field.type):
            continue
        wanted = pa.string() if field.name in ("label", "split") else field.type
        try:
            pa.array(table[field.name].to_pylist(), field.type).cast(wanted)
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise Problem(f"source.uri {uri}: column {field.name!r} of type {field.type} cannot be carried; make it text or a number") from error


def read(uri: str, roots: Roots) -> list[ManifestRow]:
    """Every video of the manifest with its size and etag, asked for in parallel; one that may not be opened comes with the reason.

    Raises:
        Problem: as `read_table`, or two uris name one video.
    """
    table, root = read_table(uri), storage.root_of(uri)
    extras = table.drop_columns(["uri"]).to_pylist()

    def row(number: int, listed: str, extra: dict[str, object]) -> ManifestRow:
        try:
            return _row(root, roots, listed, extra)
        except StorageError as error:
            if error.cause not in ONE_VIDEOS_TROUBLE:
                raise
            member = f"{storage.normal(uri)}!{_digest(listed)}"
            refused = (ONE_VIDEOS_TROUBLE[error.cause], f"row {number}: {_short(str(error))}")
            return ManifestRow(storage.relative(member, root), member, "", 0, tuple(extra.items()), refused)

    with ThreadPoolExecutor(STAT_THREADS) as pool:
        rows = list(pool.map(row, range(1, table.num_rows + 1), table["uri"].to_pylist(), extras))
    return _each_once(uri, rows)


def _row(root: str, roots: Roots, uri: str, extra: dict[str, object]) -> ManifestRow:
    resolved = storage.normal(uri if "://" in uri or uri.startswith(("/", "file:/")) else f"{root}/{uri}")
    name, columns = storage.relative(resolved, root), tuple(extra.items())
    if reason := roots.refusal(resolved):
        return ManifestRow(name, resolved, "", 0, columns, (FailureKind.BAD_RECORD, _short(reason)))
    found = storage.stat(resolved)
    return ManifestRow(name, resolved, found.etag if found else "", found.size_bytes if found else 0, columns)


def _each_once(uri: str, rows: list[ManifestRow]) -> list[ManifestRow]:
    """A refused video is refused once, however often it is listed."""
    good = [row for row in rows if row.refused is None]
    name, times = Counter(row.name for row in good).most_common(1)[0] if good else ("", 0)
    if times > 1:
        raise Problem(f"source.uri {uri}: {name} is listed {times} times; each video needs one row")
    firsts: dict[str, ManifestRow] = {}
    for row in rows:
        firsts.setdefault(row.name, row)
    return list(firsts.values())


def _digest(text: str) -> str:
    """A name for what may not be repeated, the same in every run."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _short(text: str) -> str:
    return text if len(text) <= MESSAGE_CHARS else f"{text[:MESSAGE_CHARS]}... ({len(text):,} characters)"


def columns_of(uri: str) -> pa.Schema:
    """The columns that travel into `clips`, with their types."""
    return pa.schema([field for field in read_table(uri).schema if field.name != "uri"])
