"""Annotations as the world has them, joined by clip_id; a manifest's columns, by video."""

from pathlib import Path

import pyarrow as pa
import pytest

from infra import storage
from infra.problem import Problem
from tasks.labels import Labels, add_manifest_columns, labels_etag, read_annotations
from tasks.schema import CLIPS
from tasks.source import Corpus, Shard, SourceFile


def annotations(folder: Path, text: str) -> SourceFile:
    path = folder / "train.csv"
    path.write_bytes(text.encode())
    found = storage.stat(str(path))
    assert found is not None
    return SourceFile("train.csv", found.uri, found.etag, found.size_bytes)


def rows(folder: Path, text: str) -> list[tuple[str, str | None, str | None]]:
    table = read_annotations(annotations(folder, text)).table
    return [(row["clip_id"], row["label"], row["split"]) for row in table.to_pylist()]


HEADER = "label,youtube_id,time_start,time_end,split"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{HEADER},is_cc\nrunning,-a_b,1,11,train,0\n", ("-a_b_000001_000011", "running", "train")),
        (f"{HEADER}\r\nrunning,abc,1,11,train\r\n", ("abc_000001_000011", "running", "train")),
        (f"\ufeff{HEADER}\nrunning,abc,1,11,train\n", ("abc_000001_000011", "running", "train")),
        (f"{HEADER}\nrunning,abc,1.0,11.0,train\n", ("abc_000001_000011", "running", "train")),
        (f'{HEADER}\n"massaging person\'s head, ""slow""",abc,0,10,val\n', ("abc_000000_000010", 'massaging person\'s head, "slow"', "val")),
        (f"{HEADER}\n7,0123456789,1000000,1000010,1\n", ("0123456789_1000000_1000010", "7", "1")),
        ("youtube_id,time_start,time_end,split\nabc,10,20,test\n", ("abc_000010_000020", None, "test")),
        ("youtube_id,time_start,time_end\nabc,10,20\n", ("abc_000010_000020", None, None)),
    ],
    ids=["plain", "CRLF", "byte order mark", "float times", "quotes", "ids of digits", "test split", "ids only"],
)
def test_an_annotation_names_a_clip_as_its_file_is_named(tmp_path: Path, text: str, expected: tuple[str, str | None, str | None]) -> None:
    assert rows(tmp_path, text) == [expected]


def test_a_clip_annotated_twice_counts_once_and_keeps_its_first_label(tmp_path: Path) -> None:
    """Twice in the table it would be told as annotated and absent."""
    text = f"{HEADER}\nfirst,abc,1,11,train\nsecond,abc,1,11,train\nother,def,1,11,train\n"
    assert rows(tmp_path, text) == [("abc_000001_000011", "first", "train"), ("def_000001_000011", "other", "train")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("label,youtube_id,time_end\nx,abc,1\n", "column time_start is missing; its columns are label, youtube_id, time_end"),
        (f"{HEADER}\nx,abc\n", "not a CSV table"),
        ("", "not a CSV table"),
        (f"{HEADER}\nx,abc,ten,20,train\n", "time_start is not whole seconds"),
        (f"{HEADER}\nx,abc,1.5,20,train\n", "time_start is not whole seconds"),
        (f"{HEADER}\nx,abc,1,,train\ny,def,1,2,train\n", "time_end is empty in 1 rows"),
    ],
)
def test_a_table_that_cannot_be_joined_is_one_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(Problem, match=f"source.annotations .*train.csv: .*{told}"):
        rows(tmp_path, text)


def clips(*ids: str, label: str | None = None) -> pa.Table:
    return pa.Table.from_pylist([{"clip_id": key, "video_id": key, "label": label} for key in ids], CLIPS)


def test_join_fills_label_and_split_and_counts_coverage(tmp_path: Path) -> None:
    labels = read_annotations(annotations(tmp_path, f"{HEADER}\nx,a,1,2,train\ny,b,1,2,val\nz,gone,1,2,val\n"))
    joined = labels.join(clips("b_000001_000002", "unannotated", "a_000001_000002"))
    assert joined.schema.equals(CLIPS)
    assert [(row["label"], row["split"]) for row in joined.to_pylist()] == [("y", "val"), (None, None), ("x", "train")]
    assert labels.matched(["b_000001_000002", "unannotated", "a_000001_000002"]) == 2
    assert labels.matched([]) == 0


def test_without_annotations_clips_keep_their_labels() -> None:
    """WebDataset archives bring theirs."""
    none = read_annotations(None)
    assert none.join(clips("a", label="7"))["label"].to_pylist() == ["7"]
    assert none.matched(["a"]) == 0


def file(name: str, /, **columns: object) -> SourceFile:
    return SourceFile(name, f"/videos/{name}", "1", 1, tuple(columns.items()))


def test_manifest_columns_travel_by_video_and_never_over_measured_ones() -> None:
    columns = pa.schema([("label", pa.int64()), ("price", pa.float64()), ("width", pa.int64())])
    files = [file("b", label=2, price=2.5, width=98), file("a", label=1, price=1.5, width=99)]
    once = add_manifest_columns(clips("a", "b", "gone"), files, columns)
    assert once.select(["label", "price", "manifest_width", "width"]).to_pylist() == [
        {"label": "1", "price": 1.5, "manifest_width": 99, "width": None},
        {"label": "2", "price": 2.5, "manifest_width": 98, "width": None},
        {"label": None, "price": None, "manifest_width": None, "width": None},
    ]
    assert once.schema.field("price").type == pa.float64()
    assert add_manifest_columns(once, files, columns).equals(once)


def etag(*files: SourceFile, annotated: SourceFile | None = None) -> str:
    shard = Shard("s", files, "e")
    return labels_etag(Corpus("c", (shard,), annotated, None), shard)


def test_a_changed_label_changes_its_shard_alone(tmp_path: Path) -> None:
    csv = annotations(tmp_path, f"{HEADER}\n")
    assert etag(file("a"), annotated=csv) == csv.etag
    assert etag(file("a")) == ""
    assert etag(file("a", label="x")) == etag(file("a", label="x"))
    different = {etag(file("a", label="x")), etag(file("a", label="y")), etag(file("b", label="x")), etag(file("a", name="x"))}
    assert len(different) == 4


def test_labels_without_a_manifest_have_no_columns() -> None:
    assert Labels(pa.table({"clip_id": pa.array([], pa.string())})).columns.names == []
