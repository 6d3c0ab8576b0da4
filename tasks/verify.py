"""Verification: reads what is published and proves that nothing is missing, double or without a reason.

    every shard of the last run, for every feature it asked for:   rows + failures that explain the rest == members

Knows the tables; opens no media.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.problem import Problem
from tasks.feature import Feature
from tasks.published import FAILURES_FOLDER, Footer, footers, path_of, read_rows
from tasks.record import last_record
from tasks.shardwork import explains, key_of


@dataclass(frozen=True, slots=True)
class FeatureCheck:
    """What verification found of one feature."""

    folder: str
    shards: int
    rows: int
    failed: int


@dataclass(slots=True)
class Verification:
    """Everything verification found; no faults means every planned clip is one row or one failure."""

    run_id: str
    features: list[FeatureCheck] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def verify(output: str) -> Verification:
    """Check an output against the last run's plan.

    Raises:
        Problem: no run was ever recorded there.
    """
    record = last_record(output)
    if record is None:
        raise Problem(f"{output}: no vidmill run is recorded there; check the path, or run `vidmill run` first")
    shards, features = record["shards"], [Feature(**feature) for feature in record["features"]]
    published = {feature: footers(output, feature) for feature in features}
    found = Verification(record["run_id"])
    failures = {shard: _failures(output, shard) for shard in shards}
    for feature in features:
        _verify_feature(output, feature, shards, published[feature], published[features[0]], failures, found)
    return found


def _verify_feature(
    output: str,
    feature: Feature,
    shards: list[str],
    footers_of: Mapping[str, Footer],
    clips: Mapping[str, Footer],
    failures: Mapping[str, list[dict[str, Any]]],
    found: Verification,
) -> None:
    seen: dict[str, str] = {}
    rows = failed = 0
    for shard in shards:
        footer = footers_of.get(shard)
        if footer is None and shard in clips and len(_explained(feature, failures[shard])) == clips[shard].planned:
            failed += clips[shard].planned
            continue
        if footer is None:
            found.faults.append(f"{feature.label}: shard {shard} is not published; run again")
            continue
        ids = _clip_ids(output, feature, shard)
        found.faults += _shard_faults(feature, shard, footer, ids, failures[shard])
        if shard in clips and footer.source_etag != clips[shard].source_etag:
            found.faults.append(f"{feature.label}: shard {shard} and its clips come from different states of the source; run again")
        found.faults += [f"{feature.label}: {clip} is in {seen[clip]} and in {shard}; two sources give one clip_id" for clip in ids if clip in seen]
        seen.update(dict.fromkeys(ids, shard))
        rows, failed = rows + len(ids), failed + footer.failed
    found.features.append(FeatureCheck(feature.folder, len(footers_of), rows, failed))


def _clip_ids(output: str, feature: Feature, shard: str) -> list[str]:
    rows = read_rows(path_of(output, feature.folder, shard), ("clip_id",))
    return rows["clip_id"].to_pylist() if rows is not None else []


def _shard_faults(feature: Feature, shard: str, footer: Footer, ids: list[str], failures: list[dict[str, Any]]) -> Iterator[str]:
    where = f"{feature.label}: shard {shard}"
    if len(set(ids)) < len(ids):
        yield f"{where} has {len(ids) - len(set(ids))} clips twice; delete its file and run again"
    explained = _explained(feature, failures) - set(ids)
    if len(ids) + len(explained) != footer.planned:
        yield f"{where}: {len(ids)} rows and {len(explained)} failures, but {footer.planned} clips were planned; delete its file and run again"


def _explained(feature: Feature, failures: list[dict[str, Any]]) -> set[str]:
    return {key_of(row)[0] for row in failures if explains(row, feature)}


def _failures(output: str, shard: str) -> list[dict[str, Any]]:
    rows = read_rows(path_of(output, FAILURES_FOLDER, shard))
    return rows.to_pylist() if rows is not None else []
