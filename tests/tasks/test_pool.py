"""What fits is held as a whole; of what does not, bounded parts that change, the same for the same seed."""

from pathlib import Path

import pytest

from infra.problem import Problem
from tasks import pool as pools
from tasks.footage import Take
from tasks.pool import PERIOD_BATCHES, Pool
from tests.footage import listed, write_photographs, write_video

PHOTOGRAPH_BYTES = 3 * 176 * 176
pytestmark = pytest.mark.usefixtures("one_core")


def pool_of(folder: Path, *, bound_bytes: int, told: list[str] | None = None, seed: int = 1, rank: int = 0, frames: int = 6) -> Pool:
    notes: list[str] = [] if told is None else told
    found = Pool(listed(folder), frames=frames, side=32, bound_bytes=bound_bytes, seed=seed, rank=rank, told=notes.append)
    found.read()
    return found


def names(takes: list[Take]) -> list[str]:
    return [Path(take.name).name for take in takes]


def test_what_fits_is_held_as_a_whole_in_the_order_of_the_files(tmp_path: Path) -> None:
    write_photographs(tmp_path, 4)
    pool = pool_of(tmp_path, bound_bytes=4 * PHOTOGRAPH_BYTES)
    assert names(pool.takes(0)) == [f"photograph-{number}.png" for number in range(4)]
    assert pool.takes(10 * PERIOD_BATCHES) is pool.takes(0)
    pool.close()


def test_of_what_does_not_fit_parts_are_held_that_change_and_come_again_after_a_restart(tmp_path: Path) -> None:
    write_photographs(tmp_path, 12)
    pool = pool_of(tmp_path, bound_bytes=9 * PHOTOGRAPH_BYTES)
    parts = [names(pool.takes(period * PERIOD_BATCHES)) for period in range(8)]
    pool.close()
    assert all(len(part) == 3 for part in parts)
    assert len({name for part in parts for name in part}) >= 10
    again = pool_of(tmp_path, bound_bytes=9 * PHOTOGRAPH_BYTES)
    assert names(again.takes(5 * PERIOD_BATCHES + 1)) == parts[5]
    assert len(again._periods) <= 3
    again.close()
    other = pool_of(tmp_path, bound_bytes=9 * PHOTOGRAPH_BYTES, rank=1)
    assert [names(other.takes(period * PERIOD_BATCHES)) for period in range(4)] != parts[:4]
    other.close()


def test_one_file_does_not_crowd_out_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photographs(tmp_path, 8)
    write_video(tmp_path / "long.mp4", 70)
    monkeypatch.setattr("tasks.footage.TAKE_FRAMES", 10)
    pool = pool_of(tmp_path, bound_bytes=70 * PHOTOGRAPH_BYTES)
    for period in range(4):
        part = names(pool.takes(period * PERIOD_BATCHES))
        assert part.count("long.mp4") <= 1
        assert len(part) >= 5
    pool.close()


def test_what_cannot_be_read_is_told_once_and_left_out(tmp_path: Path) -> None:
    write_photographs(tmp_path, 1)
    write_photographs(tmp_path / "small", 1, side=100)
    write_video(tmp_path / "short.mp4", 3)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    told: list[str] = []
    pool = pool_of(tmp_path, bound_bytes=1 << 30, told=told)
    assert names(pool.takes(0)) == ["photograph-0.png"]
    pool.close()
    assert len(told) == 3
    assert any("broken.jpg: left out: CORRUPT" in text for text in told)
    assert sum("has no side of 160 pixels" in text for text in told) == 2
    assert all("\n" not in text for text in told)


def test_a_corpus_of_no_use_is_a_problem(tmp_path: Path) -> None:
    write_video(tmp_path / "short.mp4", 3)
    with pytest.raises(Problem, match="no photograph and no video of 6 frames"):
        pool_of(tmp_path, bound_bytes=1 << 30)


def test_a_video_is_of_use_where_its_end_alone_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part begins somewhere in a video; from its last frames on there is no take, so it is then taken from the start."""
    write_video(tmp_path / "a.mp4", 30)
    monkeypatch.setattr(pools.torch, "rand", lambda *_, **__: 0.999)
    pool = pool_of(tmp_path, bound_bytes=10 * 3 * 176 * 168, frames=20)
    assert len(pool.takes(0)[0].frames) == 30
    pool.close()
