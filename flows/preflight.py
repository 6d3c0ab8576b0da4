"""What can be known to be wrong before any work: the output as a place to write to. Then the plan.

Knows the output's layout and how a source is listed; opens no media, writes nothing.
"""

from infra import storage
from infra.problem import Problem
from infra.settings import RunConfig, SourceKind
from infra.store import leads_to
from tasks.labels import read_annotations
from tasks.plan import RunPlan, plan_run
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
