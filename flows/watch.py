"""Who watches a run: the pipeline's counts become snapshots for the console.

Knows the shape of the pipeline and of a snapshot; draws nothing.
"""

import math
import time
from contextvars import ContextVar
from dataclasses import dataclass, field

from flows.console import Progress, counted
from tasks.encoded import Failure
from tasks.plan import RunPlan, overlay_work
from tasks.progress import ProgressSnapshot, Snapshot, StageProgress
from tasks.record import RunSummary, new_run_id
from tasks.stint import waits
from tasks.tally import Tally

SPEED_AFTER_S = 2.0  # parcels come in bursts; over less time than this they say nothing


class Silent:
    """Nobody watches."""

    def show(self, snapshot: Snapshot) -> None:
        """Nothing to show it on."""

    def failure(self, text: str) -> None:
        """Nothing to show it on."""

    def note(self, text: str) -> None:
        """Nothing to show it on."""


WATCHER: ContextVar[Progress] = ContextVar("watcher", default=Silent())  # noqa: B039 (it has no state)
RUN_ID: ContextVar[str | None] = ContextVar("run_id", default=None)  # chosen by whoever wants to keep the run's log
REPORTED: ContextVar[list[RunSummary] | None] = ContextVar("reported", default=None)  # for whoever wants the summary even if the flow cannot give it


def chosen_run_id() -> str:
    """The run's id: the watcher's choice, else a new one."""
    return RUN_ID.get() or new_run_id()


def note(text: str) -> None:
    """Tell whoever watches what should be known from the start."""
    WATCHER.get().note(text)


def note_summary(summary: RunSummary) -> None:
    """Tell whoever listens how a run ended."""
    if (reported := REPORTED.get()) is not None:
        reported.append(summary)


@dataclass(slots=True)
class Watch:
    """Turns one run's counts into what a person sees; the first sight is the plan, before any worker runs."""

    plan: RunPlan
    work: str = "decode, infer"  # what the stage between reading and publishing does
    progress: Progress = field(default_factory=WATCHER.get)
    started_s: float = field(default_factory=time.monotonic)
    first_s: float | None = None  # when the first clips were done; start-up is not speed
    first_clips: int = 0

    def __post_init__(self) -> None:
        self.tally(Tally())

    def tally(self, tally: Tally) -> None:
        """Show the counts."""
        self.progress.show(self.snapshot(tally))

    def failure(self, failure: Failure) -> None:
        """Show one failure."""
        self.progress.failure(str(failure))

    def snapshot(self, tally: Tally) -> ProgressSnapshot:
        """The counts as one row per stage."""
        elapsed_s, busy_s = self._clocks(tally)
        archives = len(self.plan.work) + (overlay_work(self.plan) is not None)
        published, total = len(tally.published), _clips_in_all(tally) if tally.read_shards == archives else None
        clip_rate = _rate(tally.clips - self.first_clips, busy_s) if busy_s >= SPEED_AFTER_S else _rate(tally.clips, elapsed_s)
        names, waiting = self._stages(tally)
        failed = dict.fromkeys(names, 0) | {names[-1]: tally.failed}
        stages = (
            StageProgress("read", tally.read_shards, archives, "shards", 0, _rate(tally.read_shards, elapsed_s), waiting.get("read")),
            *(StageProgress(name, tally.clips, total, "clips", failed[name], clip_rate, waiting.get(name)) for name in names),
            StageProgress("publish", published, len(self.plan.work), "shards", 0, _rate(published, elapsed_s), waiting.get("publish")),
        )
        if total is not None:
            eta_s = (total - tally.clips) / clip_rate if clip_rate else None
        else:
            eta_s = (archives - tally.read_shards) * busy_s / tally.read_shards if tally.read_shards else None
        return ProgressSnapshot(stages, self.plan.done_shards + published, len(self.plan.corpus.shards), elapsed_s, eta_s)

    def _stages(self, tally: Tally) -> tuple[tuple[str, ...], dict[str, str]]:
        """The stages between reading and publishing, which are known once parcels have passed them, and who waits for whom."""
        between = tuple(tally.stints)[1:]
        names = between if len(between) > 1 else (self.work,)
        shown = dict(zip(between, names, strict=True)) if between else {}
        found = {shown.get(stage, stage): shown.get(other, other) for stage, other in waits(tally.busy()).items()}
        if tally.read_shards == len(self.plan.work) + (overlay_work(self.plan) is not None):
            found.pop("read", None)
        if not tally.clips and not tally.read_shards:
            found[names[0]] = "Ray and the models to start"
        if tally.counts:
            found["publish"] = f"the rest of {counted(len(tally.counts), 'shard')}"
        return names, found

    def _clocks(self, tally: Tally) -> tuple[float, float]:
        """Seconds since the start, and since the first clips."""
        now_s = time.monotonic()
        if self.first_s is None and tally.clips:
            self.first_s, self.first_clips = now_s, tally.clips
        return now_s - self.started_s, 0.0 if self.first_s is None else now_s - self.first_s


def _clips_in_all(tally: Tally) -> int:
    """Clips of this run once every shard was read: what is done, and what was sent and is not back."""
    under_way = (count.sent - count.done for count in tally.counts.values() if count.sent is not None and math.isfinite(count.done))
    return tally.clips + int(sum(under_way))


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds else 0.0
