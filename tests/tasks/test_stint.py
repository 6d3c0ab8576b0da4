"""Who waits for whom: everybody for the slowest, by the neighbour on the way to it, and nobody who has work."""

from hypothesis import given
from hypothesis import strategies as st

from tasks.stint import AT_WORK, waits


def test_reader_and_network_wait_for_the_decoder() -> None:
    assert waits({"read": 0.1, "decode": 0.95, "infer": 0.3}) == {"read": "decode", "infer": "decode"}


def test_a_slow_store_lets_everybody_wait_along_the_pipeline() -> None:
    assert waits({"read": 1.0, "decode": 0.2, "infer": 0.1}) == {"decode": "read", "infer": "decode"}


@given(st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.floats(0, 1)))
def test_the_busy_wait_for_nobody_and_every_wait_leads_to_the_slowest(busy: dict[str, float]) -> None:
    found, stages = waits(busy), list(busy)
    assert all(busy[stage] < AT_WORK for stage in found)
    for stage in found:
        other = found[stage]
        assert abs(stages.index(stage) - stages.index(other)) == 1
        slowest = max(stages, key=lambda name: busy[name])
        assert abs(stages.index(other) - stages.index(slowest)) < abs(stages.index(stage) - stages.index(slowest))
