"""The workers of enhancement: clips of published shards in, restored videos and their rows staged.

    read (tasks) -> enhance (actors: decode -> restore -> encode -> stage)        one clip at a time

A second pass over the source, for a clip takes minutes here: a parcel is one clip, and says which recipes it lacks. Knows what is published and
staged; how a clip is restored is the tools' business.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from infra.crash_point import CrashPoint, crash_point
from infra.problem import Problem
from infra.settings import RunConfig
from infra.storage import StorageError
from models.prediction import ModelError, ModelMemoryError
from tasks.clip import ClipError, FailureKind
from tasks.encoded import EncodedClip, Failure, Outcome, Parcel, ShardEnd, failed_clip
from tasks.enhance import Enhanced
from tasks.feature import Feature
from tasks.infer import opened
from tasks.media import SUFFIX, digest_of
from tasks.published import FAILURES_FOLDER
from tasks.read import ShardReader, as_clip_error
from tasks.restored import Enhances, restorers
from tasks.rows import enhanced_rows, failure_rows
from tasks.shardwork import ShardWork, done_keys, published_etags, roster_of
from tasks.staging import Roster, Staging

if TYPE_CHECKING:
    from models.quality import Quality


def read_clips(work: ShardWork, config: RunConfig) -> Iterator[Parcel]:
    """Stream a shard and hand on, each alone, the clips that lack something; never raises."""
    try:
        yield from _parcels(work, config)
    except StorageError as error:
        yield Parcel(work.shard.name, work.features, end=ShardEnd(0, 0, f"{work.shard.name}: {error}"))


def _parcels(work: ShardWork, config: RunConfig) -> Iterator[Parcel]:
    done, wanted, sent = done_keys(config.output, work), _wanted(work, config), 0

    def lacking(clip: EncodedClip) -> tuple[Feature, ...]:
        return tuple(feature for feature in work.features if (clip.key, clip.source_etag) not in done[feature])

    left = {key: etag for key, etag in (wanted or {}).items() if any((key, etag) not in keys for keys in done.values())}
    if wanted is None or left:
        reading, members = ShardReader(work, config), {}
        for clip in reading:
            members[clip.key] = clip.source_etag
            fits = wanted is None or left.get(clip.key) == clip.source_etag
            if fits or config.source.replacements:  # it may be the original of a clip that was replaced
                left.pop(clip.key, None)
            if fits and (features := lacking(clip)):
                sent += 1
                yield Parcel(work.shard.name, features, (clip,))
                crash_point(CrashPoint.PARCEL)
        if work.overlay:
            Staging(config.output, work.shard.name).write_roster(work.shard.etag, Roster(members, reading.ignored))
        wanted = wanted or members
        for clip in (_gone(work, key, etag) for key, etag in left.items()):
            sent += 1
            yield Parcel(work.shard.name, lacking(clip), (clip,))
    yield Parcel(work.shard.name, work.features, end=ShardEnd(sent, len(wanted) - sent))


def _wanted(work: ShardWork, config: RunConfig) -> Mapping[str, str] | None:
    """Clips that the first pass found good, and what they are made from; None where only reading tells."""
    if not work.overlay:
        return published_etags(config.output, work)
    roster = roster_of(config.output, work)
    return roster.members if roster else None


def _gone(work: ShardWork, key: str, etag: str) -> EncodedClip:
    """A published clip that the source, unchanged, does not give again."""
    message = f"{work.shard.name} does not give the clip again as it is published; compare limits.max_bytes with that of the run that published it"
    clip = failed_clip(ClipError(FailureKind.MISSING, message), uri=key, etag=etag, size_bytes=0, clip_id=key)
    return replace(clip, source_etag=etag)


Tools = Callable[[RunConfig], Mapping[str, Enhances]]


class EnhanceWorker:
    """Holds the networks of all recipes; stages restored videos, each before its row."""

    def __init__(self, config: RunConfig, run_id: str, try_id: str, threads: int | None = None, *, tools_of: Tools | None = None) -> None:
        self.config, self.run_id, self.try_id = config, run_id, try_id
        self.tools: Mapping[str, Enhances] = {}
        self.fatal: str | None = None
        try:
            if threads:
                from tasks.cores import use_cores  # torch, which the driver need not load

                use_cores(threads)
            self.tools = (tools_of or restorers)(config)
        except (Problem, ModelError) as error:
            self.fatal = str(error)
        except Exception as error:  # a user's network, tried once on construction, may raise anything
            self.fatal = f"a recipe cannot be run: {type(error).__name__}: {error}; correct its weights"

    def __call__(self, parcel: Parcel) -> Outcome:
        if self.fatal:
            return Outcome(parcel.shard, 0, (), None, None, self.fatal)
        staging = Staging(self.config.output, parcel.shard, self.try_id)
        failures: list[Failure] = []
        problem: str | None = None
        for clip in parcel.clips:
            for feature in parcel.features:
                try:
                    failures += self._enhanced(clip, feature, staging)
                except (StorageError, OSError) as error:  # of the store or this machine's disk: neither row nor failure, to be tried by another run
                    problem = str(error)
        staging.add(FAILURES_FOLDER, failure_rows(failures, shard=parcel.shard, run_id=self.run_id))
        return Outcome(parcel.shard, len(parcel.clips), tuple(failures), parcel.end, problem)

    def _enhanced(self, clip: EncodedClip, feature: Feature, staging: Staging) -> list[Failure]:
        """Stage a clip's video and row, or tell why there is none."""
        assert feature.model is not None
        if clip.failure:
            return [replace(clip.failure, stage=feature.model)]
        with tempfile.TemporaryDirectory(prefix="vidmill-") as folder:
            path = f"{folder}/restored{SUFFIX}"
            try:
                with opened(clip) as file, open(path, "w+b") as sink:
                    enhanced = self.tools[feature.model].enhance(file, window=clip.window, sink=sink)
            except Exception as error:
                known = _as_clip_error(error, feature.model)
                return [Failure(clip.key, clip.uri, feature.model, known.kind, known.message, clip.source_etag, known.attempts)]
            self._stage(clip, feature, enhanced, path, staging)
        return []

    def _stage(self, clip: EncodedClip, feature: Feature, enhanced: "Enhanced[Quality]", path: str, staging: Staging) -> None:
        with open(path, "rb") as file:
            digest = digest_of(file)
        staged = staging.add_media(feature, path)
        crash_point(CrashPoint.MEDIA_STAGED)
        rows = enhanced_rows(replace(clip, data=None), enhanced, shard=staging.shard, size_bytes=os.path.getsize(path), digest=digest, staged=staged)
        staging.add(feature.folder, rows)
        crash_point(CrashPoint.STAGED)


def _as_clip_error(error: Exception, recipe: str) -> ClipError:
    """What a failed clip is told with; raises again what is not the clip's fault."""
    match error:
        case ClipError() | StorageError():
            return as_clip_error(error)
        case ModelError():
            return ClipError(FailureKind.OOM if isinstance(error, ModelMemoryError) else FailureKind.MODEL, str(error))
        case OSError() | Problem():
            raise error
    return ClipError(FailureKind.MODEL, f"recipe {recipe}: {type(error).__name__}: {error}; correct its weights, or leave it out")
