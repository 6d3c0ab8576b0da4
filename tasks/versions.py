"""Versions: every feature that an output holds, and which of them count now.

    embeddings/model=a/version=1   old       another version of the model is current
    embeddings/model=a/version=2   current   the last run asked for it, or a backfill since
    embeddings/model=b/version=3   other     the last run did not ask for the model; its newest version

Lists folders; reads footers only where a model has several versions and the last run asked for none of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from infra import storage
from infra.storage import ObjectInfo
from tasks.feature import Feature
from tasks.published import Footer, features_in, footers_of
from tasks.record import partial_of

State = Literal["current", "other", "old"]

SUFFIX = ".parquet"


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a feature, and its files by shard."""

    feature: Feature
    state: State
    files: Mapping[str, ObjectInfo]

    @property
    def size_bytes(self) -> int:
        """Bytes of its tables; media lies elsewhere."""
        return sum(found.size_bytes for found in self.files.values())


def versions_of(output: str, record: Mapping[str, Any]) -> list[Version]:
    """Versions that are there or were asked for last: those of `record` first, `clips` before all, then the others by name."""
    asked = asked_of(record)
    there = {feature.folder: feature for feature in features_in(output)}
    features = {feature.folder: feature for feature in asked} | {folder: there[folder] for folder in sorted(there.keys() - {f.folder for f in asked})}
    files = {folder: _files(output, folder) for folder in features}
    states = _states([feature for feature in features.values() if feature not in asked], asked, files, output)
    return [Version(feature, states.get(folder, "current"), files[folder]) for folder, feature in features.items()]


def asked_of(record: Mapping[str, Any]) -> list[Feature]:
    """Features that the last run asked for, and those that backfills since added in part."""
    return [Feature(**feature) for feature in (*record["features"], *partial_of(record))]


def _files(output: str, folder: str) -> dict[str, ObjectInfo]:
    names = storage.list_names(f"{output.rstrip('/')}/{folder}")
    return {name.removesuffix(SUFFIX): found for name, found in names.items() if name.endswith(SUFFIX)}


def _states(rest: Sequence[Feature], asked: Sequence[Feature], files: Mapping[str, Mapping[str, ObjectInfo]], output: str) -> dict[str, State]:
    """Of versions that were not asked for."""
    wanted = {(feature.table, feature.model) for feature in asked}
    states: dict[str, State] = {}
    for made in dict.fromkeys((feature.table, feature.model) for feature in rest):
        group = [feature for feature in rest if (feature.table, feature.model) == made]
        newest = None if made in wanted else _newest(group, files, output)
        states |= {feature.folder: "other" if feature is newest else "old" for feature in group}
    return states


def _newest(group: Sequence[Feature], files: Mapping[str, Mapping[str, ObjectInfo]], output: str) -> Feature:
    """The version that was written to last; the ids of runs sort by time."""
    if len(group) == 1:
        return group[0]
    return max(group, key=lambda feature: _written(footers_of(output, feature.folder, sorted(files[feature.folder]))))


def _written(shards: Mapping[str, Footer]) -> str:
    return max((footer.run_id for footer in shards.values()), default="")
