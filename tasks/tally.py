"""Counts of a run: per shard while it is under way, never per clip.

Knows what workers report and what was published; nothing of Ray.
"""

import math
from collections import deque
from dataclasses import dataclass, field, replace
from fractions import Fraction

from tasks.encoded import Outcome, ShardEnd
from tasks.publish import PublishedShard
from tasks.stint import Stint, Way

LATELY = 64  # parcels


@dataclass(slots=True)
class _ShardCount:
    done: float = 0  # minus infinity where the store failed a clip: never complete
    sent: int | None = None  # None until the shard was read to its end


@dataclass(slots=True)
class Tally:
    """Counts of a run so far."""

    clips: int = 0  # computed by this run, good or bad
    tagged: int = 0  # from stored embeddings by this run, good or bad, once that part is over
    enhanced: int = 0  # the same of restored clips
    known: int = 0  # finished by earlier runs
    failed: int = 0  # of `clips`
    noted: int = 0  # of `clips`: unusual, taken as they are
    read_shards: int = 0
    published: list[PublishedShard] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    counts: dict[str, _ShardCount] = field(default_factory=dict)
    stints: dict[str, deque[Stint]] = field(default_factory=dict)  # by stage, in the order of the pipeline, the latest

    def add(self, outcome: Outcome) -> bool:
        """Count an outcome; true when its shard is complete."""
        count = self.counts.setdefault(outcome.shard, _ShardCount())
        count.done += outcome.clips
        self.clips += outcome.clips
        self.noted += outcome.noted
        self.failed += len({failure.clip_id or failure.member for failure in outcome.failures})
        if outcome.problem:
            self.problems.append(outcome.problem)
            count.done = -math.inf
        if outcome.end:
            self._end(count, outcome.end)
        complete = count.sent == count.done
        if complete:
            del self.counts[outcome.shard]
        return complete

    def spent(self, way: Way) -> None:
        """Note what the stages spent on a parcel."""
        for stint in way:
            self.stints.setdefault(stint.stage, deque(maxlen=LATELY)).append(stint)

    def busy(self) -> dict[str, float]:
        """How much of their time the workers of each stage have worked lately, 0..1."""
        sums = {stage: (sum(s.busy_s for s in stints), sum(s.busy_s + s.idle_s for s in stints)) for stage, stints in self.stints.items()}
        return {stage: busy_s / all_s if all_s else 0.0 for stage, (busy_s, all_s) in sums.items()}

    def joined(self, *, tagging: "Tally | None" = None, enhancement: "Tally | None" = None) -> "Tally":
        """This part of a run and those that came after it."""
        later = [part for part in (tagging, enhancement) if part]
        return replace(
            self,
            tagged=tagging.clips if tagging else self.tagged,
            enhanced=enhancement.clips if enhancement else self.enhanced,
            failed=sum((part.failed for part in later), self.failed),
            published=[*self.published, *(shard for part in later for shard in part.published)],
            problems=[*self.problems, *(problem for part in later for problem in part.problems)],
        )

    def after(self, earlier: "Tally") -> "Tally":
        """This and what was begun before it for the same work, and given up."""
        return replace(
            self,
            clips=earlier.clips + self.clips,
            failed=earlier.failed + self.failed,
            noted=earlier.noted + self.noted,
            published=[*earlier.published, *self.published],
        )

    def _end(self, count: _ShardCount, end: ShardEnd) -> None:
        self.read_shards += 1
        self.known += end.known
        if end.problem:
            self.problems.append(end.problem)
        else:
            count.sent = end.sent


def allowed_failures(max_failed: float, clips: int) -> int:
    """How many of `clips` may fail: a share below 1 counts over at least 100 clips, else a count."""
    share = Fraction(str(max_failed))  # 0.29 * 100 is 28.999...
    return math.floor(share * max(clips, 100)) if share < 1 else int(share)
