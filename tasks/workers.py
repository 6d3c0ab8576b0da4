"""The workers of the pipeline: what runs inside Ray's processes, stage by stage.

    read (tasks) -> clip (actors: decode + infer + stage)                    without GPUs: frames never cross a process
    read (tasks) -> decode (actors, CPU) -> infer (actors, GPU: infer + stage)
    read (tasks) -> parse (actors: parse + stage)                           YouTube-8M, whose records bring their features

Each hands on parcels; the last hands outcomes to the driver.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from infra import storage
from infra.crash_point import CrashPoint, crash_point
from infra.problem import Problem
from infra.settings import RunConfig, SourceKind
from models.prediction import ModelError
from models.spec import ModelSpec
from tasks import youtube8m
from tasks.clip import ClipError, FailureKind
from tasks.encoded import EncodedClip, Failure, Outcome, Parcel, ShardEnd
from tasks.feature import RECORD_MODELS, Feature
from tasks.infer import DecodedClip, InferredClip, Models, decode, geometries_of
from tasks.isolate import Decoder
from tasks.published import FAILURES_FOLDER
from tasks.read import ShardReader
from tasks.record_rows import Parsed, clip_rows, embedding_rows
from tasks.rows import failure_rows, feature_rows
from tasks.shardwork import ShardWork, known_keys, roster_of
from tasks.staging import Roster, Staging

PARCEL_CLIPS = 8
PARCEL_RECORDS = 1024  # parsed in no time; fragments of a few rows each would be the work
PARCEL_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class DecodedParcel:
    """A parcel between decode and infer, where these run in different processes."""

    shard: str
    features: tuple[Feature, ...]
    clips: tuple[DecodedClip, ...]
    end: ShardEnd | None


def read_parcels(work: ShardWork, config: RunConfig) -> Iterator[Parcel]:
    """Stream a shard and hand on the clips that earlier runs have not finished; never raises."""
    try:
        yield from _parcels(work, config)
    except storage.StorageError as error:
        yield Parcel(work.shard.name, work.features, end=ShardEnd(0, 0, f"{work.shard.name}: {error}"))


def _parcels(work: ShardWork, config: RunConfig) -> Iterator[Parcel]:
    known, roster = known_keys(config.output, work), roster_of(config.output, work)
    most = PARCEL_RECORDS if config.source.kind is SourceKind.YOUTUBE8M else PARCEL_CLIPS
    sent, batch, size = 0, [], 0
    if roster is None or not roster.members.items() <= known:
        members: dict[str, str] = {}
        reading = ShardReader(work, config)
        for clip in reading:
            members[clip.key] = clip.source_etag
            if (clip.key, clip.source_etag) in known:
                continue
            batch.append(clip)
            sent, size = sent + 1, size + len(clip.data or b"")
            if len(batch) == most or size >= PARCEL_BYTES:
                yield Parcel(work.shard.name, work.features, tuple(batch))
                crash_point(CrashPoint.PARCEL)
                batch, size = [], 0
        roster = Roster(members, reading.ignored)
        crash_point(CrashPoint.READ)
        Staging(config.output, work.shard.name).write_roster(work.shard.etag, roster)
        crash_point(CrashPoint.ROSTER)
    yield Parcel(work.shard.name, work.features, tuple(batch), ShardEnd(sent, len(roster.members) - sent))


class ClipWorker:
    """Decodes clips, runs every model on them and stages the rows."""

    def __init__(self, config: RunConfig, models: Sequence[ModelSpec], run_id: str, try_id: str) -> None:
        self.decoder = DecodeWorker(config, models)
        self.inferrer = InferWorker(config, models, run_id, try_id)

    def __call__(self, parcel: Parcel) -> Outcome:
        return self.inferrer(self.decoder(parcel))


class RecordWorker:
    """Parses records and stages the features they bring."""

    def __init__(self, config: RunConfig, run_id: str, try_id: str) -> None:
        self.config, self.run_id, self.try_id = config, run_id, try_id

    def __call__(self, parcel: Parcel) -> Outcome:
        parsed: list[Parsed] = []
        failures = [clip.failure for clip in parcel.clips if clip.failure]
        for clip in parcel.clips:
            if clip.data is None:
                continue
            try:
                parsed.append((replace(clip, data=None), youtube8m.parse(clip.data)))
            except ClipError as error:
                failures.append(Failure(clip.key, clip.uri, "decode", error.kind, error.message, clip.source_etag))
        parsed.sort(key=lambda found: found[0].key)  # what a pass of publication takes of a fragment then lies side by side
        staging = Staging(self.config.output, parcel.shard, self.try_id)
        for feature in parcel.features:
            if feature.model is None:
                staging.add(feature.folder, clip_rows(parsed, shard=parcel.shard))
            else:
                name = RECORD_MODELS[feature.model]
                staging.add(feature.folder, embedding_rows(parsed, name, shard=parcel.shard))
                failures += [_fault(clip, feature.model, record.faults[name]) for clip, record in parsed if name in record.faults]
            crash_point(CrashPoint.STAGED)
        staging.add(FAILURES_FOLDER, failure_rows(failures, shard=parcel.shard, run_id=self.run_id))
        noted = sum(bool(record.notes) for _, record in parsed)
        return Outcome(parcel.shard, len(parcel.clips), tuple(failures), parcel.end, None, noted=noted)


def _fault(clip: EncodedClip, model: str, fault: str) -> Failure:
    return Failure(
        clip.key, clip.uri, model, FailureKind.BAD_RECORD, f"{fault}; fetch the shard again, or take the record as it is", clip.source_etag
    )


class DecodeWorker:
    """Decodes clips and cuts their frames to what the models eat."""

    def __init__(self, config: RunConfig, models: Sequence[ModelSpec]) -> None:
        self.fps = config.decode.fps
        self.geometries = geometries_of(models)
        self.decoder = Decoder(config.limits)

    def __call__(self, parcel: Parcel) -> DecodedParcel:
        clips = tuple(decode(clip, self.decoder, self.geometries, fps=self.fps) for clip in parcel.clips)
        return DecodedParcel(parcel.shard, parcel.features, clips, parcel.end)


class InferWorker:
    """Holds every model of the run, loaded once; stages what they find."""

    def __init__(self, config: RunConfig, models: Sequence[ModelSpec], run_id: str, try_id: str) -> None:
        self.config, self.run_id, self.try_id = config, run_id, try_id
        self.models: Models | None = None
        self.fatal: str | None = None
        try:
            self.models = Models(models)
        except (Problem, ModelError) as error:
            self.fatal = str(error)
        except Exception as error:  # a user's network, tried once on construction, may raise anything
            self.fatal = f"a model cannot be run: {type(error).__name__}: {error}; correct its factory"

    def __call__(self, parcel: DecodedParcel) -> Outcome:
        if self.models is None:
            return Outcome(parcel.shard, 0, (), None, None, self.fatal)
        clips = self.models.infer(parcel.clips, {feature.model for feature in parcel.features})
        failures = tuple(failure for clip in clips for failure in clip.failures)
        staging = Staging(self.config.output, parcel.shard, self.try_id)
        for feature in parcel.features:
            staging.add(feature.folder, self._rows(self.models, feature, clips, parcel.shard))
            crash_point(CrashPoint.STAGED)
        staging.add(FAILURES_FOLDER, failure_rows(failures, shard=parcel.shard, run_id=self.run_id))
        problem = next((clip.problem for clip in parcel.clips if clip.problem), None)
        return Outcome(parcel.shard, len(clips), failures, parcel.end, problem)

    def _rows(self, models: Models, feature: Feature, clips: Sequence[InferredClip], shard: str) -> pa.Table:
        labels = models.labels(feature.model) if feature.table == "tags" else ()
        return feature_rows(feature, clips, shard=shard, per_frame=self.config.frame_embeddings, labels=labels)
