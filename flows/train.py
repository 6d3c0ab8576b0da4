"""One training from the command line: the flow, a quiet screen, the log where it belongs.

With PREFECT_API_URL the flow reports to that server; without, it runs as a plain function and starts none.
"""

import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.console import console_on, progress
from flows.crash import Crash, root_of
from flows.watch import WATCHER
from infra.logs import quiet_to, redact_file
from infra.problem import Problem

if TYPE_CHECKING:
    from prefect import Flow

    from flows.training import TrainingSummary

C = TypeVar("C")
S = TypeVar("S")


def train(flow_of: Callable[[], "Flow[[C], S]"], config: C) -> S:
    """Run a training's flow while a person watches.

    Args:
        flow_of: imports the flow, once Prefect may log.

    Raises:
        Problem: nothing could be done, the message says why.
        Crash: something nobody foresaw; the message says where the log is.
        KeyboardInterrupt: a checkpoint was written.
    """
    log = Path(tempfile.mkdtemp(prefix="vidmill-")) / "train.log"
    kept = False
    try:
        with quiet_to(log) as streams, progress(console_on(streams.stderr)) as display:
            token = WATCHER.set(display)
            try:
                return _flow_result(flow_of, config)
            finally:
                WATCHER.reset(token)
    except Exception as error:
        root = root_of(error)
        if isinstance(root, Problem):
            raise root from error
        kept = True
        redact_file(log)
        raise Crash(root, str(log)) from error
    finally:
        if not kept:
            shutil.rmtree(log.parent, ignore_errors=True)


def _flow_result(flow_of: Callable[[], "Flow[[C], S]"], config: C) -> S:
    from prefect.settings import get_current_settings  # Prefect logs from its import on

    flow = flow_of()
    try:
        return (flow if get_current_settings().api.url else flow.fn)(config)
    except Problem:
        raise
    except Exception:
        logging.getLogger("vidmill").exception("the flow failed")
        raise


def print_training(summary: "TrainingSummary", console: Console) -> None:
    """The scores, and what comes next."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, heading in enumerate(summary.head):
        table.add_column(heading, justify="right" if index else "left")
    for row in summary.rows:
        table.add_row(*row)
    console.print(table)
    console.print(Text(summary.outcome), soft_wrap=True)
    console.print(Text(f"weights {summary.weights}\ncard    {summary.card}"), soft_wrap=True)
