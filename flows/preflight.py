"""What can be known to be wrong before any work: the output as a place to write to. Then the plan.

Knows the output's layout and how a source is listed; opens no media, writes nothing.
"""

from collections.abc import Mapping
from typing import Any

from flows import config_file
from infra import storage
from infra.backfill import BackfillConfig
from infra.problem import Problem
from infra.settings import RunConfig, Settings, SourceKind
from infra.store import leads_to
from tasks.backfill import plan_backfill
from tasks.choice import choice_of
from tasks.labels import read_annotations
from tasks.plan import RunPlan, plan_run
from tasks.record import last_record
from tasks.select import Selection
from tasks.vocabulary import read_vocabulary


def checked_plan(config: RunConfig, selection: Selection | None = None) -> RunPlan:
    """The plan of a run whose output can be an output and whose annotations can be read.

    Raises:
        Problem: the output is a file, or would be taken for input; the annotations are no such table; or as `plan_run`.
    """
    if storage.exists(config.output):
        raise Problem(f"output {config.output}: is a file; name a folder")
    if _is_read_as_input(config):
        raise Problem(f"output {config.output}: lies where source.uri {config.source.uri} looks for input; name a folder outside")
    plan = plan_run(config, selection)
    if plan.work:
        read_annotations(plan.corpus.annotations)
        read_vocabulary(plan.corpus.vocabulary)
    return plan


def backfill_plan(config: BackfillConfig) -> RunPlan:
    """The plan of a backfill of an output that has a record of a run.

    Raises:
        Problem: it has none, or as `plan_backfill`.
    """
    choice, record = choice_of(config.select), last_record(config.output)
    if record is None:
        raise Problem(f"{config.output}: no vidmill run is recorded there; check the path, or run `vidmill run` first")
    targets = {("embeddings", name) for name in config.embed} | {("tags", name) for name in config.tag}
    targets |= {("enhanced", entry.label) for entry in config.enhance}
    return plan_backfill(_backfilling(config, record), targets, choice, record)


def _backfilling(config: BackfillConfig, record: Mapping[str, Any]) -> RunConfig:
    """The recorded configuration with only the wanted features."""
    own = {entry["name"]: entry for entry in (*record["config"]["models"], *(model.model_dump(mode="json") for model in config.models))}
    asked = {"embed": config.embed, "tag": config.tag, "enhance": config.enhance, "models": [*own.values()]}
    sections = {"limits": config.limits, "cluster": config.cluster}  # what is given of them counts, the rest is as recorded
    given = {f"{name}.{field}": getattr(section, field) for name, section in sections.items() for field in _given(section)}
    values = {**record["config"], "output": config.output}
    return config_file.amended(values, {**asked, **given}, name=f"{config.output}: run {record['run_id']}")


def _given(section: Settings) -> set[str]:
    """Fields that somebody gave; a form of Prefect's sends all of them, and there a default says nothing."""
    fields = type(section).model_fields
    whole = section.model_fields_set == fields.keys()
    return {name for name in section.model_fields_set if not whole or getattr(section, name) != fields[name].default}


def _is_read_as_input(config: RunConfig) -> bool:
    """Whether the listing of the source looks into the folders of the output."""
    source = config.source
    if source.kind is SourceKind.MANIFEST:
        return False
    root = storage.root_of(source.uri)
    pattern, below = storage.relative(source.uri, root), storage.relative(f"{config.output}/clips", root)
    whole = pattern == storage.normal(source.uri)
    parts = (("**",) if source.recursive else ("*",)) if whole else tuple(pattern.split("/"))
    return below != storage.normal(f"{config.output}/clips") and leads_to(below.split("/"), parts)
