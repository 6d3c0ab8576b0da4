"""Coverage: how far each feature of an output has come, shard by shard, from footers alone.

    done      a row or a failure for every clip of the shard
    partial   a backfill's selection left clips out, or the file is of an earlier state of the shard
    missing   no file

Holds counts of each shard, never clips.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tasks.feature import Feature
from tasks.published import Footer, footers_of, is_behind
from tasks.versions import State, Version

Progress = Literal["done", "partial", "missing"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One feature of one shard."""

    state: Progress
    rows: int = 0
    failed: int = 0
    clips: int | None = None  # of the shard; None where its `clips` are missing


@dataclass(frozen=True, slots=True)
class FeatureCoverage:
    """One version of a feature over all shards. Of an old one only what its listing tells: the counts are None."""

    folder: str
    label: str
    state: State
    files: int
    size_bytes: int
    done: int | None = None  # shards
    partial: int | None = None
    missing: int | None = None
    rows: int | None = None
    failed: int | None = None
    percent: float | None = None  # of the clips: those with a row or a failure, rounded down to 0.1
    by_shard: Mapping[str, Cell] | None = None


def coverage(output: str, versions: Sequence[Version], shards: Sequence[str], empty: Mapping[str, Iterable[str]]) -> list[FeatureCoverage]:
    """Coverage of versions, `clips` first.

    Args:
        output: that holds them.
        versions: as `tasks.versions.versions_of` gives them.
        shards: of the corpus.
        empty: by shard, folders that have no file because no clip gave a row.
    """
    clips = _footers(output, versions[0], shards)
    return [_covered(output, version, clips, shards, empty) for version in versions]


def is_complete(found: FeatureCoverage) -> bool:
    """Whether every clip of every shard has a row or a failure."""
    return not found.missing and not found.partial


def _covered(
    output: str, version: Version, clips: Mapping[str, Footer], shards: Sequence[str], empty: Mapping[str, Iterable[str]]
) -> FeatureCoverage:  # fmt: skip
    feature = version.feature
    told = FeatureCoverage(feature.folder, feature.label, version.state, len(version.files), version.size_bytes)
    if version.state == "old":
        return told
    footers = clips if feature.table == "clips" else _footers(output, version, shards)
    cells = {shard: _cell(feature, footers.get(shard), clips.get(shard), empty.get(shard, ())) for shard in shards}
    states = Counter(cell.state for cell in cells.values())
    rows, failed = sum(cell.rows for cell in cells.values()), sum(cell.failed for cell in cells.values())
    planned = sum(footer.planned for footer in clips.values())
    percent = min((rows + failed) * 1000 // planned / 10, 100.0) if planned else 0.0
    return FeatureCoverage(
        told.folder, told.label, told.state, told.files, told.size_bytes,
        states["done"], states["partial"], states["missing"], rows, failed, percent, cells,
    )  # fmt: skip


def _footers(output: str, version: Version, shards: Sequence[str]) -> dict[str, Footer]:
    return footers_of(output, version.feature.folder, [shard for shard in shards if shard in version.files])


def _cell(feature: Feature, footer: Footer | None, clips: Footer | None, empty: Iterable[str]) -> Cell:
    planned = clips.planned if clips else None
    if footer is None:
        explained = clips is not None and feature.table != "clips" and (not clips.rows or feature.folder in empty)
        return Cell("done", 0, clips.planned, planned) if explained and clips else Cell("missing", clips=planned)
    whole = footer.version == feature.version and not footer.omitted
    if clips and feature.table != "clips":
        whole = whole and footer.source_etag == clips.source_etag and not is_behind(footer, clips)
    return Cell("done" if whole else "partial", footer.rows, footer.failed, planned)
