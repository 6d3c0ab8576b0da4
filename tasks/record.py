"""The record of a run: OUT/_runs/<run_id>.json, written when the run starts and again when it ends.

A view for people and for `verify`; no run ever decides from it what to do.
"""

import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from infra import storage
from infra.settings import EnhanceConfig, RunConfig
from models import weights
from models.tagger_spec import tagger_address
from tasks.choice import Choice
from tasks.deleted import DeletedInputs
from tasks.failure_groups import joined_groups
from tasks.feature import Feature
from tasks.labels import read_annotations
from tasks.outcome import FailureGroup, FeatureOutcome
from tasks.plan import RunPlan, work_left
from tasks.published import FAILURES_FOLDER, Footer, footers, known_files, path_of, read_rows, shards_in
from tasks.source import LOOSE
from tasks.tally import Tally, allowed_failures

Status = Literal["running", "done", "nothing to do", "work left", "too many failures", "interrupted"]


@dataclass(frozen=True, slots=True)
class CorpusCoverage:
    """How the annotations and the corpus meet, over all published shards."""

    annotated: int  # clips that the annotations name
    present: int  # members of the corpus, good or bad
    absent: int  # annotated, and nowhere in the published shards
    unannotated: int  # members that the annotations do not name
    replaced: int  # members taken from source.replacements
    ignored: int  # other files in the archives


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run did and what the output holds now."""

    run_id: str
    name: str
    output: str
    status: Status
    shards: int  # of the corpus
    shards_published: int  # by this run
    clips: int  # decoded and inferred by this run, good or bad
    features: tuple[FeatureOutcome, ...]
    failures: tuple[FailureGroup, ...]  # over the whole corpus, most frequent first
    coverage: CorpusCoverage
    problems: tuple[str, ...]  # why shards are left
    elapsed_s: float
    notices: tuple[str, ...] = ()  # what is no problem of this run and should be known
    tagged: int = 0  # clips that this run tagged from stored embeddings, good or bad
    enhanced: int = 0  # clips that this run restored by some recipe, good or bad
    report: str | None = None  # page of before and after
    deleted: DeletedInputs = field(default_factory=DeletedInputs)


def new_run_id() -> str:
    """Sorts by time, unique across machines."""
    now = datetime.now(UTC)
    return f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03}-{secrets.token_hex(3)}"


def runs_folder(output: str) -> str:
    """Folder of the run records."""
    return f"{output.rstrip('/')}/_runs"


def record_uri(output: str, run_id: str) -> str:
    """Where a run's record lies."""
    return f"{runs_folder(output)}/{run_id}.json"


def write_record(plan: RunPlan, run_id: str, status: Status, summary: RunSummary | None = None) -> None:
    """Write or replace the record of a run."""
    record = {
        "run_id": run_id,
        "status": status,
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **_asked(plan),
        "summary": asdict(summary) if summary else None,
    }
    storage.write_bytes(record_uri(plan.config.output, run_id), json.dumps(record, indent=1, default=str).encode())


def _asked(plan: RunPlan) -> dict[str, Any]:
    """What the output is to hold from now on; after a backfill that is what it was, and what the backfill adds.

    Features that a backfill adds to some shards or clips only are `partial`: later runs are not asked for them, and what is not there is no fault.
    """
    if plan.base is None:
        shards = [shard.name for shard in plan.corpus.shards]
        return {
            "config": from_anywhere(plan.config),
            "features": [asdict(feature) for feature in plan.features],
            "shards": shards,
            "partial": [],
            "dropped": plan.dropped,
        }
    targets = [asdict(feature) for feature in plan.targets]
    whole = plan.selection == Choice() and {shard.name for shard in plan.corpus.shards} >= {*plan.base["shards"]}
    full, part = (targets, []) if whole else ([], targets)
    features = [*_others(plan.base["features"], full), *full]
    partial = [feature for feature in (*_others(partial_of(plan.base), part), *part) if feature not in features]
    config = _with_targets(plan.base["config"], plan.config) if whole else plan.base["config"]
    return {"config": config, "features": features, "shards": plan.base["shards"], "partial": partial, "dropped": plan.base.get("dropped", [])}


