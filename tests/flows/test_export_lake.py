"""`vidmill export delta` and `vidmill export iceberg`: a line per table, exit codes as everywhere, one line for whatever is wrong."""

import json
import sys
from pathlib import Path

import pytest

from flows import cli
from flows.arguments import DONE, INCOMPLETE, USAGE
from infra.lease import lease
from tests.tasks.shards import EMBEDDINGS, TAGS, published

Screen = pytest.CaptureFixture[str]
FORMATS = pytest.mark.parametrize("name", ["delta", "iceberg"])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an output of one shard."""
    published(tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_delta_tables_are_told_by_their_folders(place: Path, capsys: Screen) -> None:
    assert cli.execute(["export", "delta", "out"]) == DONE
    screen = capsys.readouterr()
    assert screen.out.splitlines() == [
        "out/clips: 1 file, 3 rows (1 added)",
        "out/failures: 1 file, 1 row (1 added)",
        f"out/{EMBEDDINGS.folder}: 1 file, 3 rows (1 added)",
        f"out/{TAGS.folder}: 1 file, 3 rows (1 added)",
        "done: 4 tables of 4 changed, in out",
    ]
    assert "files" in screen.err
    assert cli.execute(["export", "delta", "out"]) == DONE
    assert capsys.readouterr().out.splitlines()[-1] == "nothing to do: every table is up to date, in out"


def test_iceberg_tables_are_told_by_their_names(place: Path, capsys: Screen) -> None:
    assert cli.execute(["export", "iceberg", "out", "--namespace", "k400"]) == DONE
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first == "k400.clips: 1 file, 3 rows (1 added)"
    assert last == f"done: 4 tables of 4 changed, in {place}/out/_iceberg/catalog.db"


@FORMATS
def test_a_program_reads_the_same(place: Path, capsys: Screen, name: str) -> None:
    assert cli.execute(["export", name, "out", "--json"]) == DONE
    found = json.loads(capsys.readouterr().out)
    assert (found["status"], found["format"], [table["rows"] for table in found["tables"]]) == ("done", name, [3, 1, 3, 3])
    assert all(Path(table["location"]).exists() for table in found["tables"])


@FORMATS
def test_what_is_left_is_exit_code_1(place: Path, capsys: Screen, name: str) -> None:
    (place / "out/clips/other.parquet").write_bytes(b"PAR1")
    assert cli.execute(["export", name, "out"]) == INCOMPLETE
    *_, left, status = capsys.readouterr().out.splitlines()
    assert left.startswith("left: clips/other.parquet: not a file that vidmill wrote, or damaged (")
    assert status.startswith("work left: 4 tables of 4 changed")


@FORMATS
def test_what_cannot_be_done_is_one_line_and_exit_code_2(place: Path, capsys: Screen, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    package = {"delta": "deltalake", "iceberg": "pyiceberg"}[name]
    said = []
    assert cli.execute(["export", name, "gone"]) == USAGE
    said.append(("gone: holds no published clips", capsys.readouterr().err))
    with lease("out", run_id="nightly"):
        assert cli.execute(["export", name, "out"]) == USAGE
    said.append(("run nightly of", capsys.readouterr().err))
    monkeypatch.setitem(sys.modules, {"delta": "deltalake", "iceberg": "pyiceberg.catalog.sql"}[name], None)
    assert cli.execute(["export", name, "out"]) == USAGE
    said.append((f"the package {package} is missing; pip install 'vidmill[{name}]'", capsys.readouterr().err))
    for words, err in said:
        line = err.splitlines()[-1]
        assert line.startswith("vidmill: error: ")
        assert words in line
    assert not (place / "gone").exists()
