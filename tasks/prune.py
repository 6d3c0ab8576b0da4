"""Pruning: versions of a feature that a newer, complete one has replaced, found and deleted.

A version goes if the last run did not ask for it and another version of the same model or recipe is complete: the one that was asked for, or where
none was, the newest. Embeddings stay as long as tags that were made from them do. Rows go before the media that they name, so that whoever is killed
in between leaves media that no row names, which is found and deleted by the next one.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from infra import storage
from infra.crash_point import CrashPoint, crash_point
from infra.problem import Problem
from tasks.coverage import FeatureCoverage, coverage, is_complete
from tasks.feature import Feature
from tasks.media import MEDIA_FOLDER
from tasks.published import FAILURES_FOLDER, footers_of
from tasks.record import last_record, records
from tasks.versions import Version, asked_of, versions_of


@dataclass(frozen=True, slots=True)
class OldVersion:
    """A version that may be deleted."""

    label: str
    folders: tuple[str, ...]  # relative to the output, in the order in which they go
    files: int
    size_bytes: int
    why: str


@dataclass(frozen=True, slots=True)
class KeptVersion:
    """A version that is not current, and stays."""

    label: str
    why: str


@dataclass(frozen=True, slots=True)
class Pruning:
    """What there is to prune."""

    output: str
    old: tuple[OldVersion, ...]
    kept: tuple[KeptVersion, ...]


def find_old(output: str, only: Sequence[str] = ()) -> Pruning:
    """Old versions of an output; with `only`, labels or globs, those among them that it names.

    Raises:
        Problem: no run is recorded; or something in `only` names no old version.
    """
    record = last_record(output)
    if record is None:
        raise Problem(f"{output}: no vidmill run is recorded there; check the path, or run `vidmill run` first")
    versions = versions_of(output, record)
    old, kept = _judged(output, record, versions)
    media = _media(output)
    unasked = media.keys() - {f"{MEDIA_FOLDER}/{version.feature.partitions}" for version in versions if version.feature.table == "enhanced"}
    found = [*(_old(version, why, media) for version, why in old), *(_left_media(folder, *media[folder]) for folder in sorted(unasked))]
    _refuse_unknown(output, only, found, kept)
    named = [version for version in found if not only or any(_is_named(version.label, pattern) for pattern in only)]
    chosen, bound = _without_inputs_of_tags(output, versions, named)
    return Pruning(output, tuple(chosen), (*kept, *bound))


def delete_old(pruning: Pruning, guard: Callable[[], None]) -> None:
    """Delete these versions, tags before the embeddings that they were made from; `guard` is called before each folder."""
    for version in sorted(pruning.old, key=lambda version: not version.label.startswith("tags ")):
        for folder in version.folders:
            guard()
            storage.delete_tree(f"{pruning.output.rstrip('/')}/{folder}")
            crash_point(CrashPoint.PRUNED)


def _judged(output: str, record: Mapping[str, Any], versions: Sequence[Version]) -> tuple[list[tuple[Version, str]], list[KeptVersion]]:
    newer = {_made(version): version for version in versions if version.state != "old"}
    replaced = [version for version in versions if version.state == "old"]
    complete = _coverage(output, record, [versions[0], *{id(newer[_made(old)]): newer[_made(old)] for old in replaced}.values()]) if replaced else {}
    old, kept = [], []
    for version in replaced:
        now = newer[_made(version)].feature
        if is_complete(complete[now.folder]):
            old.append((version, f"{now.label} is complete"))
        else:
            lacks = (complete[now.folder].missing or 0) + (complete[now.folder].partial or 0)
            kept.append(
                KeptVersion(version.feature.label, f"{now.label} is not complete: {lacks:,} of {len(record['shards']):,} shards lack clips of it")
            )
    return old, kept


def _made(version: Version) -> tuple[str, str | None]:
    return version.feature.table, version.feature.model


def _coverage(output: str, record: Mapping[str, Any], versions: Sequence[Version]) -> dict[str, FeatureCoverage]:
    shards = record["shards"]
    empty = {shard: footer.empty for shard, footer in footers_of(output, FAILURES_FOLDER, shards).items()}
    return {found.folder: found for found in coverage(output, versions, shards, empty)}


def _media(output: str) -> dict[str, tuple[int, int]]:
    """Files and bytes by folder of a recipe's version."""
    counted: dict[str, tuple[int, int]] = {}
    for item in storage.walk(f"{output.rstrip('/')}/{MEDIA_FOLDER}"):
        folder = "/".join(storage.relative(item.uri, output).split("/")[:3])
        files, size_bytes = counted.get(folder, (0, 0))
        counted[folder] = files + 1, size_bytes + item.size_bytes
    return counted


def _old(version: Version, why: str, media: Mapping[str, tuple[int, int]]) -> OldVersion:
    feature = version.feature
    beside = f"{MEDIA_FOLDER}/{feature.partitions}" if feature.table == "enhanced" else ""
    files, size_bytes = media.get(beside, (0, 0))
    folders = (feature.folder, beside) if beside else (feature.folder,)
    return OldVersion(feature.label, folders, len(version.files) + files, version.size_bytes + size_bytes, why)


def _left_media(folder: str, files: int, size_bytes: int) -> OldVersion:
    return OldVersion(folder, (folder,), files, size_bytes, "no row names this media: a prune was stopped in the middle")


def _is_named(label: str, pattern: str) -> bool:
    """By label, or by model@version alone."""
    return any(fnmatchcase(name, pattern) for name in (label, label.rpartition(" ")[2]))


def _refuse_unknown(output: str, only: Sequence[str], old: Sequence[OldVersion], kept: Sequence[KeptVersion]) -> None:
    for pattern in only:
        if not any(_is_named(version.label, pattern) for version in old):
            why = next((f"{version.label} stays: {version.why}" for version in kept if _is_named(version.label, pattern)), None)
            there = ", ".join(version.label for version in old) or "none"
            raise Problem(f"--feature {pattern}: {why or f'names no old version of {output}'}; old are: {there}")


def _without_inputs_of_tags(
    output: str, versions: Sequence[Version], chosen: Sequence[OldVersion]
) -> tuple[list[OldVersion], list[KeptVersion]]:  # fmt: skip
    """Without embeddings that tags read which stay; where no record tells what tags were made from, without any embeddings."""
    gone = {folder for version in chosen for folder in version.folders}
    staying = {version.feature.folder for version in versions if version.feature.table == "tags" and version.files} - gone
    inputs = _inputs(output, staying) if any(version.label.startswith("embeddings ") for version in chosen) else {}
    free, bound = [], []
    for version in chosen:
        readers = sorted(tags for tags, folders in inputs.items() if folders is None or not set(folders).isdisjoint(version.folders))
        if version.label.startswith("embeddings ") and readers:
            known = inputs[readers[0]] is not None
            bound.append(KeptVersion(version.label, f"{readers[0]} {'was made from it' if known else 'may have been made from it, no record tells'}"))
        else:
            free.append(version)
    return free, bound


def _inputs(output: str, tags: Collection[str]) -> dict[str, tuple[str, ...] | None]:
    """The embeddings that each of these was made from, as the newest record that names it says; None where none does."""
    found: dict[str, tuple[str, ...] | None] = dict.fromkeys(tags)
    for feature in _recorded(output):
        if feature.folder in found and found[feature.folder] is None:
            found[feature.folder] = feature.inputs
        if all(inputs is not None for inputs in found.values()):
            break
    return found


def _recorded(output: str) -> Iterator[Feature]:
    for record in records(output):
        yield from asked_of(record)
