"""Who watches a run: the pipeline's counts become snapshots for the console.

Knows the shape of the pipeline and of a snapshot; draws nothing.
"""

import time
from contextvars import ContextVar
from dataclasses import dataclass, field

from flows.console import Progress
from tasks.encoded import Failure
from tasks.plan import RunPlan
from tasks.progress import ProgressSnapshot, StageProgress
from tasks.tally import Tally


class Silent:
    """Nobody watches."""

    def show(self, snapshot: ProgressSnapshot) -> None:
        """Nothing to show it on."""

    def failure(self, text: str) -> None:
        """Nothing to show it on."""


WATCHER: ContextVar[Progress] = ContextVar("watcher", default=Silent())  # noqa: B039 (it has no state)
RUN_ID: ContextVar[str | None] = ContextVar("run_id", default=None)  # chosen by whoever wants to keep the run's log


@dataclass(slots=True)
class Watch:
    """Turns one run's counts into what a person sees."""

    plan: RunPlan
    progress: Progress = field(default_factory=WATCHER.get)
    started_s: float = field(default_factory=time.monotonic)
    first_s: float | None = None         # when the first clip was done; start-up is not speed
    first_clips: int = 0

    def tally(self, tally: Tally) -> None:
        """Show the counts."""
        self.progress.show(self.snapshot(tally))

    def failure(self, failure: Failure) -> None:
        """Show one failure."""
        self.progress.failure(str(failure))

    def snapshot(self, tally: Tally) -> ProgressSnapshot:
        """The counts as one row per stage."""
        now_s, total = time.monotonic(), len(self.plan.work)
        if self.first_s is None and tally.clips:
            self.first_s, self.first_clips = now_s, tally.clips
        busy_s = now_s - self.first_s if self.first_s is not None else 0.0
        published = len(tally.published)
        clip_rate = (tally.clips - self.first_clips) / busy_s if busy_s else 0.0
        shard_rate = published / busy_s if busy_s else 0.0
        elapsed_s = now_s - self.started_s
        stages = (
            StageProgress("read", tally.read_shards, total, "shards", 0, tally.read_shards / elapsed_s if elapsed_s else 0.0),
            StageProgress("decode, infer", tally.clips, None, "clips", tally.failed, clip_rate, None if tally.clips else "the workers to start"),
            StageProgress("publish", published, total, "shards", 0, shard_rate, None if published else "the first shard to be complete"),
        )
        eta_s = (total - published) / shard_rate if shard_rate else None
        return ProgressSnapshot(stages, self.plan.done_shards + published, len(self.plan.corpus.shards), elapsed_s, eta_s)
