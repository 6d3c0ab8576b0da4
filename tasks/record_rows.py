"""Rows of YouTube-8M's records: parsed records in, Arrow tables out, with the columns of the contract.

    clips         labels and segments as the record has them; a second is a frame
    embeddings    the mean, dequantised, and every frame as the codes it is stored in

Codes are joined without a Python object per frame. Knows the schema and the data model; writes nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.encoded import EncodedClip
from tasks.schema import RECORD_CLIPS, record_embeddings_schema
from tasks.youtube8m import LOWEST, STEP, WIDTHS, Record

ETAG = pa.field("source_etag", pa.string())
DEQUANTISATION = f"value = code * {STEP!r} + {LOWEST!r}"

Parsed = tuple[EncodedClip, Record]


def clip_rows(parsed: Sequence[Parsed], *, shard: str) -> pa.Table:
    """One row for each record."""
    return pa.Table.from_pylist([_clip_row(clip, record, shard) for clip, record in parsed], RECORD_CLIPS)


def embedding_rows(parsed: Sequence[Parsed], feature: str, *, shard: str) -> pa.Table:
    """One row for each record that has the feature, "rgb" or "audio"."""
    found = [(clip, record, mean) for clip, record in parsed if (mean := record.mean(feature)) is not None]
    if not found:
        return pa.table({})
    width = WIDTHS[feature]
    codes = [record.frames.get(feature, np.empty((0, width), np.uint8)) for _, record, _ in found]
    columns: dict[str, Any] = _columns([_of_a_clip(clip, record, shard) for clip, record, _ in found])
    means = np.stack([mean for _, _, mean in found])
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(pa.array(means.ravel(), pa.float32()), width)
    columns["frame_time_s"] = [np.arange(len(rows), dtype=np.float32) for rows in codes]
    columns["frame_codes"] = _lists(codes, width)
    table = pa.table(columns, record_embeddings_schema(width, dequantisation=DEQUANTISATION))
    return table.append_column(ETAG, pa.array([clip.source_etag for clip, _, _ in found], pa.string()))


def _lists(codes: Sequence[np.ndarray], width: int) -> pa.ListArray:
    together = np.concatenate(codes)
    values = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(together), [None, pa.py_buffer(together)])
    return pa.ListArray.from_arrays(pa.array(np.cumsum([0, *map(len, codes)]), pa.int32()), values)


def _columns(rows: Sequence[Mapping[str, object]]) -> dict[str, list[object]]:
    return {name: [row[name] for row in rows] for name in ("clip_id", "video_id", "shard", "start_s", "end_s")}


def _clip_row(clip: EncodedClip, record: Record, shard: str) -> dict[str, Any]:
    return {
        **_of_a_clip(clip, record, shard),
        "uri": clip.uri,
        "source_etag": clip.source_etag,
        "duration_s": _seconds(record),
        "fps": 1.0 if record.frames else None,
        "frames": _frames(record),
        "has_audio": "audio" in record.frames or "audio" in record.means,
        "size_bytes": clip.size_bytes,
        "label_ids": list(record.labels),
        "segments": [
            {"start_s": segment.start_s, "end_s": segment.end_s, "label_id": segment.label, "score": segment.score} for segment in record.segments
        ],
        "notes": list(record.notes) or None,
    }


def _of_a_clip(clip: EncodedClip, record: Record, shard: str) -> dict[str, Any]:
    return {"clip_id": clip.key, "video_id": clip.video_id, "shard": shard, "start_s": 0.0, "end_s": _seconds(record)}


def _frames(record: Record) -> int | None:
    """Of the feature with the most; unknown at video level."""
    return max(map(len, record.frames.values()), default=None)


def _seconds(record: Record) -> float | None:
    """Frames are a second apart."""
    frames = _frames(record)
    return None if frames is None else float(frames)
