"""Verification: reads what is published and proves that nothing is altered, missing, double or without a reason.

    every file that a plain glob sees      its digest fits; no clip is twice in a folder
    every shard of the last run's plan     for every feature: rows + failures that explain the rest == members; what a backfill's selection
                                           left out, and said so, is neither
    every restored video                   a row names it, with its size and digest

Knows the tables and the record of the last run. Memory: 8 bytes per clip of one folder, and the names of one shard's media.
"""

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import compress, islice

import numpy as np

from infra import storage
from infra.problem import Problem
from infra.storage import ObjectInfo
from tasks.feature import SOURCE_STAGES, Feature
from tasks.media_check import MediaFault, check_media, media_place, media_places, unnamed
from tasks.published import FAILURES_FOLDER, Footer, is_behind, path_of
from tasks.record import newest_records, partial_of, runs_folder
from tasks.select import Selection
from tasks.visible import Examined, VisibleFile, attempts_in, examine, named, visible_files

THREADS = 8
MEDIA_DEPTH = ("media", "recipe=", "version=", "")  # what the folders above a file of media begin with

MediaPlace = tuple[VisibleFile | None, list[ObjectInfo]]  # a table's file, None where there is none, and its media


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one file, and the command that mends it."""

    file: str
    cause: str
    fix: str
    shard: str = ""
    delete: tuple[str, ...] = ()  # files to be computed again: `retry --select state:altered` deletes them first

    def __str__(self) -> str:
        return f"{self.file}: {self.cause}; {self.fix}"


@dataclass(frozen=True, slots=True)
class ShardCheck:
    """Counts of one shard and feature; whole when rows + failed == planned, the others were left out by a selection."""

    shard: str
    planned: int
    rows: int
    failed: int

    @property
    def omitted(self) -> int:
        """Clips that a backfill's selection left out."""
        return self.planned - self.rows - self.failed


@dataclass(frozen=True, slots=True)
class FeatureCheck:
    """What verification found of one feature of the plan."""

    folder: str
    shards: int
    rows: int
    failed: int
    omitted: int = 0  # clips of these shards that a backfill's selection left out
    partial: bool = False  # a backfill added it to some shards or clips; the others need not have it
    by_shard: tuple[ShardCheck, ...] = ()


@dataclass(slots=True)
class Verification:
    """Everything verification found; no faults means every planned clip is one row or one failure."""

    run_id: str | None  # None: no plan is recorded
    features: list[FeatureCheck] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    files: int = 0
    notes: list[str] = field(default_factory=list)  # what is no fault and should be known


def verify(output: str) -> Verification:
    """Check an output: its files by themselves, and against the last run's plan.

    Raises:
        Problem: nothing that vidmill wrote is there.
        StorageError: the output cannot be listed.
    """
    record, damaged = newest_records(output)
    places, strays = visible_files(output)
    if record is None and not damaged and not places:
        raise Problem(f"{output}: no vidmill run is recorded there; check the path, or run `vidmill run` first")
    features = tuple(Feature(**feature) for feature in record["features"]) if record else ()
    partial = tuple(Feature(**feature) for feature in partial_of(record)) if record else ()
    found = Verification(record["run_id"] if record else None)
    found.faults += [Fault(uri, "the record of a run is damaged", _remove(uri)) for uri in damaged]
    if record is None:
        found.faults.append(Fault(runs_folder(output), "no plan is recorded, so nothing tells what is missing", "vidmill run CONFIG.yaml"))
    found.faults += [
        Fault(stray.uri, "no file of vidmill's belongs here, and readers may take it for a table", _remove(stray.uri)) for stray in strays
    ]
    shards, dropped = (frozenset(record.get(key, ()) if record else ()) for key in ("shards", "dropped"))
    _Checking(output, features, partial, shards, dropped, places, found).run()
    return found


def altered_files(output: str, selection: Selection) -> list[str]:
    """Files of the selected shards that must be computed again."""
    faults = verify(output).faults
    return [uri for fault in faults if fault.delete and selection.takes_altered_of(fault.shard) for uri in fault.delete]