def _others(features: Sequence[dict[str, Any]], added: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Features of which no version is added."""
    made = {(feature["table"], feature["model"]) for feature in added}
    return [feature for feature in features if (feature["table"], feature["model"]) not in made]


def _with_targets(config: Mapping[str, Any], backfill: RunConfig) -> dict[str, Any]:
    """A recorded configuration that asks for what a backfill added too."""
    more = from_anywhere(backfill)
    models = {entry["name"]: entry for entry in more["models"]}
    recipes = {EnhanceConfig(**entry).label: entry for entry in (*config["enhance"], *more["enhance"])}
    named = {field: list(dict.fromkeys((*config[field], *more[field]))) for field in ("embed", "tag")}
    return {**config, **named, "enhance": [*recipes.values()], "models": [*models.values()]}


def partial_of(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Features that a record knows of some shards or clips only; records of earlier releases know none."""
    return list(record.get("partial", []))


def from_anywhere(config: RunConfig) -> dict[str, Any]:
    """The configuration with addresses that do not depend on where the command was given."""
    values = config.model_dump(mode="json")
    source = {
        field: storage.normal(uri) + "/" * uri.endswith("/")
        for field in ("uri", "annotations", "replacements", "vocabulary")
        if (uri := values["source"][field])
    }
    source["allow"] = [storage.normal(root) + "/" * root.endswith("/") for root in values["source"]["allow"]]
    models = [_model_from_anywhere(model) for model in values["models"]]
    recipes = [{**recipe, "weights": recipe["weights"] and weights.absolute(recipe["weights"])} for recipe in values["enhance"]]
    return {**values, "output": storage.normal(config.output), "source": {**values["source"], **source}, "models": models, "enhance": recipes}


def _model_from_anywhere(model: dict[str, Any]) -> dict[str, Any]:
    return {
        **model,
        "weights": model["weights"] and weights.absolute(model["weights"]),
        "tagger": model["tagger"] and weights.absolute(tagger_address(model["tagger"])),
        "labels": model["labels"] and os.path.abspath(model["labels"]),
    }


def last_record(output: str) -> dict[str, Any] | None:
    """The newest run's record that can be read."""
    return newest_records(output)[0]


def newest_records(output: str) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """The newest record that can be read, and the addresses of newer ones that cannot."""
    damaged: list[str] = []
    for uri, record in _newest_first(output):
        if record:
            return record, tuple(damaged)
        damaged.append(uri)
    return None, tuple(damaged)


def records(output: str) -> Iterator[dict[str, Any]]:
    """Every record that can be read, newest first, one at a time."""
    return (record for _, record in _newest_first(output) if record)


def _newest_first(output: str) -> Iterator[tuple[str, dict[str, Any] | None]]:
    for name in sorted(storage.list_names(runs_folder(output)), reverse=True):
        if name.endswith(".json"):
            uri = f"{runs_folder(output)}/{name}"
            yield uri, _record(storage.read_bytes(uri))


def is_news(plan: RunPlan, summary: RunSummary) -> bool:
    """Whether the newest record tells of other shards, of other inputs that are gone, or of work that was left, than a run that had nothing to do."""
    record = last_record(plan.config.output)
    if record is None or (record["status"] in ("work left", "interrupted") and record["status"] != summary.status):
        return True
    kept: int = (record["summary"] or {}).get("deleted", {}).get("kept", 0)
    shards: list[str] = record["shards"]
    return kept != summary.deleted.kept or shards != [shard.name for shard in plan.corpus.shards]


def _record(data: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(data)
        [Feature(**feature) for feature in (*record["features"], *partial_of(record))]
        whole = record["run_id"] and record["status"] and record["config"] and all(isinstance(shard, str) for shard in record["shards"])
    except (ValueError, TypeError, KeyError):
        return None
    return dict(record) if whole else None


def summarize(plan: RunPlan, run_id: str, status: Status, tally: Tally, problems: Sequence[str], elapsed_s: float) -> RunSummary:
    """What the output holds now, read from its footers, and what this run added.

    A run is `done` only if every shard is whole for every feature; over `limits.max_failed` it is not, whichever run the failures come from.
    """
    output, shards = plan.config.output, {shard.name: None for shard in plan.corpus.shards}
    idle = plan.published if status == "nothing to do" else None  # nothing was written since the plan looked
    found = idle or {feature: footers(output, feature) for feature in plan.features}
    published = {feature: {name: footer for name, footer in there.items() if name in shards} for feature, there in found.items()}
    coverage = _coverage(published[plan.features[0]], read_annotations(plan.corpus.annotations).table.num_rows)
    failures = known_files(output, FAILURES_FOLDER, shards.keys()).values()
    left = [work.shard.name for work in work_left(plan, published)] if status == "done" or (status == "nothing to do" and not idle) else []
    failed = sum(known.failed for known in failures)
    allowed = allowed_failures(plan.config.limits.max_failed, coverage.present)
    if left:
        status, problems = "work left", [*problems, f"{len(left)} shards are not whole, {left[0]} first; run again"]
    elif status in ("done", "nothing to do") and failed > allowed:
        status, problems = "too many failures", [*problems, f"{failed} clips failed, and limits.max_failed allows {allowed}"]
    return RunSummary(
        run_id=run_id,
        name=plan.config.name,
        output=output,
        status=status,
        shards=len(shards),
        shards_published=len({published.shard for published in tally.published}),
        clips=tally.clips,
        tagged=tally.tagged,
        enhanced=tally.enhanced,
        features=tuple(feature_outcome(feature, footers_of) for feature, footers_of in published.items()),
        failures=joined_groups(group for known in failures for group in known.groups),
        coverage=coverage,
        problems=tuple(dict.fromkeys(problems)),
        elapsed_s=elapsed_s,
        deleted=_deleted(plan, tally),
        notices=(*plan.notices, *_noted(tally)),
    )


def _deleted(plan: RunPlan, tally: Tally) -> DeletedInputs:
    """Loose videos go one by one, and are counted so already."""
    return plan.deleted if plan.config.source.kind in LOOSE else replace(plan.deleted, lost_clips=sum(shard.lost for shard in tally.published))


def _noted(tally: Tally) -> Sequence[str]:
    return [f"{tally.noted:,} records are unusual and were taken as they are; the column notes of clips says in what"] if tally.noted else []


def feature_outcome(feature: Feature, shards: Mapping[str, Footer]) -> FeatureOutcome:
    """Rows, failures and shards of a feature, from its footers."""
    return FeatureOutcome(feature.folder, sum(f.rows for f in shards.values()), sum(f.failed for f in shards.values()), len(shards))


def _coverage(clips: Mapping[str, Footer], annotated: int) -> CorpusCoverage:
    present = sum(footer.planned for footer in clips.values())
    matched = sum(footer.coverage.annotated for footer in clips.values())
    replaced = sum(footer.coverage.replaced for footer in clips.values())
    ignored = sum(footer.coverage.ignored for footer in clips.values())
    return CorpusCoverage(annotated, present, max(annotated - matched, 0), present - matched if annotated else 0, replaced, ignored)


def published_failures(output: str, shards: Sequence[str]) -> list[dict[str, Any]]:
    """Every published failure of some shards, as rows of the failures table."""
    with_failures = shards_in(output, FAILURES_FOLDER)
    tables = (read_rows(path_of(output, FAILURES_FOLDER, shard)) for shard in shards if shard in with_failures)
    return [row for table in tables if table is not None for row in table.to_pylist()]
