"""Rows: inferred and restored clips in, Arrow tables out, one per feature, with the columns of the contract.

Knows the schema and the data model; writes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from models.prediction import Prediction
from tasks.encoded import EncodedClip, Failure
from tasks.enhance import Enhanced
from tasks.feature import Feature
from tasks.infer import DecodedClip, InferredClip
from tasks.schema import CLIPS, ENHANCED, FAILURES, TAGS, embeddings_schema

if TYPE_CHECKING:
    from models.quality import Quality

TAGS_PER_CLIP = 5
ETAG = pa.field("source_etag", pa.string())
STAGED = pa.field("staged", pa.string())
QUALITY = ("noise_before", "noise_after", "psnr_down_db", "flicker_before", "flicker_after", "before_jpeg", "after_jpeg")


def failure_rows(failures: Iterable[Failure], *, shard: str, run_id: str) -> pa.Table:
    """Failures as rows of the failures table."""
    rows = [
        {
            "clip_id": failure.clip_id,
            "member": failure.member,
            "shard": shard,
            "stage": failure.stage,
            "kind": str(failure.kind),
            "message": failure.message,
            "attempts": failure.attempts,
            "source_etag": failure.source_etag,
            "run_id": run_id,
            "failed_at": failure.failed_at,
        }
        for failure in failures
    ]
    return pa.Table.from_pylist(rows, FAILURES)


def feature_rows(feature: Feature, clips: Sequence[InferredClip], *, shard: str, per_frame: bool, labels: Sequence[str]) -> pa.Table:
    """Rows of one feature; clips without a value give none."""
    if feature.table == "clips":
        return pa.Table.from_pylist([_clip_row(clip.decoded, shard) for clip in clips if clip.decoded.info], CLIPS)
    found = [(clip.decoded, value) for clip in clips for name, value in clip.predictions if name == feature.model]
    if feature.table == "tags":
        return _tag_rows(found, shard, labels)
    return _embedding_rows(found, shard, per_frame=per_frame)


def enhanced_rows(clip: EncodedClip, found: "Enhanced[Quality]", *, shard: str, size_bytes: int, digest: str, staged: str) -> pa.Table:
    """The row of a restored clip, and as `staged` the name of its file, which has no address yet."""
    end_s, at = clip.start_s + found.duration_s if clip.end_s is None else clip.end_s, found.quality.sample_pts
    row = {
        "clip_id": clip.key,
        "video_id": clip.video_id,
        "shard": shard,
        "start_s": clip.start_s,
        "end_s": end_s,
        "source_etag": clip.source_etag,
        **{name: getattr(found, name) for name in ("width", "height", "fps", "frames", "duration_s", "codec", "has_audio", "elapsed_s", "gpu_s")},
        "size_bytes": size_bytes,
        "media_digest": digest,
        **{name: getattr(found.quality, name) for name in QUALITY},
        "sample_time_s": None if at is None else float((at - found.first_pts) * found.time_base),
        "staged": staged,
    }
    return pa.Table.from_pylist([row], ENHANCED.append(STAGED))


def _clip_row(decoded: DecodedClip, shard: str) -> dict[str, Any]:
    clip, info = decoded.clip, decoded.info
    assert info is not None
    return {
        **_of_a_clip(decoded, shard),
        "uri": clip.uri,
        "source_etag": clip.source_etag,
        "label": clip.label,
        "duration_s": info.duration_s,
        "fps": info.fps,
        "width": info.width,
        "height": info.height,
        "codec": info.codec,
        "frames": info.frames,
        "has_audio": info.has_audio,
        "size_bytes": clip.size_bytes,
    }


def _of_a_clip(decoded: DecodedClip, shard: str) -> dict[str, Any]:
    clip, info = decoded.clip, decoded.info
    assert info is not None
    end_s = clip.start_s + info.duration_s if clip.end_s is None else clip.end_s
    return {"clip_id": clip.key, "video_id": clip.video_id, "shard": shard, "start_s": clip.start_s, "end_s": end_s}


def _columns(found: Sequence[tuple[DecodedClip, Prediction]], shard: str) -> dict[str, list[Any]]:
    rows = [_of_a_clip(decoded, shard) for decoded, _ in found]
    return {name: [row[name] for row in rows] for name in ("clip_id", "video_id", "shard", "start_s", "end_s")}


def _with_etags(table: pa.Table, found: Sequence[tuple[DecodedClip, Prediction]]) -> pa.Table:
    return table.append_column(ETAG, pa.array([decoded.clip.source_etag for decoded, _ in found], pa.string()))


def _embedding_rows(found: Sequence[tuple[DecodedClip, Prediction]], shard: str, *, per_frame: bool) -> pa.Table:
    vectors = [prediction.embedding for _, prediction in found if prediction.embedding is not None]
    if not vectors:
        return pa.table({})
    schema = embeddings_schema(vectors[0].shape[1], per_frame=per_frame)
    columns: dict[str, Any] = _columns(found, shard)
    columns["embedding"] = _vectors(np.stack([vector.mean(axis=0, dtype=np.float32) for vector in vectors]), pa.float32())
    columns["frame_time_s"] = [decoded.time_s for decoded, _ in found]
    if per_frame:
        lengths = np.cumsum([0, *(len(vector) for vector in vectors)])
        frames = _vectors(np.concatenate(vectors).astype(np.float16), pa.float16())
        columns["frame_embedding"] = pa.ListArray.from_arrays(pa.array(lengths, pa.int32()), frames)
    return _with_etags(pa.table(columns, schema), found)


def _vectors(values: np.ndarray, kind: pa.DataType) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), kind), values.shape[1])


def _tag_rows(found: Sequence[tuple[DecodedClip, Prediction]], shard: str, labels: Sequence[str]) -> pa.Table:
    columns: dict[str, Any] = _columns(found, shard)
    columns["tags"] = [_best(prediction.probabilities.mean(axis=0), labels) for _, prediction in found if prediction.probabilities is not None]
    return _with_etags(pa.table(columns, TAGS), found)


def scored_rows(clips: Sequence[Mapping[str, Any]], scores: Sequence[np.ndarray], labels: Sequence[str], *, shard: str) -> pa.Table:
    """Rows of `tags` of published clips.

    Args:
        clips: rows of `clips`, with source_etag.
        scores: float32 [K] each, 0..1.
    """
    tagged = [{**clip, "shard": shard, "tags": _best(found, labels)} for clip, found in zip(clips, scores, strict=True)]
    return pa.Table.from_pylist(tagged, TAGS.append(ETAG))


def _best(scores: np.ndarray, labels: Sequence[str]) -> list[dict[str, Any]]:
    """The labels of the highest scores, best first."""
    best = np.argsort(-scores, kind="stable")[:TAGS_PER_CLIP]
    return [{"label": labels[index], "score": float(scores[index])} for index in best]
