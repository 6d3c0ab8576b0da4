"""What is told of published files is what their rows say: no bound that a row breaks, no type that loses a value."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import Schema
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.catalog.memory import InMemoryCatalog

from infra import storage
from tasks.lake import LONGEST_BOUND, folders_of, label_of, read_file, shared_type, table_in
from tasks.published import Footer
from tests.tasks.shards import CLIPS, EMBEDDINGS, TAGS, published

FOOTER = Footer("corpus", "", "v", "e", "", "run", 1, 0).metadata()
KEPT = (
    pa.bool_(),
    pa.int32(),
    pa.int64(),
    pa.float32(),
    pa.float64(),
    pa.string(),
    pa.binary(),
    pa.binary(8),
    pa.date32(),
    pa.timestamp("us", "UTC"),
)
WIDENED = {pa.int8(): pa.int32(), pa.int16(): pa.int32(), pa.uint8(): pa.int32(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64()}
OTHER_FORMS = {pa.large_string(): pa.string(), pa.large_binary(): pa.binary(), pa.dictionary(pa.int8(), pa.string()): pa.string()}
REFUSED = (pa.float16(), pa.uint64(), pa.timestamp("us"), pa.timestamp("ns", "UTC"), pa.time64("us"), pa.duration("s"), pa.null(), pa.struct([]))

scalars = st.sampled_from([*KEPT, *WIDENED, *OTHER_FORMS, *REFUSED])
kinds = st.recursive(
    scalars,
    lambda inner: (
        inner.map(pa.list_)
        | st.builds(lambda kind: pa.list_(kind, 3), inner)
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: pa.struct([(f"f{n}", part) for n, part in enumerate(parts)]))
    ),
    max_leaves=4,
)
moments = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))
columns: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "text": (pa.string(), st.text(max_size=LONGEST_BOUND + 5)),
    "number": (pa.float64(), st.floats()),
    "count": (pa.uint32(), st.integers(0, 2**32 - 1)),
    "moment": (pa.timestamp("us", "UTC"), moments),
    "flag": (pa.bool_(), st.booleans()),
}


@given(kinds)
def test_a_type_is_one_that_both_formats_have_or_none(kind: pa.DataType) -> None:
    shared = shared_type(kind)
    if shared is None:
        assert any(str(refused).removeprefix("struct") in str(kind) for refused in REFUSED)
        return
    assert shared_type(shared) == shared
    schema = pa.schema([pa.field("column", shared)])
    Schema.from_arrow(schema)
    with_catalog(schema)


def with_catalog(schema: pa.Schema) -> None:
    catalog = InMemoryCatalog("memory")
    catalog.create_namespace("n")
    catalog._convert_schema_if_needed(schema)
    catalog.close()


@pytest.mark.parametrize("kind", WIDENED)
def test_widened_integers_keep_their_extremes(kind: pa.DataType) -> None:
    bits, signed = kind.bit_width, pa.types.is_signed_integer(kind)
    extremes = pa.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1], kind)
    assert extremes.cast(shared_type(kind)).to_pylist() == extremes.to_pylist()


@given(st.data(), st.integers(1, 5))
@settings(max_examples=30)
def test_footers_bound_every_row_of_every_row_group(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, group_rows: int) -> None:
    count = data.draw(st.integers(0, 12))
    values = {name: data.draw(st.lists(st.none() | drawn, min_size=count, max_size=count)) for name, (_, drawn) in columns.items()}
    schema = pa.schema([(name, kind) for name, (kind, _) in columns.items()], metadata=FOOTER)
    path = tmp_path_factory.mktemp("lake") / "x.parquet"
    pq.write_table(pa.table(values, schema=schema), path, row_group_size=group_rows)
    file = read_file("x.parquet", storage.found(str(path)))
    assert (file.rows, len(file.row_groups)) == (count, max(1, -(-count // group_rows)))
    for name, found in file.stats.items():
        there = [value for value in values[name] if value is not None and value == value]
        assert found.nulls == (sum(value is None for value in values[name]) if count else None)
        if found.bounds:
            low, high = found.bounds
            assert all(low <= value <= high for value in there), name
    assert file.stats["flag"].bounds is None
    counts = [value for value in values["count"] if value is not None]
    assert file.stats["count"].bounds == ((min(counts), max(counts)) if counts else None)


def test_tables_are_the_folders_of_features(tmp_path: Path) -> None:
    published(tmp_path)
    (tmp_path / "embeddings/notes/version=x").mkdir(parents=True)
    (tmp_path / EMBEDDINGS.folder / "_hidden.parquet").touch()
    assert list(folders_of(str(tmp_path))) == ["clips", "failures", EMBEDDINGS.folder, TAGS.folder]
    assert list(table_in(str(tmp_path), EMBEDDINGS.folder).files) == ["part_0.parquet"]
    assert [label_of(CLIPS.folder), label_of(EMBEDDINGS.folder)] == ["clips", EMBEDDINGS.label]


def test_a_file_that_vidmill_did_not_write_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), tmp_path / "x.parquet")
    with pytest.raises(KeyError, match="vidmill"):
        read_file("x.parquet", storage.found(str(tmp_path / "x.parquet")))
