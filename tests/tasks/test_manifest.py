"""A manifest names videos, near and far; what is wrong with it is one line."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.problem import Problem
from infra.settings import SourceConfig
from tasks import manifest as module
from tasks.manifest import ManifestRow, columns_of
from tasks.roots import roots_of


def read(uri: str, *allow: str) -> list[ManifestRow]:
    source = SourceConfig.model_validate({"kind": "manifest", "uri": uri, "allow": list(allow)})
    return module.read(uri, roots_of(source))


def manifest(folder: Path, text: str, name: str = "list.csv") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_uris_are_relative_to_the_manifest_or_absolute_and_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / "lists" / "videos").mkdir(parents=True)
    near, far = tmp_path / "lists" / "videos" / "near.mp4", tmp_path / "far.mp4"
    near.write_bytes(b"12345")
    far.write_bytes(b"123")
    uri = manifest(tmp_path / "lists", f"uri,price\nvideos/near.mp4,1\n{far},2\n../far2.mp4,3\n")
    rows = read(uri, str(tmp_path))
    assert [(row.name, row.uri, row.size_bytes, dict(row.columns)) for row in rows] == [
        ("videos/near.mp4", str(near), 5, {"price": 1}),
        (str(far), str(far), 3, {"price": 2}),
        (str(tmp_path / "far2.mp4"), str(tmp_path / "far2.mp4"), 0, {"price": 3}),
    ]
    assert [bool(row.etag) for row in rows] == [True, True, False]
    assert [row.refused for row in rows] == [None] * 3


def test_videos_lie_where_they_may(tmp_path: Path) -> None:
    """P12: without tasks.roots a row names any file of the machine; what it names outside is not even asked for."""
    own, far = tmp_path / "lists", tmp_path / "far"
    own.mkdir()
    far.mkdir()
    for path in (own / "near.mp4", far / "far.mp4"):
        path.write_bytes(b"1")
    (own / "link.mp4").symlink_to(far / "far.mp4")
    (own / "inner.mp4").symlink_to(own / "near.mp4")
    listed = ["near.mp4", "inner.mp4", "link.mp4", "../far/far.mp4", str(far / "far.mp4"), f"file://{far}/far.mp4", "../lists/near2.mp4"]
    uri = manifest(own, "uri\n" + "\n".join(listed))
    inside = {"near.mp4", "inner.mp4", "near2.mp4"}
    assert {row.name for row in read(uri) if row.refused is None} == inside
    refused = {row.name: row for row in read(uri) if row.refused is not None}
    assert refused.keys() == {"link.mp4", str(far / "far.mp4")}
    assert {row.etag for row in refused.values()} == {""}
    (kind, message) = refused["link.mp4"].refused or ("", "")
    assert kind == "BAD_RECORD"
    assert message == f"lies outside s3:// and {own}/ (it leads to {far}/far.mp4); move it there, or name its folder in source.allow"
    fewer = manifest(own, "uri\n" + "\n".join(listed[:4]))
    assert {row.name for row in read(fewer, str(far)) if row.refused is None} == {"link.mp4", str(far / "far.mp4")}
    with pytest.raises(Problem, match=r"far.mp4 is listed 2 times"):
        read(manifest(own, "uri\n../far/far.mp4\n" + str(far / "far.mp4")), "/")


def test_a_row_that_is_no_address_stops_no_other(tmp_path: Path) -> None:
    """P6: without the guard in tasks.manifest.read one bad row ended the whole manifest; no secret is repeated."""
    (tmp_path / "near.mp4").write_bytes(b"1")
    bad = ["https://me:hunter2@host/x.mp4", "ftp://host/x.mp4", "s3://key:hunter2@bucket/x.mp4", "file://host/x.mp4", "x" * 300, "s3:///x"]
    rows = read(manifest(tmp_path, "uri\n" + "\n".join(["near.mp4", *bad, bad[0]])))
    assert [row.name for row in rows if row.refused is None] == ["near.mp4"]
    refused = [row for row in rows if row.refused is not None]
    assert len({row.uri for row in refused}) == len(refused) == len(bad)
    assert all(row.refused and row.refused[0] == "BAD_RECORD" and row.refused[1].startswith("row ") for row in refused)
    assert "hunter2" not in str(rows)


def test_what_cannot_be_written_later_is_told_before_any_work(tmp_path: Path) -> None:
    """P6: it ended the run at its first publication, when all was computed."""
    pq.write_table(pa.table({"uri": ["a.mp4"], "label": [{"x": 1}]}), tmp_path / "list.parquet")
    with pytest.raises(Problem, match="column 'label' of type struct<x: int64> cannot be carried"):
        read(f"{tmp_path}/list.parquet")


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
        ("uri,uri\na.mp4,b.mp4\n", "2 columns are named 'uri'"),
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
