"""Labels: what people know of a clip besides its pixels, joined into `clips` when a shard is published.

    kinetics    annotations CSV     -> label, split, by clip_id
    manifest    its other columns   -> label, split and columns of their own name, by video_id
    youtube8m   vocabulary.csv      -> names and verticals of label_ids

Joining late keeps labels out of the workers, and a corrected CSV republishes `clips` without opening a video.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from infra.problem import Problem
from tasks import foreign_table
from tasks.schema import CLIPS
from tasks.source import Corpus, Shard, SourceFile, digest_of
from tasks.vocabulary import Vocabulary, read_vocabulary

ID_COLUMNS = ("youtube_id", "time_start", "time_end")
MANIFEST_PREFIX = "manifest_"


def labels_etag(corpus: Corpus, shard: Shard) -> str:
    """Changes when labels of this shard's clips may have changed."""
    if named := corpus.annotations or corpus.vocabulary:
        return named.etag
    columns = [json.dumps([file.name, file.columns], default=str) for file in shard.files if file.columns]
    return digest_of(columns) if columns else ""


@dataclass(frozen=True, slots=True)
class Labels:
    """The annotations of a corpus: a table with clip_id, label, split; no rows where a corpus has none."""

    table: pa.Table
    columns: pa.Schema = field(default_factory=lambda: pa.schema([]))  # of a manifest
    vocabulary: Vocabulary = field(default_factory=Vocabulary)  # of YouTube-8M

    def matched(self, clip_ids: Sequence[str]) -> int:
        """How many of the clips the annotations name."""
        return len(clip_ids) - int(pc.index_in(pa.array(clip_ids, pa.string()), self.table["clip_id"]).null_count)

    def join(self, clips: pa.Table) -> pa.Table:
        """`clips` with label and split filled from the annotations, label ids named; clips they do not name keep what they have."""
        clips = self.vocabulary.add_to(clips)
        if not self.table.num_rows:
            return clips
        rows = pc.index_in(clips["clip_id"], self.table["clip_id"])
        for name in ("label", "split"):
            clips = clips.set_column(clips.schema.get_field_index(name), CLIPS.field(name), self.table[name].take(rows))
        return clips


def read_labels(corpus: Corpus, columns: pa.Schema) -> Labels:
    """Everything that is joined into `clips` of a corpus; raises as `read_annotations` and `read_vocabulary`."""
    return Labels(read_annotations(corpus.annotations).table, columns, read_vocabulary(corpus.vocabulary))


def read_annotations(source: SourceFile | None) -> Labels:
    """Read a Kinetics annotations CSV: label,youtube_id,time_start,time_end,split[,is_cc]; the test split has no label.

    Raises:
        Problem: not a CSV, a column is missing, or a time is no whole number of seconds.
    """
    if source is None:
        return Labels(pa.table({name: pa.array([], pa.string()) for name in ("clip_id", "label", "split")}))
    table = _read_csv(source.uri)
    missing = [name for name in ID_COLUMNS if name not in table.column_names]
    if missing:
        raise Problem(f"source.annotations {source.uri}: column {missing[0]} is missing; its columns are {foreign_table.names_of(table)}")
    starts, ends = (_padded(table[name], f"source.annotations {source.uri}: {name}") for name in ID_COLUMNS[1:])
    clip_ids = pc.binary_join_element_wise(table["youtube_id"], starts, ends, "_")
    found = pa.table({"clip_id": clip_ids, "label": _column(table, "label"), "split": _column(table, "split")})
    first = found.group_by("clip_id", use_threads=False).aggregate([("label", "first"), ("split", "first")])
    return Labels(first.rename_columns(["clip_id", "label", "split"]))


def _padded(times: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    """Seconds as a Kinetics name has them: six digits."""
    try:
        seconds = pc.cast(pc.cast(times, pa.float64()), pa.int64())
    except pa.ArrowException as error:
        raise Problem(f"{where} is not whole seconds ({' '.join(str(error).split())}); correct the table") from error
    if seconds.null_count:
        raise Problem(f"{where} is empty in {seconds.null_count} rows; fill them or take the rows out")
    return pc.utf8_lpad(seconds.cast(pa.string()), 6, "0")


def _read_csv(uri: str) -> pa.Table:
    try:
        return foreign_table.read_csv(uri, text=("label", "youtube_id", "split"))
    except foreign_table.BadTable as reason:
        raise Problem(f"source.annotations {uri}: not a CSV table ({reason}); it needs label,youtube_id,time_start,time_end,split") from reason


def _column(table: pa.Table, name: str) -> pa.ChunkedArray | pa.Array:
    return table[name] if name in table.column_names else pa.nulls(table.num_rows, pa.string())


def add_manifest_columns(clips: pa.Table, files: Sequence[SourceFile], columns: pa.Schema) -> pa.Table:
    """`clips` with the manifest's columns, by video; a name that `clips` already uses gets the prefix `manifest_`.

    Rows of a video that the manifest has no more keep what it said of it.
    """
    by_video = {file.name: dict(file.columns) for file in files if file.columns}
    videos = clips["video_id"].to_pylist()
    for column in columns:
        name = _column_name(column.name)
        before = clips[name].to_pylist() if name in clips.column_names and clips.schema.field(name).type == column.type else [None] * len(videos)
        values = [by_video[video].get(column.name) if video in by_video else told for video, told in zip(videos, before, strict=True)]
        clips = _put(clips, name, pa.array(values, column.type))
    return clips


def manifest_names(columns: pa.Schema) -> list[str]:
    """What a manifest's columns are called in `clips`."""
    return [_column_name(column.name) for column in columns]


def _column_name(name: str) -> str:
    return f"{MANIFEST_PREFIX}{name}" if name in CLIPS.names and name not in ("label", "split") else name


def _put(clips: pa.Table, name: str, values: pa.Array) -> pa.Table:
    if name in ("label", "split"):
        return clips.set_column(clips.schema.get_field_index(name), CLIPS.field(name), values.cast(pa.string()))
    if name in clips.column_names:
        return clips.set_column(clips.schema.get_field_index(name), name, values)
    return clips.append_column(name, values)
