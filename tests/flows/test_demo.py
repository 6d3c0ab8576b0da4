"""The demo, from nothing: rows, tags and the one failure; the second time there is nothing to do."""

import io
from pathlib import Path

import pytest

from flows import cli
from flows.demo import CLIP_S, CORRUPT, ORIGINS, cut, source_video
from infra.settings import LimitsConfig
from tasks.decode import probe
from tests.corpus import files

Screen = pytest.CaptureFixture[str]


def test_rows_tags_and_the_failure_are_shown_and_the_second_time_nothing_is_done(
    ray_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Screen
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.execute(["demo"]) == cli.DONE
    first = capsys.readouterr().out.splitlines()
    rows = [line for line in first if "[1280]" in line]
    assert len(rows) == 7
    assert all(len(line.rstrip()) <= 80 for line in rows)
    assert any("riding a bike" in line for line in rows)
    assert not any(line.startswith(CORRUPT) for line in first)
    assert any(f"{CORRUPT}.mp4: decode CORRUPT" in line for line in first)
    assert any(line.startswith("done: 8 clips in ") for line in first)
    before = files(tmp_path)
    assert cli.execute(["demo"]) == cli.DONE
    again = capsys.readouterr().out.splitlines()
    assert [line for line in again if "[1280]" in line] == rows
    assert again[-2] == "nothing to do: 2 shards published already, for every feature asked for"
    assert files(tmp_path) == before
    assert cli.execute(["verify", "vidmill-demo/output"]) == cli.DONE
    assert cli.execute(["status", "vidmill-demo/demo.yaml"]) == cli.DONE
    assert "CORRUPT" in capsys.readouterr().out


def test_the_clips_last_as_long_as_they_say() -> None:
    """With the source's time base they played at 1,250 frames a second, and one frame of each was looked at."""
    for origin in ORIGINS:
        for _, data in cut(source_video(origin.file)):
            info = probe(io.BytesIO(data), limits=LimitsConfig())
            assert (round(info.duration_s, 1), round(info.fps or 0) in (25, 30)) == (CLIP_S, True)


def test_everyone_gets_the_same_bytes() -> None:
    """x264's mbtree gives other bytes each time."""
    path = source_video(ORIGINS[0].file)
    assert list(cut(path)) == list(cut(path))
