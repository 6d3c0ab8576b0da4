"""The workers of taggers: embeddings of published shards in, tags staged.

    read (tasks) -> tag (actors: join frames -> score -> stage)          batches of clips

No source is listed or opened: what a tagger reads is in the output already. A clip that has no embedding failed on the way to it, and that failure
explains why it has no tags either.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from infra.crash_point import CrashPoint, crash_point
from infra.problem import Problem
from infra.settings import RunConfig
from infra.storage import StorageError
from models import weights
from models.prediction import ModelError, ModelMemoryError
from models.tagger_spec import TaggerSpec
from tasks.clip import FailureKind
from tasks.encoded import Failure, Outcome, ShardEnd
from tasks.feature import Feature, maker_in
from tasks.frame_features import aligned, values_of
from tasks.published import FAILURES_FOLDER
from tasks.rows import failure_rows, scored_rows
from tasks.shardwork import ShardWork, known_keys, published_clips, roster_of
from tasks.staging import Staging
from tasks.stored_embeddings import stored

if TYPE_CHECKING:
    from models.tagger import Tagger

PARCEL_CLIPS = 256
PARCEL_BYTES = 8 << 20
COLUMNS = ("clip_id", "video_id", "start_s", "end_s", "uri", "source_etag")


@dataclass(frozen=True, slots=True)
class StoredClip:
    """A published clip and what models found in it."""

    row: dict[str, Any]  # of `clips`
    frames: dict[str, np.ndarray]  # [T, D] by folder, as they are stored

    @property
    def size_bytes(self) -> int:
        """Of its vectors."""
        return sum(frames.nbytes for frames in self.frames.values())


@dataclass(frozen=True, slots=True)
class StoredParcel:
    """Some clips of one shard; the last parcel of a shard says how many clips it had."""

    shard: str
    features: tuple[Feature, ...]
    clips: tuple[StoredClip, ...] = ()
    end: ShardEnd | None = None


def read_stored(work: ShardWork, config: RunConfig) -> Iterator[StoredParcel]:
    """Read the embeddings of a shard and hand on the clips that lack tags; never raises."""
    try:
        yield from _parcels(work, config)
    except (StorageError, Problem) as error:
        yield StoredParcel(work.shard.name, work.features, end=ShardEnd(0, 0, f"{work.shard.name}: {error}"))


def _parcels(work: ShardWork, config: RunConfig) -> Iterator[StoredParcel]:
    sent, batch, size = 0, [], 0
    for clip in _clips(work, config):
        batch.append(clip)
        sent, size = sent + 1, size + clip.size_bytes
        if len(batch) == PARCEL_CLIPS or size >= PARCEL_BYTES:
            yield StoredParcel(work.shard.name, work.features, tuple(batch))
            crash_point(CrashPoint.PARCEL)
            batch, size = [], 0
    roster = roster_of(config.output, work)
    yield StoredParcel(work.shard.name, work.features, tuple(batch), ShardEnd(sent, len(roster.members) - sent if roster else 0))


def _clips(work: ShardWork, config: RunConfig) -> Iterator[StoredClip]:
    known, folders = known_keys(config.output, work), tuple(dict.fromkeys(folder for feature in work.features for folder in feature.inputs))
    rows = published_clips(config.output, work, COLUMNS).select(COLUMNS).to_pylist()
    left = {row["clip_id"]: row for row in rows if (row["clip_id"], row["source_etag"]) not in known}
    if not left:
        return
    for clip_id, found in stored(config.output, folders, work.shard.name):
        held = {folder: frames for folder, frames in zip(folders, found, strict=True) if frames is not None}
        if clip_id in left and any(held.keys() >= {*feature.inputs} for feature in work.features):
            yield StoredClip(left[clip_id], held)


class TagWorker:
    """Holds the taggers of the run; stages what they make of stored embeddings."""

    def __init__(self, config: RunConfig, specs: Sequence[TaggerSpec], run_id: str, try_id: str) -> None:
        self.config, self.run_id, self.try_id = config, run_id, try_id
        self.taggers: dict[str | None, Tagger] = {}
        self.fatal: str | None = None
        try:
            self.taggers = {spec.name: _tagger(spec) for spec in specs}
        except (Problem, ModelError) as error:
            self.fatal = str(error)

    def __call__(self, parcel: StoredParcel) -> Outcome:
        fatal = self.fatal or next((fault for feature in parcel.features if (fault := self._misfit(feature, parcel.clips))), None)
        if fatal:
            return Outcome(parcel.shard, 0, (), None, None, fatal)
        staging, failures = Staging(self.config.output, parcel.shard, self.try_id), []
        for feature in parcel.features:
            clips = [clip for clip in parcel.clips if clip.frames.keys() >= {*feature.inputs}]
            rows, failed = self._tagged(feature, clips, parcel.shard)
            staging.add(feature.folder, rows)
            failures += failed
            crash_point(CrashPoint.STAGED)
        staging.add(FAILURES_FOLDER, failure_rows(failures, shard=parcel.shard, run_id=self.run_id))
        return Outcome(parcel.shard, len(parcel.clips), tuple(failures), parcel.end, None)

    def _misfit(self, feature: Feature, clips: Sequence[StoredClip]) -> str | None:
        """Why no clip of this output can be tagged; the widths of a table are those of its first row."""
        for source, folder in zip(self.taggers[feature.model].shape.inputs, feature.inputs, strict=True):
            size = next((clip.frames[folder].shape[1] for clip in clips if folder in clip.frames), source.width)
            if size != source.width:
                fix = f"train it on {maker_in(folder)} of this output, or take it out of `tag`"
                return f"tagger {feature.model}: takes {source.width} numbers of {source.model}, and {folder} has {size}; {fix}"
        return None

    def _tagged(self, feature: Feature, clips: Sequence[StoredClip], shard: str) -> tuple[pa.Table, list[Failure]]:
        tagger = self.taggers[feature.model]
        sequences = [_sequence([clip.frames[folder] for folder in feature.inputs], most=tagger.shape.frames) for clip in clips]
        outcomes = list(zip(clips, _scores(tagger, sequences), strict=True))
        good = [(clip.row, found) for clip, found in outcomes if isinstance(found, np.ndarray)]
        failures = [_failure(clip, feature, found) for clip, found in outcomes if isinstance(found, Exception)]
        return scored_rows([row for row, _ in good], [found for _, found in good], tagger.shape.labels, shard=shard), failures


def _tagger(spec: TaggerSpec) -> "Tagger":
    from models.tagger import Tagger  # torch, which the driver need not load

    return Tagger(weights.fetch(spec.weights, spec.sha256))


def _sequence(inputs: Sequence[np.ndarray], *, most: int) -> np.ndarray:
    """float32 [T, sum of D], the inputs' vectors side by side."""
    return np.concatenate([values_of(frames) for frames in aligned(inputs, most=most)], axis=1)


def _scores(tagger: "Tagger", sequences: Sequence[np.ndarray]) -> Sequence[np.ndarray | Exception]:
    """float32 [L] of each sequence, or why there is none; where a batch fails, one by one tells which clip it is."""
    try:
        found = tagger.scores(sequences)
    except Exception as error:
        return [error] if len(sequences) == 1 else [_scores(tagger, [sequence])[0] for sequence in sequences]
    return [scores if np.isfinite(scores).all() else ModelError("gave not-a-number; train it anew, or look at the embedding") for scores in found]


def _failure(clip: StoredClip, feature: Feature, error: Exception) -> Failure:
    assert feature.model is not None
    kind = FailureKind.OOM if isinstance(error, ModelMemoryError) else FailureKind.MODEL
    message = str(error) if isinstance(error, ModelError) else f"{type(error).__name__}: {error}"
    row = clip.row
    return Failure(row["clip_id"], row["uri"], feature.model, kind, f"tagger {feature.model}: {message}", row["source_etag"])
