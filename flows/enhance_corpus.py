"""enhance-corpus: restored videos of a corpus, and the clips they are of; no model looks at a frame.

The steps are those of process-corpus, which does the same where a configuration names models too.
"""

from prefect import flow

from flows.process_corpus import work_through
from infra.problem import Problem
from infra.settings import RunConfig
from tasks.record import RunSummary


@flow(name="enhance-corpus", flow_run_name="{config.name}")
def enhance_corpus(config: RunConfig) -> RunSummary:
    """Restore every clip by every recipe that the corpus lacks, and publish it; `embed` and `tag` are left for another run.

    Raises:
        Problem: the configuration names no recipe, or as `process_corpus`, like RunIncomplete.
    """
    if not config.enhance:
        raise Problem("enhance: is empty; name a recipe, such as denoise, or run process-corpus")
    return work_through(config.model_copy(update={"embed": [], "tag": []}))
