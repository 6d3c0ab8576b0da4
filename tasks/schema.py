"""The columns of every table, with units; what a user reads and what travels between the stages.

Knows Arrow and the names of the contract (DESIGN section 4), nothing of where files lie.
"""

import pyarrow as pa

SCHEMA_VERSION = "2"


def _field(name: str, kind: pa.DataType, unit: str | None = None) -> pa.Field:
    return pa.field(name, kind, metadata={"unit": unit} if unit else None)


CLIPS = pa.schema(
    [
        _field("clip_id", pa.string()),
        _field("video_id", pa.string()),
        _field("shard", pa.string()),
        _field("uri", pa.string()),
        _field("source_etag", pa.string()),
        _field("start_s", pa.float64(), "s"),
        _field("end_s", pa.float64(), "s"),
        _field("label", pa.string()),
        _field("split", pa.string()),
        _field("duration_s", pa.float64(), "s"),
        _field("fps", pa.float64(), "1/s"),
        _field("width", pa.int32(), "px"),
        _field("height", pa.int32(), "px"),
        _field("codec", pa.string()),
        _field("frames", pa.int64()),
        _field("has_audio", pa.bool_()),
        _field("size_bytes", pa.int64(), "B"),
    ]
)

FAILURES = pa.schema(
    [
        _field("clip_id", pa.string()),
        _field("member", pa.string()),
        _field("shard", pa.string()),
        _field("stage", pa.string()),
        _field("kind", pa.string()),
        _field("message", pa.string()),
        _field("attempts", pa.int32()),
        _field("source_etag", pa.string()),
        _field("run_id", pa.string()),
        _field("failed_at", pa.timestamp("us", "UTC")),
    ]
)

TAGS_TYPE = pa.list_(pa.struct([pa.field("label", pa.string()), pa.field("score", pa.float32())]))

_OF_A_CLIP = [CLIPS.field(name) for name in ("clip_id", "video_id", "shard", "start_s", "end_s")]

TAGS = pa.schema([*_OF_A_CLIP, pa.field("tags", TAGS_TYPE)])


ENHANCED = pa.schema(
    [
        *_OF_A_CLIP,
        _field("source_etag", pa.string()),  # of what the media was made from: media is kept when other clips of the shard change
        _field("uri", pa.string()),
        _field("width", pa.int32(), "px"),
        _field("height", pa.int32(), "px"),
        _field("fps", pa.float64(), "1/s"),
        _field("frames", pa.int64()),
        _field("duration_s", pa.float64(), "s"),
        _field("size_bytes", pa.int64(), "B"),
        _field("codec", pa.string()),
        _field("has_audio", pa.bool_()),
        _field("media_digest", pa.string(), "xxh3_128 of the file, 32 hex digits"),
        _field("noise_before", pa.float64(), "standard deviation of luma noise, 0..255"),
        _field("noise_after", pa.float64(), "standard deviation of luma noise, 0..255"),
        _field("psnr_down_db", pa.float64(), "dB, of the result brought to the input's size against the input"),
        _field("flicker_before", pa.float64(), "mean absolute second difference of luma in time where it stands still, 0..255"),
        _field("flicker_after", pa.float64(), "mean absolute second difference of luma in time where it stands still, 0..255"),
        _field("elapsed_s", pa.float64(), "s"),
        _field("gpu_s", pa.float64(), "s"),
        _field("sample_time_s", pa.float64(), "s, of the crops, from the clip's first frame"),
        _field("before_jpeg", pa.binary()),
        _field("after_jpeg", pa.binary()),
    ]
)


SEGMENTS = pa.list_(
    pa.struct([_field("start_s", pa.int64(), "s"), _field("end_s", pa.int64(), "s"), _field("label_id", pa.int64()), _field("score", pa.float32())])
)
# Of YouTube-8M. notes: what is unusual of a record and was taken as it is, such as more than 300 frames; null for nearly all.
RECORD_CLIPS = pa.schema([*CLIPS, _field("label_ids", pa.list_(pa.int64())), _field("segments", SEGMENTS), _field("notes", pa.list_(pa.string()))])


def record_embeddings_schema(size: int, *, dequantisation: str) -> pa.Schema:
    """Columns of an embeddings table that comes out of records: the mean as numbers, the frames as the codes they are stored in.

    Args:
        dequantisation: the formula from code to value, for whoever reads the codes.
    """
    return pa.schema([*embeddings_schema(size, per_frame=False), _field("frame_codes", pa.list_(pa.binary(size)), f"uint8; {dequantisation}")])


def embeddings_schema(size: int, *, per_frame: bool) -> pa.Schema:
    """Columns of an embeddings table whose vectors have `size` numbers."""
    fields = [*_OF_A_CLIP, pa.field("embedding", pa.list_(pa.float32(), size)), _field("frame_time_s", pa.list_(pa.float32()), "s")]
    if per_frame:
        fields.append(pa.field("frame_embedding", pa.list_(pa.list_(pa.float16(), size))))
    return pa.schema(fields)


def plain_columns(schema: pa.Schema) -> list[str]:
    """Parquet's names of the columns that are no vectors: a dictionary or a range of these says something, and costs little."""
    return [leaf for field in schema for leaf in _leaves(field.name, field.type)]


def _leaves(name: str, kind: pa.DataType) -> list[str]:
    if pa.types.is_fixed_size_list(kind) or pa.types.is_fixed_size_binary(kind):
        return []
    if pa.types.is_list(kind):
        return _leaves(f"{name}.list.element", kind.value_type)
    if pa.types.is_struct(kind):
        return [leaf for field in kind.fields for leaf in _leaves(f"{name}.{field.name}", field.type)]
    return [name]
