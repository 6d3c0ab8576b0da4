"""The checkpoint of a training, as its first worker keeps it: what the learner needs to go on, and what the card says of the way here.

Knows when to write and what; `tasks.checkpoint` knows how, and the training itself what a sound network is.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from infra.problem import Problem
from tasks import checkpoint
from tasks.training import Learning, Place, machine_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class Keeper:
    """Takes up a training where it was, and keeps it."""

    def __init__(
        self, uri: str, learner: Learning, place: Place, *, digest: str, threads: int, checkpoint_s: float, check: Callable[[], None]
    ) -> None:
        """Keep a training.

        Args:
            uri: of the checkpoint.
            digest: of all that the weights follow from.
            threads: the cores it takes, for the card.
            checkpoint_s: seconds between two checkpoints.
            check: raises Problem where the network has come to nothing; what was written before stays.
        """
        self.uri, self.learner, self.digest, self.writes, self.check = uri, learner, digest, place.rank == 0, check
        self.checkpoint_s = checkpoint_s
        self.machine = machine_of(place.device, threads, half=learner.half)
        self.machines: list[str] = []
        self.scores: list[Mapping[str, Any]] = []
        self.earlier_s, self.began_s, self.kept_s = 0.0, time.monotonic(), time.monotonic()

    def go_on(self) -> None:
        """Take up what is there.

        Raises:
            Problem: it is of another training, or no checkpoint.
        """
        found = checkpoint.load_checkpoint(self.uri)
        if found is None:
            return
        if found["digest"] != self.digest:
            raise Problem(f"{self.uri}: is of another recipe or corpus; remove it to begin anew, or name another --output")
        self.learner.restore(found["learner"])
        self.machines, self.earlier_s, self.scores = list(found["machines"]), found["elapsed_s"], list(found["scores"])

    def passed(self) -> None:
        """A batch was learned from: write what is due."""
        if time.monotonic() - self.kept_s >= self.checkpoint_s:
            self.keep()

    def judged(self, scores: "Sequence[DataclassInstance]") -> None:
        """The end."""
        self.scores = [asdict(score) for score in scores]
        self.keep()

    def keep(self) -> None:
        """Write a checkpoint; raises what `check` does."""
        self.kept_s = time.monotonic()
        if not self.writes:
            return
        self.check()
        if self.machine not in self.machines:
            self.machines.append(self.machine)
        elapsed_s = self.earlier_s + time.monotonic() - self.began_s
        told = {"digest": self.digest, "elapsed_s": elapsed_s, "machines": self.machines, "scores": self.scores}
        checkpoint.save_checkpoint(self.uri, {**told, "learner": self.learner.state()})
