"""A table somebody else made, CSV or Parquet, read as if it meant harm: little memory for what it claims, one reason where it is none.

Knows Arrow and storage; knows nothing of what the columns mean.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from infra import storage

PARQUET_SUFFIXES = (".parquet", ".pq")
MAX_BYTES = 1 << 30  # of the file, and of the table in memory as Parquet unfolds it: some ten million rows
MAX_ROWS = 100_000_000
MAX_COLUMNS = 1_000
BATCH_ROWS = 1_024
NAMES_SHOWN = 20
CHARS_SHOWN = 60
REASON_CHARS = 300


class BadTable(Exception):
    """Why it cannot be read, in a few words."""


def read(uri: str, *, text: Sequence[str]) -> pa.Table:
    """Parquet where the suffix says so, else CSV; arguments and errors as `read_csv`."""
    is_parquet = PurePosixPath(uri).suffix.lower() in PARQUET_SUFFIXES
    return _guarded(uri, _parquet) if is_parquet else read_csv(uri, text=text)


def read_csv(uri: str, *, text: Sequence[str]) -> pa.Table:
    """The table of a CSV; names of its columns differ.

    Args:
        uri: of the file.
        text: columns whose values are text even if they look like numbers.

    Raises:
        BadTable: not such a table, or too large a one.
        StorageError: not there, or cannot be fetched.
    """
    return _guarded(uri, lambda data: _csv(data, text))


def _guarded(uri: str, parsed: Callable[[bytes], pa.Table]) -> pa.Table:
    found = storage.stat(uri)
    if found is not None and found.size_bytes > MAX_BYTES:
        raise BadTable(f"{found.size_bytes:,} bytes; at most {MAX_BYTES:,} are read")
    try:
        table = parsed(storage.read_bytes(uri))
        names = table.column_names
    except (pa.ArrowException, OSError, ValueError) as error:  # Arrow says OSError of a damaged footer, ValueError of names that are no text
        raise BadTable(_short(" ".join(str(error).split()), REASON_CHARS)) from error
    name, times = Counter(names).most_common(1)[0] if names else ("", 0)
    if times > 1:
        raise BadTable(f"{times} columns are named {_short(name, CHARS_SHOWN)!r}")
    return table


def names_of(table: pa.Table) -> str:
    """The columns for a message; the first of them where they are many."""
    shown = ", ".join(_short(name, CHARS_SHOWN) for name in table.column_names[:NAMES_SHOWN])
    left = table.num_columns - NAMES_SHOWN
    return f"{shown} and {left:,} more" if left > 0 else shown


def _csv(data: bytes, text: Sequence[str]) -> pa.Table:
    _check_columns(1 + data.partition(b"\n")[0].count(b","))
    options = csv.ConvertOptions(column_types=dict.fromkeys(text, pa.string()), strings_can_be_null=False)
    return csv.read_csv(pa.BufferReader(data), convert_options=options)


def _parquet(data: bytes) -> pa.Table:
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        _check_columns(file.metadata.num_columns)
        if file.metadata.num_rows > MAX_ROWS:
            raise BadTable(f"{file.metadata.num_rows:,} rows; at most {MAX_ROWS:,} are read")
        batches, size_bytes = [], 0
        for batch in file.iter_batches(BATCH_ROWS):
            batches.append(batch)
            size_bytes += batch.nbytes
            if size_bytes > MAX_BYTES:
                raise BadTable(f"over {MAX_BYTES:,} bytes when unpacked")
        return pa.Table.from_batches(batches, file.schema_arrow)


def _check_columns(count: int) -> None:
    if count > MAX_COLUMNS:
        raise BadTable(f"{count:,} columns; at most {MAX_COLUMNS:,} are read")


def _short(text: str, chars: int) -> str:
    return text if len(text) <= chars else f"{text[:chars]}..."
