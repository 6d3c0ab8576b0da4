"""A manifest names videos, near and far; what is wrong with it is one line."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.problem import Problem
from tasks.manifest import columns_of, read


def manifest(folder: Path, text: str, name: str = "list.csv") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_uris_are_relative_to_the_manifest_or_absolute_and_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / "lists" / "videos").mkdir(parents=True)
    near, far = tmp_path / "lists" / "videos" / "near.mp4", tmp_path / "far.mp4"
    near.write_bytes(b"12345")
    far.write_bytes(b"123")
    uri = manifest(tmp_path / "lists", f"uri,price\nvideos/near.mp4,1\n{far},2\n../far2.mp4,3\n")
    rows = read(uri)
    assert [(row.name, row.uri, row.size_bytes, dict(row.columns)) for row in rows] == [
        ("videos/near.mp4", str(near), 5, {"price": 1}),
        (str(far), str(far), 3, {"price": 2}),
        (str(tmp_path / "far2.mp4"), str(tmp_path / "far2.mp4"), 0, {"price": 3}),
    ]
    assert [bool(row.etag) for row in rows] == [True, True, False]


@pytest.mark.parametrize("name", ["list.parquet", "LIST.PARQUET", "list.pq"])
def test_a_parquet_manifest_keeps_its_types(tmp_path: Path, name: str) -> None:
    table = pa.table({"price": pa.array([1.5], pa.float32()), "uri": ["a.mp4"], "tags": pa.array([["x", "y"]])})
    pq.write_table(table, tmp_path / name)
    uri = str(tmp_path / name)
    assert dict(read(uri)[0].columns) == {"price": 1.5, "tags": ["x", "y"]}
    columns = columns_of(uri)
    assert columns.names == ["price", "tags"]
    assert columns.field("price").type == pa.float32()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("url,label\na.mp4,x\n", r"needs one column 'uri' \(its columns: url, label\)"),
        ("uri,uri\na.mp4,b.mp4\n", "needs one column 'uri'"),
        ("uri,label\n", "lists no video; add rows"),
        ("", "not a CSV or Parquet table"),
        ("uri,label\na.mp4\n", "not a CSV or Parquet table"),
        ("uri,label\n,x\n", "a uri is empty"),
        ("uri\na.mp4\nb.mp4\na.mp4\n", "a.mp4 is listed 2 times"),
        ("uri\na.mp4\n./x/../a.mp4\n", "a.mp4 is listed 2 times"),
    ],
)
def test_a_wrong_manifest_is_one_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(Problem, match=f"source.uri .*list.csv: .*{told}") as problem:
        read(manifest(tmp_path, text))
    assert str(problem.value).count(";") == 1


def test_a_damaged_parquet_manifest_is_one_line(tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    pq.write_table(pa.table({"uri": ["a.mp4"]}), whole)
    data = bytearray(whole.read_bytes())
    data[-60:-20] = b"\xff" * 40
    for name, content in {"text": b"uri\na.mp4\n", "cut": bytes(data[:-9]), "footer": bytes(data)}.items():
        path = tmp_path / f"{name}.parquet"
        path.write_bytes(content)
        with pytest.raises(Problem, match=f"{name}.parquet: not a CSV or Parquet table"):
            read(str(path))


def test_numbers_in_a_parquet_manifest_are_no_uris(tmp_path: Path) -> None:
    pq.write_table(pa.table({"uri": [1, 2]}), tmp_path / "list.parquet")
    with pytest.raises(Problem, match="a uri is empty or no text"):
        read(str(tmp_path / "list.parquet"))


def test_names_of_digits_are_names(tmp_path: Path) -> None:
    """CSV readers guess types: 007 is not 7."""
    assert [row.name for row in read(manifest(tmp_path, "uri\n007\n008\n"))] == ["007", "008"]


def test_a_missing_manifest_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"gone.csv: not found"):
        read(f"{tmp_path}/gone.csv")
