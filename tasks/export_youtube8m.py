"""An output as YouTube-8M's TFRecords: one file of records for each published shard, which TensorFlow reads, and `source.kind: youtube8m` too.

    clips + embeddings of a shard  ->  SequenceExample: id, labels, segments | rgb, audio                frames
                                       Example: id, labels, segments, mean_rgb, mean_audio               no frames, or --level video

Codes are written as they are stored. Frames of other models are lists of numbers, with their exact mean beside them. A shard is one unit of work;
several are written at a time, each in one atomic step. Nothing of what lacks in the output is passed over in silence.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, cast

import pyarrow as pa
from isal import igzip

from infra import storage
from infra.problem import Problem
from tasks import record_bytes
from tasks.clip_features import ClipFeatures, DamagedShard, Vectors, clip_features
from tasks.embedding_tables import chosen, embedding_tables, named, names_of
from tasks.exported import Exported
from tasks.feature import RECORD_MODELS, Feature
from tasks.label_ids import COLUMNS, LabelIds, label_columns, read_label_ids, vocabulary_csv
from tasks.published import FAILURES_FOLDER, FOOTER_THREADS, Footer, footers_of, is_behind, path_of, shards_in
from tasks.record import last_record
from tasks.source import digest_of
from tasks.staging import staged_shards
from tasks.tfrecord import framed
from tasks.youtube8m import MEANS

FORMAT = 1  # raised by hand when the same tables give other records
VOCABULARY = "vocabulary.csv"
GZIP_LEVEL = 1  # codes hardly shrink; more would only take longer

Level = Literal["frame", "video"]


@dataclass(frozen=True, slots=True)
class Export:
    """What is asked for."""

    output: str
    to: str
    rgb: str | None = None  # model or model@version; empty for none, None for what there is
    audio: str | None = None
    level: Level = "frame"  # video: means only
    gzip: bool = False

    @property
    def place(self) -> Exported:
        """The folder."""
        return Exported(self.to, ".tfrecord.gz" if self.gzip else ".tfrecord")


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """What an export did, and what the folder holds now."""

    status: Literal["done", "nothing to do", "work left"]
    to: str
    level: Level
    features: Mapping[str, str]  # rgb, audio -> model@version
    shards: int  # that are whole in the output
    written: int  # of these, by this export
    size_bytes: int  # written
    records: int  # of all shards that are whole
    lacking: Mapping[str, int]  # records without rgb, without audio
    failed: int  # clips of the corpus that are no records
    vocabulary: str | None
    problems: tuple[str, ...]  # why shards are left


def export(asked: Export, on_shard: Callable[[int, int], None] = lambda done, total: None) -> ExportSummary:
    """Write what the folder lacks.

    Args:
        on_shard: called with the number of shards that are done, and of all.

    Raises:
        Problem: nothing can be written, the message says why; shards that were finished stay.
    """
    tables = _tables_of(asked)
    whole, problems = _whole_shards(asked.output, tables)
    _check_target(asked)
    labels = _labels(asked.output, sorted(whole))
    asked.place.claim(next((shard.clips.corpus for shard in whole.values()), ""))
    vocabulary = _write_vocabulary(asked, labels)
    todo = _todo(asked, whole, tables, labels)
    writing = _Writing(asked, tables, labels, lambda done: on_shard(len(whole) - len(todo) + done, len(whole)))
    size_bytes, damaged = writing.run({name: (whole[name], made_from) for name, made_from in todo.items()})
    problems += damaged
    return ExportSummary(
        status="work left" if problems else "done" if todo else "nothing to do",
        to=asked.to,
        level=asked.level,
        features={name: named(table) for name, table in tables.items()},
        shards=len(whole),
        written=len(todo) - len(damaged),
        size_bytes=size_bytes,
        records=sum(shard.clips.rows for shard in whole.values()),
        lacking={name: sum(shard.clips.rows - shard.rows[name] for shard in whole.values()) for name in tables},
        failed=sum(shard.clips.failed for shard in whole.values()),
        vocabulary=vocabulary,
        problems=tuple(problems),
    )


@dataclass(frozen=True, slots=True)
class _Shard:
    """One shard that every chosen table has, or need not have."""

    clips: Footer
    rows: Mapping[str, int]  # of each feature's table


def _tables_of(asked: Export) -> dict[str, Feature]:
    """Which table fills which feature; those of records by default, else the only one there is."""
    there = embedding_tables(asked.output)
    found = {name: chosen(there, wanted, option=f"--{name}") for name in MEANS if (wanted := getattr(asked, name))}
    defaults = {name: [table for table in there if table.model == model] for model, name in RECORD_MODELS.items()}
    if any(defaults.values()):
        unnamed = [name for name in MEANS if getattr(asked, name) is None and defaults[name]]
        found |= {name: chosen(there, str(defaults[name][0].model), option=f"--{name}") for name in unnamed}
    elif not found and len(there) == 1 and asked.rgb is None:
        found = {"rgb": there[0]}
    if not found:
        which = f"there are {names_of(there)}" if there else "it holds none; check the path"
        raise Problem(f"{asked.output}: choose the embeddings with --rgb and --audio; {which}")
    return {name: found[name] for name in MEANS if name in found}


def _check_target(asked: Export) -> None:
    output, to = storage.real(asked.output), storage.real(asked.to)
    if to == output or to.startswith(f"{output}/"):
        raise Problem(f"--to {asked.to}: lies in the output; name a folder outside {asked.output}")


def _whole_shards(output: str, tables: Mapping[str, Feature]) -> tuple[dict[str, _Shard], list[str]]:
    """The shards that can be exported, and why others cannot."""
    names = sorted(shards_in(output, "clips"))
    if not names:
        raise Problem(f"{output}: holds no published clips; check the path, or run first")
    clips = footers_of(output, "clips", names)
    vectors = {name: footers_of(output, table.folder, sorted(shards_in(output, table.folder) & set(names))) for name, table in tables.items()}
    explained = footers_of(output, FAILURES_FOLDER, sorted(shards_in(output, FAILURES_FOLDER) & set(names)))
    whole, problems = {}, [f"{shard}: is under way and not published; run again, then export again" for shard in _under_way(output, set(names))]
    for shard in names:
        footers = {name: found.get(shard) for name, found in vectors.items()}
        reasons = [
            f"{shard}: {reason}; run again, then export again"
            for name, table in tables.items()
            if (reason := _reason(clips[shard], footers[name], table, explained.get(shard)))
        ]
        problems += reasons
        if not reasons:
            whole[shard] = _Shard(clips[shard], {name: footer.rows if footer else 0 for name, footer in footers.items()})
    return whole, problems


def _reason(clips: Footer, vectors: Footer | None, table: Feature, failures: Footer | None) -> str | None:
    """Why a shard's embeddings are not those of its clips."""
    if vectors is None:
        empty = not clips.rows or (failures is not None and table.folder in failures.empty)
        return None if empty else f"has no {table.label} yet"
    stale = vectors.source_etag != clips.source_etag or is_behind(vectors, clips)
    return f"its {table.label} are of another state than its clips" if stale else None


