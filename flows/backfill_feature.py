"""backfill-feature: features that a finished output lacks, of the clips that it holds.

    plan (what `clips` names, minus what is there) -> lease -> process -> report

The steps are those of process-corpus. `clips` and every other feature stay as they are; shards that are new in the source, or changed there, are for
a run.
"""

import time

from prefect import flow

from flows.deployed import turn, under_prefect
from flows.preflight import backfill_plan
from flows.process_corpus import IDLE, carry_out, complete, report
from flows.step import step
from flows.watch import chosen_run_id
from infra.backfill import BackfillConfig
from tasks.plan import RunPlan
from tasks.record import RunSummary


@flow(name="backfill-feature", flow_run_name="{config.output}")
def backfill_feature(config: BackfillConfig) -> RunSummary:
    """Compute the named features of the clips that an output holds, or of a selection of them.

    Raises:
        Problem: the configuration, a selector, the source or the output is not usable; nothing was done.
        RunIncomplete: as `process_corpus`.
    """
    started_s, run_id = time.monotonic(), chosen_run_id()
    with under_prefect(config.output):
        plan = plan_backfill(config)
        if not plan.work:
            return complete(report(plan, run_id, IDLE, started_s))
        with turn(config.output, run_id=run_id) as held:
            if held.waited:
                plan = plan_backfill(config)  # another run may have ended just before
            return complete(carry_out(plan, run_id, held, started_s))


@step(name="plan")
def plan_backfill(config: BackfillConfig) -> RunPlan:
    """What the selected clips lack; opens no media, writes nothing."""
    return backfill_plan(config)
