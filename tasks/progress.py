"""How far a run has come: immutable snapshots that the pipeline makes and whoever watches shows.

Knows nothing of how progress is counted or shown.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StageProgress:
    """One stage of the pipeline."""

    name: str
    done: int
    total: int | None  # None while it is not known
    unit: str  # what is counted, plural: "clips"
    failed: int
    per_s: float  # units per second, lately
    waiting: str | None = None  # what the stage waits for, in words: "a free CPU"


@dataclass(frozen=True, slots=True)
class ProgressSnapshot:
    """The whole run at one moment."""

    stages: tuple[StageProgress, ...]
    shards_done: int
    shards_total: int
    elapsed_s: float
    eta_s: float | None = None  # seconds left; None while it is not known


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """A training at one moment."""

    step: int
    steps: int
    distance: float | None  # mean over the steps since the moment before; None before the first
    per_s: float  # steps per second since learning began or went on
    elapsed_s: float  # since then
    eta_s: float | None
    waiting: str | None = None  # what it waits for, in words


Snapshot = ProgressSnapshot | TrainingProgress