def _under_way(output: str, published: set[str]) -> list[str]:
    """Shards of the last run, or staged by one, that are not published."""
    record = last_record(output)
    return sorted({*staged_shards(output), *(record["shards"] if record else ())} - published)


def _labels(output: str, shards: list[str]) -> LabelIds:
    uris = [path_of(output, "clips", shard) for shard in shards]
    try:
        with ThreadPoolExecutor(FOOTER_THREADS) as pool:
            return read_label_ids(pool.map(label_columns, uris))
    except (pa.ArrowException, OSError) as error:  # Arrow says OSError of damaged pages
        raise Problem(
            f"{output}: clips are damaged ({' '.join(str(error).split())}); `vidmill verify` tells which, delete it and run again"
        ) from error


def _write_vocabulary(asked: Export, labels: LabelIds) -> str | None:
    """vocabulary.csv beside the records; its address, or None where no label has a name."""
    if not labels.names:
        return None
    record, uri = last_record(asked.output), f"{asked.to.rstrip('/')}/{VOCABULARY}"
    data = vocabulary_csv(labels, record["config"]["source"].get("vocabulary") if record else None)
    if not storage.exists(uri) or storage.read_bytes(uri) != data:
        storage.write_bytes(uri, data)
    return uri


def _todo(asked: Export, whole: Mapping[str, _Shard], tables: Mapping[str, Feature], labels: LabelIds) -> dict[str, str]:
    """The shards to write, each with what it is made from."""
    receipts, folders = asked.place.receipts(), {"clips": "clips"} | {name: table.folder for name, table in tables.items()}
    listed = {name: storage.list_names(f"{asked.output.rstrip('/')}/{folder}") for name, folder in folders.items()}
    rules = [str(FORMAT), asked.level, asked.place.suffix, labels.digest]
    todo = {}
    for shard in whole:
        files = [
            part for name, files in listed.items() if (file := files.get(f"{shard}.parquet")) for part in (name, str(file.size_bytes), file.etag)
        ]
        made_from = digest_of([*rules, *files])
        if shard not in receipts or receipts[shard].made_from != made_from:
            todo[shard] = made_from
    return todo


