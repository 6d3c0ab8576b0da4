"""What an output holds, as a table format wants to hear it: tables, their files, and what each file's footer says of its rows.

    OUT/clips  OUT/failures  OUT/embeddings/model=<m>/version=<v>  OUT/tags/...  OUT/enhanced/...     one table each

Knows listings, Parquet's footers and which types the formats share; reads no page, writes nothing.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from infra import storage
from infra.storage import ObjectInfo
from tasks.feature import MAKER
from tasks.published import FAILURES_FOLDER, footer_of

LONGEST_BOUND = 256  # characters; a longer text bounds nothing, rather than be cut
WIDENED = {pa.int8(): pa.int32(), pa.int16(): pa.int32(), pa.uint8(): pa.int32(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64()}

Bound = str | int | float | date | datetime


@dataclass(frozen=True, slots=True)
class LakeTable:
    """A folder of Parquet files with the same columns."""

    output: str
    folder: str
    files: Mapping[str, ObjectInfo]  # by name, with .parquet

    @property
    def uri(self) -> str:
        """Where it lies."""
        return storage.normal(f"{self.output.rstrip('/')}/{self.folder}")


@dataclass(frozen=True, slots=True)
class ColumnStats:
    """What a footer says of one plain column; bounds lack where a row group has none."""

    nulls: int | None
    bounds: tuple[Bound, Bound] | None


@dataclass(frozen=True, slots=True)
class LakeFile:
    """A file as its footer describes it."""

    found: ObjectInfo
    name: str
    rows: int
    schema: pa.Schema  # columns that the formats can express, with the types they share
    left_out: pa.Schema  # the others
    stats: Mapping[str, ColumnStats]
    row_groups: tuple[int, ...]  # where each begins, in bytes


def folders_of(output: str) -> Iterator[str]:
    """The folders that may hold tables, clips first; nothing is said of whether they hold any file."""
    yield from ("clips", FAILURES_FOLDER)
    root = output.rstrip("/")
    for table, maker in MAKER.items():
        for made_by in storage.list_folders(f"{root}/{table}"):
            if made_by.startswith(f"{maker}="):
                versions = storage.list_folders(f"{root}/{table}/{made_by}")
                yield from (f"{table}/{made_by}/{version}" for version in versions if version.startswith("version="))


def table_in(output: str, folder: str) -> LakeTable:
    """The published files of a folder."""
    listed = storage.list_names(f"{output.rstrip('/')}/{folder}")
    return LakeTable(output, folder, {name: found for name, found in sorted(listed.items()) if _is_published(name)})


def label_of(folder: str) -> str:
    """`clips`, or `embeddings efficientnet-lite0@1a2b3c4d`."""
    table, *parts = folder.split("/")
    return " ".join([table, "@".join(part.partition("=")[2] for part in parts)]).rstrip()


def read_file(name: str, found: ObjectInfo) -> LakeFile:
    """Read a file's footer.

    Raises:
        pa.ArrowException, OSError, KeyError, ValueError: it is damaged, or vidmill did not write it.
    """
    with storage.open_ranges(found) as file:
        meta = pq.read_metadata(file)
    footer_of(meta)  # raises where vidmill did not write it
    plain: list[pa.Field] = []
    left_out: list[pa.Field] = []
    for field in meta.schema.to_arrow_schema():
        kind = shared_type(field.type)
        (plain if kind else left_out).append(field.with_type(kind) if kind else field)
    schema = pa.schema(plain)
    return LakeFile(found, name, meta.num_rows, schema, pa.schema(left_out), dict(_stats(meta, schema)), tuple(_row_groups(meta)))


def shared_type(kind: pa.DataType) -> pa.DataType | None:
    """What both Delta Lake and Iceberg call a type; None where one of them would lose values. Neither has half floats or unsigned integers."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = shared_type(kind.value_type)
        return inner and pa.list_(kind.value_field.with_type(inner).with_name("element"))
    if pa.types.is_struct(kind):
        fields = [(field, shared_type(field.type)) for field in kind.fields]
        return pa.struct([field.with_type(inner) for field, inner in fields]) if fields and all(inner for _, inner in fields) else None
    if pa.types.is_dictionary(kind):
        return shared_type(kind.value_type)
    return _shared_scalar(kind)


def _shared_scalar(kind: pa.DataType) -> pa.DataType | None:
    if kind in WIDENED:
        return WIDENED[kind]
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC") if kind.tz == "UTC" and kind.unit != "ns" else None
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    same = kind in (pa.bool_(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.string(), pa.binary(), pa.date32())
    return kind if same or pa.types.is_fixed_size_binary(kind) else None


def _is_published(name: str) -> bool:
    return name.endswith(".parquet") and not name.startswith(("_", "."))


def _row_groups(meta: pq.FileMetaData) -> Iterator[int]:
    for number in range(meta.num_row_groups):
        first = meta.row_group(number).column(0)
        yield first.dictionary_page_offset if first.has_dictionary_page else first.data_page_offset


def _stats(meta: pq.FileMetaData, schema: pa.Schema) -> Iterator[tuple[str, ColumnStats]]:
    scalar = {field.name for field in schema if not pa.types.is_nested(field.type)}
    for number in range(meta.num_columns):
        name = meta.schema.column(number).path
        if name in scalar:
            chunks = [meta.row_group(group).column(number).statistics for group in range(meta.num_row_groups)]
            yield name, _joined(chunks)


def _joined(chunks: list[pq.Statistics | None]) -> ColumnStats:
    """Of a column, from its row groups."""
    told = [chunk for chunk in chunks if chunk is not None and chunk.has_null_count]
    if len(told) < len(chunks):
        return ColumnStats(None, None)
    filled = [chunk for chunk in told if chunk.num_values]
    bounded = filled and all(chunk.has_min_max and _bounds(chunk.min) and _bounds(chunk.max) for chunk in filled)
    bounds = (min(chunk.min for chunk in filled), max(chunk.max for chunk in filled)) if bounded else None
    return ColumnStats(sum(chunk.null_count for chunk in told), bounds)


def _bounds(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, str):
        return len(value) <= LONGEST_BOUND
    return isinstance(value, int | date) and not isinstance(value, bool)
