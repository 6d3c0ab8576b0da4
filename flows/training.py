"""What the flows of all trainings share: how one can end, the room it needs, its outcome on Prefect's page.

Knows nothing of what is learned.
"""

import logging
from collections.abc import Sequence
from typing import Literal, Protocol

from prefect.artifacts import create_table_artifact

from infra.cluster import Resources
from infra.problem import Problem

Outcome = Literal["done", "nothing to do", "no better than its baseline"]


class TrainingSummary(Protocol):
    """How a training ended, for people."""

    @property
    def status(self) -> Outcome:
        """In a word."""

    @property
    def outcome(self) -> str:
        """In a line."""

    @property
    def head(self) -> Sequence[str]:
        """Columns of `rows`."""

    @property
    def rows(self) -> Sequence[Sequence[str]]:
        """Its scores."""

    @property
    def weights(self) -> str:
        """Address of the weights."""

    @property
    def card(self) -> str:
        """Address of their card."""


def check_room(workers: int, found: Resources) -> None:
    """Ray would wait for ever for what the cluster does not have."""
    room, unit = (found.gpus, "GPUs") if found.gpus else (found.cpus, "CPU cores")
    if workers > room:
        raise Problem(f"workers {workers}: the cluster has {room} {unit}; name at most that many with --workers, in a new --output where one began")


def show_outcome(summary: TrainingSummary) -> None:
    """A table on Prefect's page; a server that is gone by now changes nothing of the outcome."""
    rows = [dict(zip(summary.head, row, strict=True)) for row in summary.rows]
    try:
        create_table_artifact(rows, key="scores", description=f"{summary.outcome}; {summary.weights}")
    except Exception:  # httpx's, Prefect's, and whatever lies below
        logging.getLogger("vidmill").exception("the Prefect server was not told the outcome")