class _Stopped(Exception):
    """Another shard could not be written, or somebody interrupted."""


class _Writing:
    """Shards on their way out, one to a core."""

    def __init__(self, asked: Export, tables: Mapping[str, Feature], labels: LabelIds, on_done: Callable[[int], None]) -> None:
        self.asked, self.tables, self.labels, self.on_done = asked, tables, labels, on_done
        self.stop = threading.Event()

    def run(self, todo: Mapping[str, tuple[_Shard, str]]) -> tuple[int, list[str]]:
        """Bytes written, and which shards are damaged."""
        sizes, damaged = [], []
        self.on_done(0)
        with ThreadPoolExecutor(len(os.sched_getaffinity(0)), "export") as threads:
            futures = [threads.submit(self._write, shard, *parts) for shard, parts in todo.items()]
            try:
                for future in as_completed(futures):
                    try:
                        sizes.append(future.result())
                    except DamagedShard as error:
                        damaged.append(str(error))
                    self.on_done(len(sizes) + len(damaged))
            except BaseException:
                self.stop.set()
                threads.shutdown(cancel_futures=True)
                raise
        return sum(sizes), damaged

    def _write(self, name: str, shard: _Shard, made_from: str) -> int:
        place = self.asked.place
        storage.publish(place.uri(name), lambda file: self._records(name, shard, file))
        return place.note(name, made_from)

    def _records(self, name: str, shard: _Shard, file: BinaryIO) -> None:
        if not self.asked.gzip:
            self._into(file, name, shard)
            return
        with igzip.IGzipFile(fileobj=file, mode="wb", compresslevel=GZIP_LEVEL, mtime=0) as packed:  # type: ignore[no-untyped-call]
            self._into(cast(BinaryIO, packed), name, shard)

    def _into(self, file: BinaryIO, name: str, shard: _Shard) -> None:
        counts = dict.fromkeys(("clips", *self.tables), 0)
        for clip in self._clips(name, shard):
            if self.stop.is_set():
                raise _Stopped
            file.write(framed(record_of(clip, self.labels)))
            for part in ("clips", *clip.vectors):
                counts[part] += 1
        if counts != {"clips": shard.clips.rows, **shard.rows}:
            raise DamagedShard(f"{name}: its files hold other rows than they promise; `vidmill verify {self.asked.output}` tells which")

    def _clips(self, name: str, shard: _Shard) -> Iterator[ClipFeatures]:
        output = self.asked.output
        tables = {feature: path_of(output, table.folder, name) for feature, table in self.tables.items() if shard.rows[feature]}
        columns = (*COLUMNS, "segments")
        return clip_features(path_of(output, "clips", name), tables, columns=columns, per_frame=self.asked.level == "frame")


def record_of(clip: ClipFeatures, labels: LabelIds) -> bytes:
    """A clip as a record."""
    context = {
        "id": record_bytes.bytes_feature(clip.row["clip_id"].encode()),
        "labels": record_bytes.integers_feature(labels.of(clip.row)),
        **_segments(clip.row.get("segments") or ()),
        **{MEANS[name]: record_bytes.floats_feature(vectors.mean) for name, vectors in clip.vectors.items() if vectors.codes is None},
    }
    return record_bytes.record(context, {name: rows for name, vectors in clip.vectors.items() if (rows := _frames(vectors)) is not None})


def _frames(vectors: Vectors) -> memoryview | None:
    if vectors.codes is not None:
        return record_bytes.bytes_list(vectors.codes)
    return None if vectors.frames is None else record_bytes.floats_list(vectors.frames)


def _segments(segments: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    if not segments:
        return {}
    columns = {"segment_start_times": "start_s", "segment_end_times": "end_s", "segment_labels": "label_id"}
    integers = {name: record_bytes.integers_feature(segment[column] for segment in segments) for name, column in columns.items()}
    return integers | {"segment_scores": record_bytes.floats_feature([segment["score"] for segment in segments])}
