"""A shard is complete when all its clips and its end came, in whatever order, and never when something went wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.encoded import Outcome, ShardEnd
from tasks.stint import Stint
from tasks.tally import Tally, allowed_failures
from tests.tasks.shards import failure


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[Outcome], set[str]]:
    """Outcomes of some shards, shuffled, and the shards of which a problem was reported."""
    outcomes, troubled = [], set()
    for shard in ("a", "b", "c"):
        parcels = draw(st.lists(st.integers(1, 8), max_size=5))
        problems = draw(st.lists(st.sampled_from([None, None, None, "the disk is full"]), min_size=len(parcels) + 1, max_size=len(parcels) + 1))
        clips = [Outcome(shard, count, (), None, problem) for count, problem in zip(parcels, problems, strict=False)]
        end = ShardEnd(sum(parcels), 2, problems[-1])
        outcomes += [*clips, Outcome(shard, 0, (), end, None)]
        troubled |= {shard} if any(problems) else set()
    return draw(st.permutations(outcomes)), troubled


@given(runs())
def test_a_shard_is_complete_exactly_once_and_with_its_last_outcome(run: tuple[list[Outcome], set[str]]) -> None:
    outcomes, troubled = run
    tally, complete = Tally(), []
    for number, outcome in enumerate(outcomes):
        if tally.add(outcome):
            complete.append(outcome.shard)
            assert not [left for left in outcomes[number + 1 :] if left.shard == outcome.shard and (left.clips or left.end)]
    assert sorted(complete) == sorted({"a", "b", "c"} - troubled)
    assert tally.clips == sum(outcome.clips for outcome in outcomes)
    assert (tally.read_shards, tally.known) == (3, 6)
    assert bool(tally.problems) is bool(troubled)
    assert set(tally.counts) == troubled


def test_clips_fail_once_each_whatever_fails_in_them() -> None:
    """Windows of one video share its address; two models may fail on one clip."""
    tally = Tally()
    windows = [failure(key) for key in ("v.mp4#0", "v.mp4#10000")]
    windows = [type(one)(one.clip_id, "/v.mp4", one.stage, one.kind, one.message, one.source_etag) for one in windows]
    tally.add(Outcome("s", 5, (*windows, failure("b", stage="m"), failure("b", stage="n")), None, None))
    assert (tally.failed, tally.clips) == (3, 5)


def test_later_parts_of_a_run_are_counted_apart() -> None:
    first, tagging, enhancement = Tally(clips=5, failed=1, problems=["a"]), Tally(clips=4, failed=2), Tally(clips=3, problems=["b"])
    found = first.joined(tagging=tagging, enhancement=enhancement)
    assert (found.clips, found.tagged, found.enhanced, found.failed, found.problems) == (5, 4, 3, 3, ["a", "b"])


@pytest.mark.parametrize(
    ("max_failed", "clips", "allowed"),
    [
        (0, 10_000, 0),
        (0.1, 0, 10),
        (0.1, 99, 10),
        (0.1, 1_000, 100),
        (0.1, 1_009, 100),
        (0.29, 100, 29),  # 28.999999999999996 in floats
        (0.57, 50, 57),
        (0.001, 100, 0),
        (1, 10_000, 1),
        (5, 3, 5),
        (2.9, 10_000, 2),
    ],
)
def test_a_share_counts_over_at_least_a_hundred_clips_and_else_it_is_a_count(max_failed: float, clips: int, allowed: int) -> None:
    assert allowed_failures(max_failed, clips) == allowed


def test_how_busy_the_stages_are_is_told_by_their_latest_parcels() -> None:
    tally = Tally()
    for _ in range(100):
        tally.spent((Stint("read", 1.0, 0.0), Stint("clip", 1.0, 1.0)))
    for _ in range(64):
        tally.spent((Stint("read", 0.0, 1.0), Stint("clip", 3.0, 1.0)))
    assert tally.busy() == {"read": 0.0, "clip": 0.75}