@dataclass(slots=True)
class _Failures:
    """Failures of a shard, and which of them are the reason why some row is missing."""

    examined: Examined
    needed: np.ndarray  # bool, per row

    def explaining(self, model: str | None, rows: np.ndarray, *, makers: Set[str | None] = frozenset()) -> np.ndarray:
        """Hashes of clips without a row that failed on the way to this model's, or to what it reads."""
        without = ~np.isin(self.examined.keys, rows)
        self.needed |= without & self._at({*SOURCE_STAGES, model})
        return np.unique(self.examined.keys[without & self._at({*SOURCE_STAGES, model, *makers})])

    def _at(self, stages: Set[str | None]) -> np.ndarray:
        return np.array([stage in stages for stage in self.examined.stages], np.bool_)


class _Checking:
    """Goes through an output folder by folder: failures, clips, then what models found."""

    def __init__(
        self,
        output: str,
        features: tuple[Feature, ...],
        partial: tuple[Feature, ...],
        shards: frozenset[str],
        dropped: frozenset[str],
        places: dict[str, list[VisibleFile]],
        found: Verification,
    ) -> None:
        self.output, self.shards, self.dropped, self.found = output, shards, dropped, found
        self.features = {feature.folder: feature for feature in (*features, *partial)}
        self.partial = {feature.folder for feature in partial}
        self.places = {**{folder: [] for folder in self.features}, **places}
        self.failures: dict[str, _Failures] = {}
        self.clips: dict[str, Footer] = {}
        self.doubtful: set[str] = set()  # shards whose failures or clips are not to be believed
        self.unexplained: dict[str, int] = {}  # clips without a row in shards whose failures are gone

    def run(self) -> None:
        first = [folder for folder in (FAILURES_FOLDER, "clips") if folder in self.places]
        for folder in [*first, *sorted(self.places.keys() - {*first})]:
            self._check_folder(folder, self.places[folder])
        self._check_media()
        for shard, count in sorted(self.unexplained.items()):
            self._missing(FAILURES_FOLDER, shard, f"is missing, and {count:,} clips have no row")
        self._check_needed()

    def _check_folder(self, folder: str, files: list[VisibleFile]) -> None:
        sound: list[tuple[VisibleFile, np.ndarray]] = []
        checks: list[ShardCheck] = []
        with ThreadPoolExecutor(THREADS) as pool:
            for examined in pool.map(examine, files):
                self.found.files += 1
                if examined.fault:
                    self._not_sound(examined)
                    continue
                sound.append((examined.file, attempts_in(examined)))
                if folder == FAILURES_FOLDER:
                    self.failures[examined.file.shard] = _Failures(examined, np.zeros(len(examined.keys), np.bool_))
                else:
                    checks += self._check_shard(examined)
        self._check_twice(sound)
        if folder in self.features:
            checks += self._check_absent(self.features[folder], {file.shard for file in files})
            rows, failed, omitted = (sum(getattr(check, name) for check in checks) for name in ("rows", "failed", "omitted"))
            by_shard = tuple(sorted(checks, key=lambda check: check.shard))
            self.found.features.append(FeatureCheck(folder, len(sound), rows, failed, omitted, folder in self.partial, by_shard))

    def _not_sound(self, examined: Examined) -> None:
        file, cause = examined.file, examined.fault or ""
        if file.folder in (FAILURES_FOLDER, "clips"):
            self.doubtful.add(file.shard)
        self._damaged(file, cause)

    def _check_shard(self, examined: Examined) -> Iterator[ShardCheck]:
        """A file of the plan against its failures and its clips."""
        file, footer = examined.file, examined.footer
        assert footer is not None
        feature = self.features.get(file.folder)
        failures = self.failures.get(file.shard)
        makers = feature.makers if feature else frozenset()
        explained = failures.explaining(footer.model or None, examined.keys, makers=makers) if failures else examined.keys[:0]
        if file.folder == "clips":
            self.clips[file.shard] = footer
        if feature is None or file.shard not in self.shards or file.shard in self.doubtful:
            return
        if footer.failed and failures is None:
            self.unexplained[file.shard] = max(footer.failed, self.unexplained.get(file.shard, 0))
        elif not 0 <= footer.planned - len(examined.keys) - len(explained) <= footer.omitted:  # one left out may have failed for another feature
            self._damaged(file, f"{len(examined.keys):,} rows and {len(explained):,} failures, but {footer.planned:,} clips were planned")
        elif self._fits_clips(file, footer):
            yield ShardCheck(file.shard, footer.planned, len(examined.keys), len(explained))

    def _fits_clips(self, file: VisibleFile, footer: Footer) -> bool:
        clips = self.clips.get(file.shard)
        if clips and (clips.source_etag != footer.source_etag or is_behind(footer, clips)):
            cause = "it and the shard's clips come from different states of the source"
            self.found.faults.append(Fault(file.found.uri, cause, self._retry("missing"), file.shard))
            return False
        return True

    def _check_absent(self, feature: Feature, there: set[str]) -> Iterator[ShardCheck]:
        """A shard may have no file of a feature only where failures explain every clip."""
        for shard in sorted(self.shards - there - self.doubtful):
            clips, failures = self.clips.get(shard), self.failures.get(shard)
            explained = len(failures.explaining(feature.model, np.empty(0, np.uint64), makers=feature.makers)) if failures else 0
            if feature.table != "clips" and clips and explained == clips.planned:
                yield ShardCheck(shard, clips.planned, 0, explained)
            elif feature.folder not in self.partial:
                self._missing(feature.folder, shard, "is not published")

    def _check_media(self) -> None:
        """Folder by folder; those of tables that are not sound, or not readable now, are left to the fault that these have."""
        told = {fault.file for fault in self.found.faults}
        tables = [file for folder, files in self.places.items() if folder.startswith("enhanced/") for file in files]
        unseen = {media_place(file): file for file in tables if file.found.uri not in told}
        silent = {media_place(file) for file in tables} - unseen.keys()
        places = self._named((unseen.pop(place, None), files) for place, files in media_places(self.output) if place not in silent)
        with ThreadPoolExecutor(THREADS) as pool:
            while batch := list(islice(places, THREADS)):
                for file, faults in zip(batch, pool.map(self._media_faults, batch), strict=True):
                    self.found.files += len(file[1])
                    self.found.faults += faults
        for alone in sorted(unseen.values(), key=lambda table: table.found.uri):
            self.found.faults += self._media_faults((alone, []))

    def _named(self, places: Iterator[MediaPlace]) -> Iterator[MediaPlace]:
        """Without media of versions that are not asked for and have no rows: a prune deletes rows first, and was stopped."""
        left: Counter[str] = Counter()
        for file, there in places:
            names = storage.relative(there[0].uri, self.output).split("/") if file is None else []
            table = "/".join(("enhanced", *names[1:3]))
            if len(names) > len(MEDIA_DEPTH) and table not in self.features and all(map(str.startswith, names[1:], MEDIA_DEPTH[1:3])):
                left["/".join(names[:3])] += len(there)
            else:
                yield file, there
        again = f"vidmill prune {shlex.quote(self.output)}"
        self.found.notes += [
            f"{folder}: {count:,} files that no row names, left by a prune that was stopped; {again}" for folder, count in left.items()
        ]

    def _media_faults(self, place: MediaPlace) -> list[Fault]:
        file, there = place
        left = (item for item in there if storage.relative(item.uri, self.output).split("/")[-2] not in self.dropped)  # the next run drops the others
        found = check_media(self.output, file, there) if file else map(unnamed, left)
        return [self._media_fault(fault, file) for fault in found]

    def _media_fault(self, fault: MediaFault, file: VisibleFile | None) -> Fault:
        cause = fault.cause if fault.row is None else f"{fault.cause}, and the row of {fault.row} names it"
        if fault.row is None:
            return Fault(fault.uri, cause, _remove(fault.uri), file.shard if file else "")
        assert file is not None
        planned = file.shard in self.shards and file.folder in self.features
        if not planned:
            return Fault(fault.uri, cause, _remove(file.found.uri), file.shard)
        return Fault(fault.uri, cause, self._retry("altered" if fault.is_there else "missing"), file.shard, (fault.uri,) * fault.is_there)

    def _check_needed(self) -> None:
        """A failure of a clip that has every row is a contradiction, unless the retry that found the rows has not come to its end."""
        models = {*SOURCE_STAGES, *(feature.model for feature in self.features.values())}
        faulty = {fault.shard for fault in self.found.faults}
        for shard in sorted((self.failures.keys() & self.clips.keys() & self.shards) - faulty):
            failures, clips = self.failures[shard], self.clips[shard]
            file, footer = failures.examined.file, failures.examined.footer
            assert footer is not None
            idle = ~failures.needed & np.array([stage in models for stage in failures.examined.stages], np.bool_)
            if footer.source_etag != clips.source_etag:
                self._damaged(file, "it and the shard's clips come from different states of the source")
            elif idle.any() and not is_behind(footer, clips):
                clip, stage = next(compress(named(file), idle.tolist()))
                self._damaged(file, f"{clip} is a failure of {stage} and has every row ({idle.sum():,} such)")

    def _check_twice(self, sound: list[tuple[VisibleFile, np.ndarray]]) -> None:
        """Clips that a glob over the folder gives more than once; equal hashes of unequal clips are told apart."""
        every = np.sort(np.concatenate([keys for _, keys in sound])) if sound else np.empty(0, np.uint64)
        twice = np.unique(every[1:][every[1:] == every[:-1]])
        if not len(twice):
            return
        holders: dict[tuple[str, str], list[VisibleFile]] = defaultdict(list)
        for file, keys in sound:
            suspect = np.isin(keys, twice)
            for row in compress(named(file), suspect.tolist()) if suspect.any() else ():
                holders[row].append(file)
        together: dict[tuple[VisibleFile, ...], list[str]] = defaultdict(list)
        for (clip, _), files in holders.items():
            together[tuple(files)].append(clip)
        for group, clips in together.items():
            if len(group) > 1:
                self._twice(group, clips)

    def _twice(self, holders: Sequence[VisibleFile], clips: list[str]) -> None:
        ordered = sorted(holders, key=lambda file: (file.shard not in self.shards, file.shard))
        first, other = ordered[0], ordered[-1]
        many = f"{len(clips):,} clips, {min(clips)} first," if len(clips) > 1 else f"the clip {clips[0]}"
        if first is other:
            self._damaged(first, f"holds {many} twice")
        elif other.shard in self.shards:
            cause = f"holds {many} that {first.shard} holds too: two sources give one clip_id"
            fix = f"remove or rename one in the source, then {self._retry('missing')}"
            self.found.faults.append(Fault(other.found.uri, cause, fix, other.shard))
        else:
            cause = f"holds {many} that {first.shard} holds too" + (", and its shard is not in the source any more" if self.features else "")
            self.found.faults.append(Fault(other.found.uri, cause, _remove(other.found.uri), other.shard))

    def _damaged(self, file: VisibleFile, cause: str) -> None:
        """A file that cannot stay; it is computed again where the plan knows it."""
        uri = file.found.uri
        planned = file.shard in self.shards and file.folder in (FAILURES_FOLDER, *self.features)
        fault = Fault(uri, cause, self._retry("altered"), file.shard, (uri,)) if planned else Fault(uri, cause, _remove(uri), file.shard)
        self.found.faults.append(fault)

    def _missing(self, folder: str, shard: str, cause: str) -> None:
        self.found.faults.append(Fault(path_of(self.output, folder, shard), cause, self._retry("missing"), shard))

    def _retry(self, state: str) -> str:
        return f"vidmill retry {shlex.quote(self.output)} --select state:{state}"


def _remove(uri: str) -> str:
    return f"{'aws s3 rm' if uri.startswith('s3://') else 'rm'} {shlex.quote(uri)}"
