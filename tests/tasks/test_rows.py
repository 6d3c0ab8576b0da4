"""Inferred clips become rows with the columns of the contract; a clip without a value gives none."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.prediction import Prediction
from tasks.clip import FailureKind
from tasks.encoded import EncodedClip, Failure
from tasks.feature import Feature
from tasks.infer import DecodedClip, InferredClip
from tasks.rows import ETAG, TAGS_PER_CLIP, failure_rows, feature_rows
from tasks.schema import CLIPS as CLIPS_SCHEMA
from tasks.schema import FAILURES, TAGS, embeddings_schema
from tests.tasks.shards import CLIPS, EMBEDDINGS, INFO, MODEL, NAMES, OTHER, failure, inferred
from tests.tasks.shards import TAGS as TAGS_FEATURE


def rows(feature: Feature, *clips: InferredClip, per_frame: bool = False, labels: tuple[str, ...] = NAMES) -> pa.Table:
    return feature_rows(feature, clips, shard="s", per_frame=per_frame, labels=labels)


def failed_clip(key: str) -> InferredClip:
    light = EncodedClip(key, key, f"/{key}.mp4", "v1", 1, 0.0, None)
    return InferredClip(DecodedClip(light, None, failure=failure(key)), (), (failure(key),))


def test_clips_tell_what_was_measured() -> None:
    table = rows(CLIPS, inferred("a"), failed_clip("x"))
    assert table.schema.equals(CLIPS_SCHEMA)
    assert table.to_pylist() == [
        {
            "clip_id": "a", "video_id": "a", "shard": "s", "uri": "/corpus/part_0.tar!a.mp4", "source_etag": "v1", "start_s": 1.0, "end_s": 3.0,
            "label": None, "split": None, "duration_s": 2.0, "fps": 10.0, "width": 160, "height": 128, "codec": "h264", "frames": 20,
            "has_audio": False, "size_bytes": 1000,
        }
    ]  # fmt: skip


def test_a_clip_without_announced_end_ends_with_its_video() -> None:
    clip = EncodedClip("k", "k", "/k.mp4", "v1", 1, 5.0, None)
    assert rows(CLIPS, InferredClip(DecodedClip(clip, INFO), (), ()))["end_s"].to_pylist() == [7.0]


@pytest.mark.parametrize("per_frame", [False, True])
def test_an_embedding_is_the_mean_over_frames(per_frame: bool) -> None:
    clips = [inferred("a", frames=3), failed_clip("x"), inferred("b", frames=1), inferred("c", models=())]
    table = rows(EMBEDDINGS, *clips, per_frame=per_frame)
    assert table.schema.equals(embeddings_schema(4, per_frame=per_frame).append(ETAG))
    assert table["clip_id"].to_pylist() == ["a", "b"]
    for index, clip in enumerate((clips[0], clips[2])):
        embedding = clip.predictions[0][1].embedding
        assert embedding is not None
        np.testing.assert_allclose(table["embedding"][index].as_py(), embedding.mean(axis=0), rtol=1e-6)
        assert table["frame_time_s"][index].as_py() == list(range(len(embedding)))
        if per_frame:
            assert table["frame_embedding"][index].as_py() == embedding.astype(np.float16).tolist()


def test_no_value_no_row() -> None:
    for feature in (EMBEDDINGS, TAGS_FEATURE, OTHER):
        assert rows(feature, failed_clip("x"), inferred("c", models=())).num_rows == 0
    assert rows(OTHER, inferred("a", models=(MODEL,))).num_rows == 0


@given(st.integers(1, 9), st.integers(1, 6), st.integers(0, 99))
def test_tags_come_best_first_and_their_scores_are_probabilities(classes: int, frames: int, seed: int) -> None:
    odds = np.random.default_rng(seed).random((frames, classes)).astype(np.float32) + 1e-3
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    clip = inferred("a", models=())
    names = tuple(f"class {number}" for number in range(classes))
    table = rows(TAGS_FEATURE, InferredClip(clip.decoded, ((MODEL, Prediction(None, probabilities)),), ()), labels=names)
    assert table.schema.equals(TAGS.append(ETAG))
    tags = table["tags"][0].as_py()
    mean = probabilities.mean(axis=0)
    assert len(tags) == min(classes, TAGS_PER_CLIP)
    scores = [tag["score"] for tag in tags]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) <= 1 + 1e-5
    assert scores == pytest.approx(sorted(mean.tolist(), reverse=True)[: len(tags)])
    assert all(tag["score"] == pytest.approx(mean[names.index(tag["label"])]) for tag in tags)


def test_failures_keep_everything_there_is_to_know() -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    one = Failure(None, "/a.tar!x.mp4", "read", FailureKind.BAD_NAME, "why", "e", attempts=2, failed_at=at)
    table = failure_rows([one], shard="s", run_id="r")
    assert table.schema.equals(FAILURES)
    assert table.to_pylist() == [
        {
            "clip_id": None, "member": "/a.tar!x.mp4", "shard": "s", "stage": "read", "kind": "BAD_NAME", "message": "why", "attempts": 2,
            "source_etag": "e", "run_id": "r", "failed_at": at,
        }
    ]  # fmt: skip
