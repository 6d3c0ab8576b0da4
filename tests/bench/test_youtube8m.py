"""The bench of YouTube-8M: rates by core, targets that can be missed, a table that says what a reader lost."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bench import youtube8m
from tests.bench.contenders import vidmill_records
from tests.bench.contenders.tensorflow_records import digest
from tests.bench.reading import report
from tests.bench.reading.report import PARQUET, PARSE, RAY, TFDATA, VIDMILL, Cost, Equality, Results
from tests.bench.youtube8m import Broken, arguments, run
from tests.tasks.test_export_youtube8m import framed, video_level
from tests.tasks.test_youtube8m import codes, frame_level


def cost(job: str, contender: str, core_s: float, *, megabytes: int = 100, peak_mb: float = 500, parquet: float | None = None) -> Cost:
    size = megabytes * 1_000_000
    return Cost(job, "frame", contender, 4 * megabytes, size, 2 * core_s, core_s, peak_mb, None if parquet is None else int(parquet * size))


def found(*, tfdata_s: float = 3.1, parquet_s: float = 0.9, ratio: float = 1.0, growth_mb: float = 10, different: int = 0) -> Results:
    costs = (
        *(cost(PARSE, VIDMILL, seconds) for seconds in (1.0, 50.0, 1.0)),  # one round disturbed
        cost(PARSE, TFDATA, tfdata_s),
        cost(PARQUET, VIDMILL, 2.0, parquet=ratio),
        cost(PARQUET, VIDMILL, 4 * parquet_s, megabytes=400, peak_mb=500 + growth_mb, parquet=1.0),
    )
    equal = (Equality("frame", "vidmill's Parquet", 400, different), Equality("frame", RAY, 400, 400, ("rgb", "audio"), "no types"))
    return Results("python -m tests.bench.youtube8m", "2026-11-22", {"cores": 2, "cpu": "x"}, {}, costs, equal)


def test_a_rate_is_the_median_of_the_smaller_shards_rounds() -> None:
    assert report.speed(found().costs, PARSE, "frame", VIDMILL) == (400.0, 100.0)
    assert report.speed(found().costs, PARQUET, "frame", VIDMILL) == (200.0, 50.0)
    assert report.speed(found().costs, PARQUET, "frame", VIDMILL, largest=True) == pytest.approx((400 / 0.9, 100 / 0.9))
    assert report.speed(found().costs, PARSE, "video", VIDMILL) is None


@pytest.mark.parametrize(
    ("harm", "missed"),
    [({}, None), ({"tfdata_s": 2.9}, 0), ({"parquet_s": 1.1}, 1), ({"ratio": 1.06}, 2), ({"growth_mb": 70}, 3), ({"different": 1}, 4)],
)
def test_every_target_can_be_missed(harm: dict[str, Any], missed: int | None) -> None:
    assert [one.met for one in found(**harm).targets] == [index != missed for index in range(5)]


def test_what_was_not_measured_is_no_miss() -> None:
    nothing = Results("", "", {}, {}, (), ())
    assert [one.met for one in nothing.targets] == [None] * 5


def test_the_file_comes_back_and_the_tables_say_what_was_lost(tmp_path: Path) -> None:
    report.write(found(), tmp_path / "found.json")
    assert report.read(tmp_path / "found.json") == found()
    text = report.text(found())
    assert "no rgb and no audio; it had to be told the features' types, for it said 'no types'" in text
    assert "| read and parse, frame level: vidmill | 400 | 100 | 500 |" in report.markdown(found())
    assert "MISSED" in report.text(found(different=1))


def test_vidmills_steps_find_the_same_values_there_and_back(tmp_path: Path) -> None:
    """All that needs no TensorFlow, in this process."""
    frames, means = {"rgb": codes(3, 1024), "audio": codes(3, 128)}, video_level("v")
    shard = tmp_path / "s.tfrecord"
    shard.write_bytes(b"".join(framed(record.SerializeToString()) for record in (frame_level(frames, name="f", labels=(7, 3)), means)))
    assert vidmill_records.parse(str(shard))["records"] == 2
    made = vidmill_records.parquet(str(shard), str(tmp_path / "out"))
    assert (made["records"], made["bytes"]) == (2, shard.stat().st_size)
    vectors = [np.array(means.features.feature[f"mean_{name}"].float_list.value, np.float32) for name in ("rgb", "audio")]
    wanted = {"f": digest([3, 7], list(frames.values())), "v": digest([3, 7], vectors)}
    assert vidmill_records.digests(str(tmp_path / "out")) == wanted
    assert vidmill_records.export(str(tmp_path / "out"), str(tmp_path / "to"))["bytes"] == (tmp_path / "to/s.tfrecord").stat().st_size


def test_a_step_that_fails_is_one_line() -> None:
    with pytest.raises(Broken, match="ValueError: no good"):
        youtube8m._step(["python", "-c", "raise ValueError('no good')"])
    assert youtube8m._step(["python", "-c", "print('words'); print('{}')"]) == {}


def test_the_whole_bench_runs_its_steps_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[str, ...]] = []

    def step(*words: object) -> Any:
        steps.append(tuple(map(str, words)))
        if words[0] == "digest":
            return {"a": "1"}
        same = {"records": 1, "bytes": 10, "wall_s": 1.0, "cpu_s": 1.0, "peak_mb": 1.0}
        return same | {"parquet_bytes": 10, "columns": ["id", "mean_rgb", "mean_audio"], "digests": {"a": "1"}, "refusal": ""}

    monkeypatch.setattr(youtube8m, "ours", step)
    monkeypatch.setattr(youtube8m, "theirs", step)
    measured = run(youtube8m.Bench(tmp_path, (1, 4), 1, youtube8m.PARTS))
    assert [one.different for one in measured.equalities] == [0] * 6
    assert [words[0] for words in steps[:3]] == ["make"] * 3
    assert [words[1] for words in steps if words[0] == "tagger"] == ["moe", "lstm", "netvlad", "transformer"]
    assert arguments(["--only", "taggers", "--quick"]).only == "taggers"
