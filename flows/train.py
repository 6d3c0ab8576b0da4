"""One training from the command line: the flow, a quiet screen, the log where it belongs.

With PREFECT_API_URL the flow reports to that server; without, it runs as a plain function and starts none.
"""

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.console import console_on, progress
from flows.crash import Crash, root_of
from flows.watch import WATCHER
from infra.logs import quiet_to
from infra.problem import Problem
from infra.training import RestorerConfig
from tasks.card import SCORE_COLUMNS, score_row

if TYPE_CHECKING:
    from flows.train_restorer import TrainingSummary


def train(config: RestorerConfig) -> "TrainingSummary":
    """Run train-restorer while a person watches.

    Raises:
        Problem: nothing could be done, the message says why.
        Crash: something nobody foresaw; the message says where the log is.
        KeyboardInterrupt: a checkpoint was written.
    """
    log = Path(tempfile.mkdtemp(prefix="vidmill-")) / "train.log"
    try:
        with quiet_to(log) as streams, progress(console_on(streams.stderr)) as display:
            token = WATCHER.set(display)
            try:
                return _flow_result(config)
            finally:
                WATCHER.reset(token)
    except Exception as error:
        root = root_of(error)
        raise (root if isinstance(root, Problem) else Crash(root, str(log))) from error


def _flow_result(config: RestorerConfig) -> "TrainingSummary":
    from prefect.settings import get_current_settings  # Prefect logs from its import on

    from flows.train_restorer import train_restorer

    try:
        return (train_restorer if get_current_settings().api.url else train_restorer.fn)(config)
    except Problem:
        raise
    except Exception:
        logging.getLogger("vidmill").exception("the flow failed")
        raise


def print_training(summary: "TrainingSummary", console: Console) -> None:
    """The scores, and what comes next."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, heading in enumerate(SCORE_COLUMNS):
        table.add_column(heading, justify="right" if index else "left")
    for score in summary.scores:
        table.add_row(*score_row(score))
    console.print(table)
    console.print(Text(f"{summary.task}: {summary.status}; PSNR in dB on held-out files, after {summary.steps:,} steps"), soft_wrap=True)
    console.print(Text(f"weights {summary.weights}\ncard    {summary.card}"), soft_wrap=True)
