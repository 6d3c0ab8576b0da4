"""A published file vouches for itself, or is a problem with a name."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.problem import Problem
from tasks.published import Coverage, Footer, footers, path_of, read_footer, read_rows, shards_in
from tests.tasks.shards import CLIPS, EMBEDDINGS, MODEL, published

text = st.text(st.characters(codec="utf-8"), max_size=9)
number = st.integers(0, 1 << 40)
FOOTERS = st.builds(
    Footer, corpus=text, model=text, version=text, source_etag=text, labels_etag=text, run_id=text, planned=number, failed=number,
    rows=st.just(2), coverage=st.builds(Coverage, number, number, number), empty=st.lists(text).map(tuple),
)  # fmt: skip


@given(FOOTERS)
def test_a_footer_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, footer: Footer) -> None:
    path = tmp_path_factory.getbasetemp() / "footer.parquet"
    pq.write_table(pa.table({"clip_id": ["a", "b"]}).replace_schema_metadata(footer.metadata()), path)
    assert read_footer(str(path)) == footer


def test_footers_are_told_by_shard(tmp_path: Path) -> None:
    for name in ("part_1", "part_0"):
        published(tmp_path, name)
    (tmp_path / "clips" / "notes.txt").write_text("mine")
    found = footers(f"{tmp_path}/", EMBEDDINGS)
    assert list(found) == ["part_0", "part_1"]
    assert {(f.model, f.version, f.planned, f.failed, f.rows) for f in found.values()} == {(MODEL, EMBEDDINGS.version, 4, 1, 3)}
    assert shards_in(str(tmp_path), "clips") == {"part_0", "part_1"}
    assert shards_in(str(tmp_path / "nowhere"), "clips") == set()
    assert footers(str(tmp_path / "nowhere"), CLIPS) == {}


def damaged(folder: Path) -> dict[str, Path]:
    """Files that lie where published ones belong."""
    published(folder)
    whole = (folder / "clips" / "part_0.parquet").read_bytes()
    pq.write_table(pa.table({"clip_id": ["a"]}), folder / "foreign.parquet")
    contents = {
        "text": b"clip_id\na\n",
        "nothing": b"",
        "half": whole[: len(whole) // 2],
        "footer": whole[:-200] + b"\xff" * 150 + whole[-50:],
        "foreign": (folder / "foreign.parquet").read_bytes(),
    }
    paths = {name: folder / f"{name}.parquet" for name in contents}
    for name, path in paths.items():
        path.write_bytes(contents[name])
    return paths


def test_a_file_that_vidmill_did_not_write_is_one_problem_that_names_it(tmp_path: Path) -> None:
    for path in damaged(tmp_path).values():
        with pytest.raises(Problem, match=rf"{path}: not a file that vidmill wrote, or damaged \(.*; move it away") as problem:
            read_footer(str(path))
        assert "\n" not in str(problem.value)


def test_damaged_rows_are_one_problem_and_missing_ones_none(tmp_path: Path) -> None:
    for name, path in damaged(tmp_path).items():
        if name != "foreign":
            with pytest.raises(Problem, match=f"{path}: damaged .*; delete it and run again"):
                read_rows(str(path))
    assert read_rows(str(tmp_path / "gone.parquet")) is None
    rows = read_rows(path_of(str(tmp_path), "clips", "part_0"), ("clip_id", "width"))
    assert rows is not None
    assert rows.column_names == ["clip_id", "width"]
