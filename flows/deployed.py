"""What is different where Prefect runs a flow for a deployment: it waits for its output instead of being turned away, and a retry that cannot help
is called off.

Knows a flow run's deployment and Prefect's policy of retries; nothing of what a run does.
"""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRunPolicy
from prefect.context import FlowRunContext

from flows.artifacts import shown_progress
from infra.lease import Lease, lease

PATIENCE_S = 20 * 3600.0  # less than a day, so that nightly runs behind one that hangs do not pile up


def in_deployment() -> bool:
    """Whether this is a run that a schedule, a person or another flow asked a deployment for."""
    context = FlowRunContext.get()
    return bool(context and context.flow_run and context.flow_run.deployment_id)


def turn(output: str, *, run_id: str) -> AbstractContextManager[Lease]:
    """The lease of an output; a deployed run waits for it, any other one is turned away at once. Raises as `infra.lease.lease`."""
    return lease(output, run_id=run_id, patience_s=PATIENCE_S if in_deployment() else 0.0)


@contextmanager
def under_prefect(output: str) -> Iterator[None]:
    """Where Prefect watches: progress on the run's page, and no retry of what another try cannot mend."""
    with shown_progress(output):
        try:
            yield
        except Exception as error:
            if not getattr(error, "passing", True) and in_deployment():
                _call_off_retries()
            raise


def _call_off_retries() -> None:
    """A server that is gone retries nothing anyway."""
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(context.flow_run.id, empirical_policy=FlowRunPolicy(retries=0, retry_delay=0))
    except Exception:  # httpx's, Prefect's, and whatever lies below
        logging.getLogger("vidmill").exception("the Prefect server was not told that a retry cannot help")
