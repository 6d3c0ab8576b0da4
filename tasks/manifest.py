"""A manifest: a CSV or Parquet table with a `uri` column; its other columns travel into `clips`.

Knows Arrow and storage; opens no video.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from infra import storage
from infra.problem import Problem

STAT_THREADS = 32


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One video of a manifest; the etag is empty where nothing lies at the uri."""

    name: str
    uri: str
    etag: str
    size_bytes: int
    columns: tuple[tuple[str, object], ...]


def read_table(uri: str) -> pa.Table:
    """The manifest as a table.

    Raises:
        Problem: not readable as CSV or Parquet, no `uri` column, an empty or repeated uri.
    """
    data = pa.BufferReader(storage.read_bytes(uri))
    try:
        table = pq.read_table(data) if PurePosixPath(uri).suffix in (".parquet", ".pq") else csv.read_csv(data)
    except pa.ArrowInvalid as error:
        raise Problem(f"source.uri {uri}: not a CSV or Parquet table ({error}); name a .csv or .parquet file") from error
    if "uri" not in table.column_names:
        raise Problem(f"source.uri {uri}: has no column 'uri' (its columns: {', '.join(table.column_names)}); add one")
    uris = table["uri"].to_pylist()
    if not uris:
        raise Problem(f"source.uri {uri}: lists no video; add rows")
    if len(set(uris)) < len(uris) or None in uris or "" in uris:
        raise Problem(f"source.uri {uri}: a uri is empty or listed twice; each video needs one row")
    return table


def read(uri: str) -> list[ManifestRow]:
    """Every video of the manifest with its size and etag, asked for in parallel."""
    table = read_table(uri)
    extras = table.drop_columns(["uri"]).to_pylist()
    with ThreadPoolExecutor(STAT_THREADS) as pool:
        return list(pool.map(lambda pair: _row(uri, *pair), zip(table["uri"].to_pylist(), extras, strict=True)))


def _row(manifest_uri: str, uri: str, extra: dict[str, object]) -> ManifestRow:
    root = storage.root_of(manifest_uri)
    resolved = uri if "://" in uri or uri.startswith("/") else f"{root}/{uri}"
    name = storage.relative(resolved, root)
    found = storage.stat(resolved)
    columns = tuple(extra.items())
    return ManifestRow(name, resolved, found.etag if found else "", found.size_bytes if found else 0, columns)


def columns_of(uri: str) -> pa.Schema:
    """The columns that travel into `clips`, with their types."""
    return pa.schema([field for field in read_table(uri).schema if field.name != "uri"])
