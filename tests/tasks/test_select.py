"""Selectors take what they say; a slip is one line that says what there is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.problem import Problem
from tasks.select import exactly, selection_of

FAILURE = {"kind": "TIMEOUT", "stage": "decode", "clip_id": "-a_1_2", "member": "/c/part_0.tar!-a_1_2.mp4"}


def taken(*texts: str, shard: str = "part_0", **more: Any) -> bool:
    return selection_of(texts).takes({**FAILURE, **more}, shard)


@pytest.mark.parametrize(
    ("text", "takes"),
    [
        ("kind:TIMEOUT", True),
        ("kind:CORRUPT", False),
        ("kind:T*", True),
        ("kind:TIMEOUT,shard:part_?", True),
        ("kind:TIMEOUT,shard:part_1", False),
        ("stage:decode", True),
        ("stage:dec", False),
        ("clip:-a_*", True),
        ("member:*.mp4", True),
        ("state:failed", True),
        ("state:failed,kind:OOM", False),
        ("state:missing", False),
        ("state:altered,shard:part_0", False),
        ("state:*", True),
    ],
)
def test_a_selector_takes_failures_that_meet_all_it_says(text: str, takes: bool) -> None:
    assert taken(text) is takes


def test_several_selectors_take_what_meets_any() -> None:
    assert taken("kind:OOM", "clip:-a_1_2")
    assert not taken("kind:OOM", "clip:-a_1_3")


def test_a_member_without_clip_id_is_taken_by_its_member_and_by_no_clip() -> None:
    assert taken("member:*!-a*", clip_id=None)
    assert not taken("clip:None", clip_id=None)


def test_states_are_restricted_by_shard() -> None:
    selection = selection_of(["state:missing,shard:part_0", "state:altered,shard:part_1"])
    assert [selection.takes_missing_of(shard) for shard in ("part_0", "part_1", "part_2")] == [True, True, False]
    assert [selection.takes_altered_of(shard) for shard in ("part_0", "part_1", "part_2")] == [False, True, False]
    assert selection.takes_altered()
    assert not selection_of(["kind:OOM"]).takes_altered()
    assert not selection_of(["state:missing"]).takes_failures_of("part_0")
    assert selection_of(["kind:OOM,shard:part_0"]).takes_failures_of("part_0")
    assert not selection_of(["kind:OOM,shard:part_0"]).takes_failures_of("part_1")


@given(st.text(min_size=1))
def test_the_selector_of_one_clip_takes_that_clip_alone(clip_id: str) -> None:
    """Names hold commas, brackets and stars; `status` prints a selector for every one."""
    text = f"clip:{exactly(clip_id)}"
    assert taken(text, clip_id=clip_id)
    assert not taken(text, clip_id=clip_id + "x")


def test_special_characters_stand_for_themselves() -> None:
    assert exactly("a*[b],kind:c?") == "a[*][[]b][,]kind:c[?]"
    assert not taken(f"clip:{exactly('a*')}", clip_id="ab")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kid:TIMEOUT", ("kid is not a key", "one of kind, shard, stage, state, clip, member", "did you mean kind?")),
        ("TIMEOUT", ("'TIMEOUT' is not KEY:VALUE", "keys are kind, shard", "a comma means and")),
        ("kind:", ("'kind:' is not KEY:VALUE",)),
        ("kind:TIMEOT", ("there is no kind TIMEOT", "CORRUPT, NO_VIDEO", "did you mean TIMEOUT?")),
        ("kind:timeout", ("there is no kind timeout", "did you mean TIMEOUT?")),
        ("state:broken", ("there is no state broken", "one of failed, altered, missing")),
        ("kind:OOM,shart:x", ("shart is not a key", "did you mean shard?")),
        ("state:missing,kind:OOM", ("kind is a matter of failures", "combine state with shard only")),
    ],
)
def test_a_slip_is_one_line_that_says_what_there_is(text: str, words: tuple[str, ...]) -> None:
    with pytest.raises(Problem) as problem:
        selection_of([text])
    told = str(problem.value)
    assert told.startswith(f"--select {text}: ")
    assert "\n" not in told
    for word in words:
        assert word in told


def test_nothing_to_select_is_told() -> None:
    with pytest.raises(Problem, match="--select: is missing; name what to redo, such as kind:TIMEOUT"):
        selection_of([])


def test_a_value_may_stand_in_quotes() -> None:
    assert taken('clip:"-a_1_2"')
