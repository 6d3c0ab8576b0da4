"""The columns of the contract, by name, type and unit (DESIGN section 4)."""

import pyarrow as pa

from tasks.schema import CLIPS, FAILURES, TAGS, embeddings_schema

OF_A_CLIP = {"clip_id": "string", "video_id": "string", "shard": "string", "start_s": "double", "end_s": "double"}


def types(schema: pa.Schema) -> dict[str, str]:
    return {field.name: str(field.type) for field in schema}


def units(schema: pa.Schema) -> dict[str, bytes]:
    return {field.name: field.metadata[b"unit"] for field in schema if field.metadata}


def test_clips() -> None:
    assert types(CLIPS) == {
        "clip_id": "string", "video_id": "string", "shard": "string", "uri": "string", "source_etag": "string", "start_s": "double",
        "end_s": "double", "label": "string", "split": "string", "duration_s": "double", "fps": "double", "width": "int32", "height": "int32",
        "codec": "string", "frames": "int64", "has_audio": "bool", "size_bytes": "int64",
    }  # fmt: skip
    assert units(CLIPS) == {
        "start_s": b"s", "end_s": b"s", "duration_s": b"s", "fps": b"1/s", "width": b"px", "height": b"px", "size_bytes": b"B"
    }  # fmt: skip


def test_embeddings() -> None:
    plain = {**OF_A_CLIP, "embedding": "fixed_size_list<item: float>[7]", "frame_time_s": "list<item: float>"}
    assert types(embeddings_schema(7, per_frame=False)) == plain
    nested = "list<item: fixed_size_list<item: halffloat>[7]>"
    assert types(embeddings_schema(7, per_frame=True)) == {**plain, "frame_embedding": nested}
    assert units(embeddings_schema(7, per_frame=True)) == {"start_s": b"s", "end_s": b"s", "frame_time_s": b"s"}


def test_tags() -> None:
    assert types(TAGS) == {**OF_A_CLIP, "tags": "list<item: struct<label: string, score: float>>"}


def test_failures() -> None:
    assert types(FAILURES) == {
        "clip_id": "string", "member": "string", "shard": "string", "stage": "string", "kind": "string", "message": "string",
        "attempts": "int32", "source_etag": "string", "run_id": "string", "failed_at": "timestamp[us, tz=UTC]",
    }  # fmt: skip
