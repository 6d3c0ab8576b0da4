"""enhance-corpus: restored videos of a corpus, and the clips they are of; no model looks at a frame.

The steps are those of process-corpus, which does the same where a configuration names models too.
"""

from prefect import flow

from flows.process_corpus import work_through
from infra.settings import RestorationConfig
from tasks.record import RunSummary


@flow(name="enhance-corpus", flow_run_name="{config.name}")
def enhance_corpus(config: RestorationConfig) -> RunSummary:
    """Restore every clip by every recipe that the corpus lacks, and publish it; raises as `process_corpus`."""
    return work_through(config)
