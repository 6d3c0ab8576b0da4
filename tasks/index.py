"""The index of an output: what its files' footers say, in one object per folder, so that a night without change opens none of them.

    OUT/_wip/index/<feature folder>.parquet     shard, etag of its file, rows, what else is known of it

A copy, believed only of files that a listing shows with the same etag: without it, or where it is damaged, the files themselves are asked. Knows
no feature and no footer.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra import storage

VERSION = b"1"  # of what the entries mean; an index of another one counts as absent
VERSION_KEY = b"vidmill.index"
SCHEMA = pa.schema([("shard", pa.string()), ("etag", pa.string()), ("rows", pa.int64()), ("known", pa.string())])


@dataclass(frozen=True, slots=True)
class Entry:
    """One file."""

    etag: str
    rows: int
    known: Mapping[str, Any]  # as JSON has it


def read_index(output: str, folder: str) -> dict[str, Entry]:
    """Entries by shard; none where there is no index that can be read."""
    try:
        table = pq.read_table(pa.BufferReader(storage.read_bytes(_place(output, folder))), page_checksum_verification=True)
    except (storage.NotFound, pa.ArrowException, OSError):  # Arrow says OSError of damaged pages and footers
        return {}
    if (table.schema.metadata or {}).get(VERSION_KEY) != VERSION:
        return {}
    columns = (table[name].to_pylist() for name in SCHEMA.names)
    return {shard: Entry(etag, rows, json.loads(known)) for shard, etag, rows, known in zip(*columns, strict=True)}


def write_index(output: str, folder: str, entries: Mapping[str, Entry]) -> None:
    """Replace the index of a folder."""
    rows = [{"shard": name, "etag": entry.etag, "rows": entry.rows, "known": json.dumps(entry.known)} for name, entry in sorted(entries.items())]
    table = pa.Table.from_pylist(rows, SCHEMA.with_metadata({VERSION_KEY: VERSION}))
    storage.publish(_place(output, folder), lambda file: pq.write_table(table, file, compression="zstd", write_page_checksum=True))


def _place(output: str, folder: str) -> str:
    return f"{output.rstrip('/')}/_wip/index/{folder}.parquet"
