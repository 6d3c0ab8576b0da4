"""Every level of YouTube-8M's records becomes the same thing; what is missing or odd is told by name and the rest is kept."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tasks.clip import ClipError, FailureKind
from tasks.example_pb2 import Example, Features, SequenceExample
from tasks.youtube8m import LOWEST, STEP, WIDTHS, Segment, mean_of, parse

RANDOM = np.random.default_rng(0)


def codes(frames: int, width: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (frames, width), np.uint8)


def put(features: Features, name: str | None = "abcd", key: str = "id", labels: tuple[int, ...] = (3, 7)) -> None:
    if name is not None:
        features.feature[key].bytes_list.value.append(name.encode())
    features.feature["labels"].int64_list.value.extend(labels)


def frame_level(lists: dict[str, np.ndarray], **context: object) -> SequenceExample:
    record = SequenceExample()
    put(record.context, **context)  # type: ignore[arg-type]
    for key, rows in lists.items():
        wanted = record.feature_lists.feature_list[key]
        for row in rows:
            wanted.feature.add().bytes_list.value.append(row.tobytes())
    return record


def test_a_frame_level_record_keeps_every_code() -> None:
    lists = {"rgb": codes(231, 1024), "audio": codes(231, 128)}
    found = parse(frame_level(lists).SerializeToString())
    assert (found.id, found.labels, found.faults, found.notes) == ("abcd", (3, 7), {}, ())
    for name, wanted in lists.items():
        assert np.array_equal(found.frames[name], wanted)
        mean = found.mean(name)
        assert mean is not None
        assert mean == pytest.approx((wanted * 4.0 / 255 - 1.9921875).mean(0), abs=1e-6)
        assert mean.dtype == np.float32


@given(arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 8))))
def test_a_mean_is_the_published_formulas(frames: np.ndarray) -> None:
    wanted = (frames.astype(np.float64) * STEP + LOWEST).mean(0)
    assert mean_of(frames) == pytest.approx(wanted, abs=1e-6)


def test_a_video_level_record_has_its_own_means() -> None:
    record = Example()
    put(record.features, key="video_id")
    means = {name: RANDOM.standard_normal(width).astype(np.float32) for name, width in WIDTHS.items()}
    for name, mean in means.items():
        record.features.feature[f"mean_{name}"].float_list.value.extend(mean)
    found = parse(record.SerializeToString())
    assert (found.id, found.frames, found.faults) == ("abcd", {}, {})
    for name, mean in means.items():
        assert np.array_equal(found.means[name], mean)
        assert found.mean(name) is found.means[name]


def test_segments_are_kept_with_their_ratings() -> None:
    record = frame_level({"rgb": codes(10, 1024), "audio": codes(10, 128)})
    for key, values in (("start_times", (0, 5)), ("end_times", (5, 10)), ("labels", (3, 3))):
        record.context.feature[f"segment_{key}"].int64_list.value.extend(values)
    record.context.feature["segment_scores"].float_list.value.extend((1.0, 0.0))
    assert parse(record.SerializeToString()).segments == (Segment(0, 5, 3, 1.0), Segment(5, 10, 3, 0.0))
    record.context.feature["segment_scores"].float_list.value.pop()
    with pytest.raises(ClipError, match="2 starts, 2 ends, 2 labels and 1 scores") as caught:
        parse(record.SerializeToString())
    assert caught.value.kind is FailureKind.BAD_RECORD


@pytest.mark.parametrize(
    ("audio", "fault"),
    [
        (None, "the record has neither audio nor mean_audio"),
        (codes(0, 128), "audio has no frames"),
        (codes(5, 127), "audio has frames of 127 bytes, not of 128"),
    ],
)
def test_what_one_feature_lacks_costs_the_other_nothing(audio: np.ndarray | None, fault: str) -> None:
    rgb = codes(5, 1024)
    found = parse(frame_level({"rgb": rgb} | ({} if audio is None else {"audio": audio})).SerializeToString())
    assert found.faults == {"audio": fault}
    assert np.array_equal(found.frames["rgb"], rgb)


def test_frames_of_several_widths_are_told() -> None:
    record = frame_level({"rgb": codes(5, 1024), "audio": codes(2, 128)})
    record.feature_lists.feature_list["audio"].feature.add().bytes_list.value.append(b"x")
    assert parse(record.SerializeToString()).faults == {"audio": "audio has frames of 1 to 128 bytes, not of 128"}


def test_frames_of_numbers_cost_no_other_feature_and_no_mean() -> None:
    """As vidmill itself exports the frames of other models."""
    record = frame_level({"rgb": codes(2, 1024)})
    record.feature_lists.feature_list["audio"].feature.add().float_list.value.extend([1.0] * 128)
    found = parse(record.SerializeToString())
    assert (len(found.frames["rgb"]), found.mean("audio")) == (2, None)
    assert found.faults == {"audio": "audio cannot be read: a feature list's feature does not hold one byte string"}


def test_fields_that_nobody_knows_are_no_numbers() -> None:
    record = Example()
    put(record.features)
    record.features.feature["mean_audio"].float_list.value.extend([1.0] * 128)
    floats = record.features.feature["mean_audio"].float_list
    floats.MergeFromString(b"\x7a\x04\x01\x02\x03\x04")  # field 15, four bytes
    mean = parse(record.SerializeToString()).mean("audio")
    assert mean is not None
    assert np.array_equal(mean, np.ones(128, np.float32))


def test_more_frames_than_the_data_set_has_are_kept_and_told() -> None:
    found = parse(frame_level({"rgb": codes(301, 1024), "audio": codes(300, 128)}).SerializeToString())
    assert (len(found.frames["rgb"]), found.faults) == (301, {})
    assert found.notes == ("rgb has 301 frames, more than 300; all are kept",)


NAMELESS = {
    "no id": frame_level({}, name=None).SerializeToString(),
    "an empty id": frame_level({}, name="").SerializeToString(),
    "nothing": b"",
    "no message": b"\x0a\x7f",
}


@pytest.mark.parametrize("data", NAMELESS.values(), ids=NAMELESS)
def test_what_has_no_id_is_a_bad_record(data: bytes) -> None:
    with pytest.raises(ClipError, match="fetch the shard again") as caught:
        parse(data)
    assert caught.value.kind is FailureKind.BAD_RECORD
