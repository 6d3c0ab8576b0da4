"""Rows hold what the record holds: every code, every label, every segment; the mean as numbers."""

import numpy as np
import pytest

from tasks.encoded import EncodedClip
from tasks.record_rows import Parsed, clip_rows, embedding_rows
from tasks.schema import RECORD_CLIPS
from tasks.youtube8m import LOWEST, STEP, WIDTHS, Record, Segment

RANDOM = np.random.default_rng(0)


def parsed(name: str, frames: int, *, features: tuple[str, ...] = ("rgb", "audio")) -> Parsed:
    codes = {feature: RANDOM.integers(0, 256, (frames, WIDTHS[feature] + 7), np.uint8)[:, 7:] for feature in features}  # not contiguous, as parsed
    clip = EncodedClip(name, name, f"s3://b/train00.tfrecord!{frames}", f"etag {name}", 1000 + frames, 0.0, None)
    return clip, Record(name, (3, 7), codes, {}, (Segment(0, 5, 3, 1.0),))


def test_every_code_is_in_the_table_with_its_formula() -> None:
    records = [parsed("a", 3), parsed("b", 300), parsed("c", 1, features=("rgb",))]
    for feature, names in (("rgb", ["a", "b", "c"]), ("audio", ["a", "b"])):
        table = embedding_rows(records, feature, shard="train00")
        assert table["clip_id"].to_pylist() == names
        for row, (_, record) in zip(table.to_pylist(), records, strict=False):
            codes = np.frombuffer(b"".join(row["frame_codes"]), np.uint8).reshape(-1, WIDTHS[feature])
            assert np.array_equal(codes, record.frames[feature])
            assert row["embedding"] == pytest.approx((codes * STEP + LOWEST).mean(0), abs=1e-6)
            assert row["frame_time_s"] == list(range(len(codes)))
            assert (row["start_s"], row["end_s"]) == (0.0, float(len(codes)))
        assert table.field("frame_codes").metadata[b"unit"] == b"uint8; value = code * 0.01568627450980392 + -1.9921875"


def test_a_video_level_record_has_a_mean_and_no_codes() -> None:
    mean = RANDOM.standard_normal(128).astype(np.float32)
    clip, _ = parsed("a", 1)
    (row,) = embedding_rows([(clip, Record("a", (1,), means={"audio": mean}))], "audio", shard="s").to_pylist()
    assert row["embedding"] == mean.tolist()
    assert row["frame_codes"] == row["frame_time_s"] == []
    assert row["end_s"] is None


def test_no_record_with_the_feature_gives_no_rows() -> None:
    assert embedding_rows([parsed("a", 2, features=("rgb",))], "audio", shard="s").num_rows == 0


def test_a_clip_says_what_the_record_says() -> None:
    table = clip_rows([parsed("a", 3), parsed("b", 4, features=("rgb",))], shard="train00")
    assert table.schema.equals(RECORD_CLIPS)
    first, second = table.to_pylist()
    assert (first["label_ids"], first["frames"], first["duration_s"], first["fps"], first["has_audio"]) == ([3, 7], 3, 3.0, 1.0, True)
    assert first["segments"] == [{"start_s": 0, "end_s": 5, "label_id": 3, "score": 1.0}]
    assert (second["has_audio"], second["uri"], second["size_bytes"]) == (False, "s3://b/train00.tfrecord!4", 1004)
