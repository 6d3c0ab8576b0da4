"""Labels have names of their own, clips without any do not count, and all clips of a video are on one side."""

from collections import Counter

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tasks.schema import RECORD_CLIPS
from tasks.tagger_labels import Labelled, RatedSegment, Sides, labelled, most_frequent

IDS = st.text(min_size=1, max_size=11)


def clip(video_id: str, split: str | None = None) -> Labelled:
    return Labelled(video_id, video_id, split, {1: "a"}, ())


def test_records_are_labelled_by_id_and_by_name_where_there_is_one() -> None:
    rows = [
        {"clip_id": "a", "video_id": "a", "label_ids": [3, 7], "segments": [{"start_s": 0, "end_s": 5, "label_id": 7, "score": 1.0}]},
        {"clip_id": "b", "video_id": "b", "label_ids": [], "segments": []},
        {"clip_id": "c", "video_id": "c"},
    ]
    bare = pa.Table.from_pylist(rows, RECORD_CLIPS)
    (found,) = labelled(bare)
    assert (found.clip_id, found.names) == ("a", {3: "3", 7: "7"})
    assert found.segments == (RatedSegment(0, 5, 7, True),)
    named = bare.append_column("labels", pa.array([["Guitar", None], [], None], pa.list_(pa.string())))
    assert [clip.names for clip in labelled(named)] == [{3: "Guitar", 7: "7"}]


def test_clips_of_videos_are_labelled_by_their_label() -> None:
    rows = pa.table({"clip_id": ["a", "b"], "video_id": ["v", "v"], "label": ["abseiling", None], "split": ["train", None]})
    (found,) = labelled(rows)
    assert (found.names, found.split) == ({"abseiling": "abseiling"}, "train")


def test_the_most_frequent_are_learned_and_shared_names_are_told_apart() -> None:
    counts: Counter[tuple[int | str, str]] = Counter({(1, "Mercury"): 4, (2, "Mercury"): 3, (3, "Zebra"): 3, (4, "Ant"): 2})
    assert [(label.key, label.name, label.count) for label in most_frequent(counts, 3)] == [
        (1, "Mercury (1)", 4),
        (2, "Mercury (2)", 3),
        (3, "Zebra", 3),
    ]
    assert [label.name for label in most_frequent(counts, 1)] == ["Mercury"]


@given(IDS, st.floats(0, 1), st.floats(0, 1))
def test_a_video_stays_held_out_when_more_are(video_id: str, share: float, more: float) -> None:
    low, high = sorted((share, more))
    assert not Sides(low).is_held_out(clip(video_id)) or Sides(high).is_held_out(clip(video_id))
    assert not Sides(0).is_held_out(clip(video_id))
    assert Sides(1).is_held_out(clip(video_id))


def test_the_share_is_about_what_was_asked_for() -> None:
    assert 250 < sum(Sides(0.3).is_held_out(clip(f"v{number}")) for number in range(1000)) < 350


def test_a_split_decides_where_one_is_named() -> None:
    assert [Sides(0.1, "val").is_held_out(clip("a", split)) for split in ("val", "train", None)] == [True, False, False]
