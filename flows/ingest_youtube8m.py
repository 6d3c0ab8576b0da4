"""ingest-youtube8m: the records of YouTube-8M become the tables of a corpus; no video is opened, no model looks at a frame.

The steps are those of process-corpus, which does the same where `source.kind` says youtube8m.
"""

from prefect import flow

from flows.process_corpus import work_through
from infra.settings import RecordsConfig
from tasks.record import RunSummary


@flow(name="ingest-youtube8m", flow_run_name="{config.name}")
def ingest_youtube8m(config: RecordsConfig) -> RunSummary:
    """Store the features and labels of every record that the output lacks, and the tags of the taggers in `tag`; raises as `process_corpus`."""
    return work_through(config)
