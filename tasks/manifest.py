"""A manifest: a CSV or Parquet table with a `uri` column; its other columns travel into `clips`.

Knows Arrow and storage; opens no video.
"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from infra import storage
from infra.problem import Problem

STAT_THREADS = 32
AS_TEXT = csv.ConvertOptions(column_types={"uri": pa.string()})  # a name of digits is a name


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
        Problem: not readable as CSV or Parquet, no `uri` column, an empty uri.
    """
    data = pa.BufferReader(storage.read_bytes(uri))
    try:
        table = pq.read_table(data) if PurePosixPath(uri).suffix.lower() in (".parquet", ".pq") else csv.read_csv(data, convert_options=AS_TEXT)
    except (pa.ArrowException, OSError) as error:  # Arrow says OSError of a damaged footer
        raise Problem(f"source.uri {uri}: not a CSV or Parquet table ({' '.join(str(error).split())}); name a .csv or .parquet file") from error
    if table.column_names.count("uri") != 1:
        raise Problem(f"source.uri {uri}: needs one column 'uri' (its columns: {', '.join(table.column_names)}); name it so")
    uris = table["uri"].to_pylist()
    if not uris:
        raise Problem(f"source.uri {uri}: lists no video; add rows")
    if not all(isinstance(video, str) and video for video in uris):
        raise Problem(f"source.uri {uri}: a uri is empty or no text; each video needs one row")
    return table


def read(uri: str) -> list[ManifestRow]:
    """Every video of the manifest with its size and etag, asked for in parallel.

    Raises:
        Problem: as `read_table`, or two uris name one video.
    """
    table = read_table(uri)
    extras = table.drop_columns(["uri"]).to_pylist()
    with ThreadPoolExecutor(STAT_THREADS) as pool:
        rows = list(pool.map(lambda pair: _row(uri, *pair), zip(table["uri"].to_pylist(), extras, strict=True)))
    name, times = Counter(row.name for row in rows).most_common(1)[0]
    if times > 1:
        raise Problem(f"source.uri {uri}: {name} is listed {times} times; each video needs one row")
    return rows


def _row(manifest_uri: str, uri: str, extra: dict[str, object]) -> ManifestRow:
    root = storage.root_of(manifest_uri)
    resolved = storage.normal(uri if "://" in uri or uri.startswith("/") else f"{root}/{uri}")
    name = storage.relative(resolved, root)
    found = storage.stat(resolved)
    columns = tuple(extra.items())
    return ManifestRow(name, resolved, found.etag if found else "", found.size_bytes if found else 0, columns)


def columns_of(uri: str) -> pa.Schema:
    """The columns that travel into `clips`, with their types."""
    return pa.schema([field for field in read_table(uri).schema if field.name != "uri"])
