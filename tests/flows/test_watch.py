"""Counts become snapshots: totals as soon as they are known, rates without start-up, an estimate that is sane."""

from types import SimpleNamespace
from typing import Any

import pytest

from flows import watch
from flows.watch import Watch
from tasks.encoded import Outcome, ShardEnd
from tasks.progress import ProgressSnapshot
from tasks.stint import Stint
from tasks.tally import Tally


class Recorder:
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.seen: list[ProgressSnapshot] = []

    def show(self, snapshot: ProgressSnapshot) -> None:
        self.seen.append(snapshot)

    def failure(self, text: str) -> None:
        raise AssertionError(text)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands until it is set."""
    now = SimpleNamespace(s=100.0)
    monkeypatch.setattr(watch.time, "monotonic", lambda: now.s)
    return now


def plan(shards: int, *, done: int = 0) -> Any:
    return SimpleNamespace(work=[None] * shards, done_shards=done, corpus=SimpleNamespace(shards=[None] * (shards + done), replacements=None))


def outcome(shard: str, clips: int, end: ShardEnd | None = None) -> Outcome:
    return Outcome(shard, clips, (), end, None)


def test_the_first_sight_is_the_plan_before_any_worker_runs(clock: SimpleNamespace) -> None:
    recorder = Recorder()
    Watch(plan(3, done=2), progress=recorder, started_s=clock.s)
    (first,) = recorder.seen
    assert (first.shards_done, first.shards_total, first.eta_s) == (2, 5, None)
    assert [stage.total for stage in first.stages] == [3, None, 3]
    assert first.stages[1].waiting == "Ray and the models to start"


def test_the_total_of_clips_is_known_once_every_shard_was_read(clock: SimpleNamespace) -> None:
    watching, tally = Watch(plan(2), progress=Recorder(), started_s=clock.s), Tally()
    tally.add(outcome("a", 8))
    tally.add(outcome("a", 2, ShardEnd(14, 0)))
    assert watching.snapshot(tally).stages[1].total is None
    tally.add(outcome("b", 6, ShardEnd(20, 0)))
    assert [stage.total for stage in watching.snapshot(tally).stages] == [2, 34, 2]


def test_speed_leaves_out_the_start_and_the_estimate_follows_it(clock: SimpleNamespace) -> None:
    watching, tally = Watch(plan(1), progress=Recorder(), started_s=clock.s), Tally()
    clock.s += 20
    tally.add(outcome("a", 8))
    assert watching.snapshot(tally).stages[1].per_s == pytest.approx(0.4)
    clock.s += 10
    tally.add(outcome("a", 40, ShardEnd(88, 0)))
    seen = watching.snapshot(tally)
    assert (seen.stages[1].per_s, seen.eta_s) == (pytest.approx(4.0), pytest.approx(10.0))


def test_before_all_is_read_the_estimate_goes_by_shards(clock: SimpleNamespace) -> None:
    watching, tally = Watch(plan(4), progress=Recorder(), started_s=clock.s), Tally()
    tally.add(outcome("a", 8))
    watching.snapshot(tally)
    clock.s += 30
    tally.add(outcome("a", 8, ShardEnd(16, 0)))
    assert watching.snapshot(tally).eta_s == pytest.approx(90.0)


def test_who_waits_for_whom_is_seen_by_what_the_stages_spent(clock: SimpleNamespace) -> None:
    watching, tally = Watch(plan(2), progress=Recorder(), started_s=clock.s), Tally()
    tally.spent((Stint("read", 0.1, 4.0), Stint("clip", 5.0, 0.1)))
    tally.add(outcome("a", 8))
    assert [stage.waiting for stage in watching.snapshot(tally).stages] == ["decode, infer", None, "the rest of 1 shard"]


def test_with_gpus_decoding_and_inference_are_stages_of_their_own(clock: SimpleNamespace) -> None:
    watching, tally = Watch(plan(2), progress=Recorder(), started_s=clock.s), Tally()
    tally.spent((Stint("read", 0.1, 4.0), Stint("decode", 5.0, 0.1), Stint("infer", 1.0, 5.0)))
    tally.add(outcome("a", 8))
    tally.add(outcome("b", 0, ShardEnd(0, 0)))
    seen = watching.snapshot(tally).stages
    assert [(stage.name, stage.waiting) for stage in seen] == [
        ("read", "decode"), ("decode", None), ("infer", "decode"), ("publish", "the rest of 1 shard"),
    ]  # fmt: skip


def test_what_is_read_waits_for_nobody(clock: SimpleNamespace) -> None:
    watching, tally = Watch(plan(1), progress=Recorder(), started_s=clock.s), Tally()
    tally.spent((Stint("read", 0.1, 4.0), Stint("clip", 5.0, 0.1)))
    tally.add(outcome("a", 8, ShardEnd(16, 0)))
    assert watching.snapshot(tally).stages[0].waiting is None
