"""`vidmill export youtube8m`: one summary on stdout, exit codes as everywhere, one line for whatever is wrong."""

import json
from pathlib import Path

import pytest

from flows import cli
from tests.tasks.runs import run
from tests.tasks.test_export_youtube8m import framed, records_config, strangers, video_level
from tests.tasks.test_youtube8m import codes, frame_level

Screen = pytest.CaptureFixture[str]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an output of three records, one of them without audio."""
    shards = {
        "a": [video_level("v"), frame_level({"rgb": codes(2, 1024)}, name="w")],
        "b": [frame_level({"rgb": codes(3, 1024), "audio": codes(3, 128)}, name="x")],
    }
    (tmp_path / "shards").mkdir()
    for name, found in shards.items():
        (tmp_path / f"shards/{name}.tfrecord").write_bytes(b"".join(framed(record.SerializeToString()) for record in found) + framed(b"?"))
    run(records_config(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_summary_says_what_became_what_and_what_lacks(place: Path, capsys: Screen) -> None:
    command = ["export", "youtube8m", "out", "--to", "to"]
    assert cli.execute(command) == cli.DONE
    screen = capsys.readouterr()
    rgb, audio, *lines = screen.out.splitlines()
    assert rgb.startswith("rgb   <- yt8m-inception3@")
    assert audio.startswith("audio <- yt8m-vggish@")
    assert audio.endswith(" (1 record without)")
    size = sum(path.stat().st_size for path in (place / "to").glob("*.tfrecord")) / 1e6
    assert lines == [
        "3 records in 2 shards, frame level",
        "note: 2 clips of the corpus failed and are no record",
        f"done: 2 shards written, {size:.1f} MB, in to",
    ]
    assert "shards 2/2" in screen.err
    assert len([record for path in (place / "to").glob("*.tfrecord") for record in strangers(path.read_bytes())]) == 3
    assert cli.execute(command) == cli.DONE
    assert capsys.readouterr().out.splitlines()[-1] == "nothing to do: everything is there already, in to"


def test_a_program_reads_the_same(place: Path, capsys: Screen) -> None:
    assert cli.execute(["export", "youtube8m", "out", "--to", "to", "--level", "video", "--audio=", "--gzip", "--json"]) == cli.DONE
    found = json.loads(capsys.readouterr().out)
    assert (found["status"], found["written"], found["records"], found["lacking"], found["level"]) == ("done", 2, 3, {"rgb": 0}, "video")
    assert sorted(path.name for path in (place / "to").glob("*.gz")) == ["a.tfrecord.gz", "b.tfrecord.gz"]


def test_a_hole_is_exit_code_1(place: Path, capsys: Screen) -> None:
    next((place / "out/embeddings").glob("*/*/b.parquet")).unlink()
    assert cli.execute(["export", "youtube8m", "out", "--to", "to"]) == cli.INCOMPLETE
    *_, left, status = capsys.readouterr().out.splitlines()
    assert left.startswith("left: b: has no embeddings yt8m-")
    assert status.startswith("work left: 1 shard written")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gone", "--to", "to"), ("gone", "holds none; check the path")),
        (("out", "--to", "out"), ("--to out", "lies in the output")),
        (("out",), ("--to", "--help")),
        (("out", "--to", "to", "--rgb", "inception"), ("--rgb inception", "did you mean yt8m-inception3?")),
        (("out", "--to", "to", "--level", "clip"), ("--level", "frame", "video")),
        (("out", "--to", "ftp://host/x"), ("ftp", "not supported")),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(place: Path, capsys: Screen, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    before = sorted(place.rglob("*"))
    assert cli.execute(["export", "youtube8m", *arguments]) == cli.USAGE
    screen = capsys.readouterr()
    assert screen.out == ""
    line = screen.err.splitlines()[-1]
    assert line.startswith("vidmill: error: ")
    assert all(word in line for word in words), line
    assert sorted(place.rglob("*")) == before
