"""Choices take the clips they say, by any column, and ask each distinct value once."""

from fnmatch import fnmatchcase

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tasks.choice import choice_of, columns_of, meets_any

CLIPS = pa.table(
    {
        "clip_id": ["a", "b", "c", "d"],
        "label": ["shot put, indoor", None, "yoga", "yoga"],
        "width": pa.array([640, 320, 640, None], pa.int32()),
        "has_audio": [True, False, None, True],
        "labels": [["Guitar", "Concert"], [], None, ["Concert"]],
    }
)


def taken(*texts: str) -> str:
    selectors = choice_of(texts).of_shard("part_0", "clips")
    if selectors is None:
        return "nothing"
    if not selectors:
        return "all"
    return "".join(CLIPS.filter(meets_any(CLIPS, selectors))["clip_id"].to_pylist())


def test_conditions_on_columns_are_joined_by_and_and_selectors_by_or() -> None:
    assert taken() == "all"
    assert taken("label:yoga") == "cd"
    assert taken("label:yoga,width:640") == "c"
    assert taken("label:yoga,width:640", "clip:b") == "bc"
    assert taken("label:shot put, indoor") == "a"
    assert taken('label:""') == "b"
    assert taken("has_audio:true") == "ad"
    assert taken("labels:Con*") == "ad"
    assert taken("label:nothing") == ""


def test_shards_and_what_they_lack_are_conditions_too() -> None:
    assert taken("shard:part_*") == "all"
    assert taken("shard:part_1") == "nothing"
    assert taken("shard:part_1", "clip:a") == "a"
    assert taken("shard:part_0,label:yoga") == "cd"
    assert (taken("missing:clips"), taken("missing:"), taken("missing:shards")) == ("all", "nothing", "nothing")
    assert choice_of(["missing:"]).of_shard("part_0", "shards") == ()
    assert columns_of(choice_of(["video:v,clip:a", "label:x"]).selectors) == ["clip_id", "label", "video_id"]


@given(st.lists(st.none() | st.text("ab*?[] ", max_size=4), max_size=8), st.text("ab*?[]", min_size=1, max_size=4))
def test_a_column_is_compared_as_a_glob_value_by_value(values: list[str | None], pattern: str) -> None:
    clips = pa.table({"label": pa.array(values, pa.string())})
    found = meets_any(clips, choice_of([f"label:{pattern}"]).selectors).to_pylist()
    assert found == [fnmatchcase(value or "", pattern) for value in values]
