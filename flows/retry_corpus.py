"""retry-corpus: what is selected is done again, everything else is left as it is.

    lease -> altered files go, if selected -> plan of what is selected -> process -> report

The steps are those of process-corpus. Until a shard's new files are there, its old failures stay and explain what is missing.
"""

import time

from prefect import flow

from flows.deployed import turn, under_prefect
from flows.process_corpus import IDLE, carry_out, complete, plan_corpus, report
from flows.step import step
from flows.watch import chosen_run_id
from infra import storage
from infra.settings import RunConfig
from tasks.record import RunSummary
from tasks.select import Selection, selection_of
from tasks.verify import altered_files


@flow(name="retry-corpus", flow_run_name="{config.name}")
def retry_corpus(config: RunConfig, select: list[str]) -> RunSummary:
    """Redo the selected failures, altered files or missing shards.

    Args:
        config: of the run whose failures these are; limits may differ.
        select: selectors as `tasks.select` reads them; any of them.

    Raises:
        Problem: the configuration, a selector, the source or the output is not usable; nothing was done.
        RunIncomplete: as `process_corpus`.
    """
    started_s, selection = time.monotonic(), selection_of(select)
    run_id = chosen_run_id()
    with under_prefect(config.output), turn(config.output, run_id=run_id) as held:
        if selection.takes_altered():
            clear_altered(config.output, selection)
        plan = plan_corpus(config, selection)
        if not plan.work:
            return complete(report(plan, run_id, IDLE, started_s))
        return complete(carry_out(plan, run_id, held, started_s))


@step(name="clear")
def clear_altered(output: str, selection: Selection) -> None:
    """Delete what verification finds altered; the plan then finds it missing."""
    for uri in altered_files(output, selection):
        storage.delete(uri)
