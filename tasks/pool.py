"""The takes that one worker learns from: all of its files' where they fit, else parts of them that change as learning goes on.

    files --fit--> every take, for ever
          --too large--> period 0: some takes | period 1: others | ...     each bounded in bytes, chosen by seed, rank and period alone

The next period's takes are read while this one's are learned from. Knows footage, nothing of networks.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Generator

from infra.problem import Problem
from infra.storage import ObjectInfo
from tasks.clip import ClipError, FailureKind
from tasks.cores import use_cores
from tasks.footage import SMALLEST, Take, takes_of

PERIOD_BATCHES = 250  # that are learned from one choice of takes
FILES_AT_LEAST = 8  # of one choice, where there are as many


class Pool:
    """Takes by period; asked from any thread.

    Args:
        files: what this worker learns from.
        frames: that a video's take must have to be of use.
        side: pixels of a patch, which a take must hold.
        bound_bytes: of all takes held at a time.
        told: receives one line for each file that cannot be read.
    """

    def __init__(
        self, files: Sequence[ObjectInfo], *, frames: int, side: int, bound_bytes: int, seed: int, rank: int, told: Callable[[str], None]
    ) -> None:
        self._files, self._frames, self._smallest, self._bound = tuple(files), frames, max(SMALLEST, side), bound_bytes
        self._seed, self._rank, self._told = seed, rank, told
        self._left_out: set[str] = set()
        self._lock = threading.Lock()
        self._reader = ThreadPoolExecutor(1, "footage", initializer=use_cores, initargs=(1,))
        self._all: list[Take] | None = None
        self._periods: dict[int, Future[list[Take]]] = {}

    def read(self) -> None:
        """Find out whether everything fits, which reads as much as may be held.

        Raises:
            Problem: there is nothing of use in any file.
        """
        self._all = self._reader.submit(self._whole).result()
        if self._all is not None and not self._all:
            raise Problem(
                f"corpus: in {len(self._files)} files there is no photograph and no video of {self._frames} frames with a shorter side of "
                f"{self._smallest} pixels; name others with --corpus"
            )

    def takes(self, batch: int) -> list[Take]:
        """What batch number `batch` is made from."""
        if self._all is not None:
            return self._all
        period = batch // PERIOD_BATCHES
        with self._lock:
            for wanted in (period, period + 1):
                if wanted not in self._periods:
                    self._periods[wanted] = self._reader.submit(self._part, wanted)
            for past in [known for known in self._periods if known < period - 1]:
                del self._periods[past]
        return self._periods[period].result()

    def close(self) -> None:
        """Stop reading."""
        self._reader.shutdown(wait=True, cancel_futures=True)

    def _whole(self) -> list[Take] | None:
        """Every take, or None where they are too many."""
        found: list[Take] = []
        held = 0
        for file in self._files:
            for take in self._useful(file):
                held += take.size_bytes
                if held > self._bound:
                    return None
                found.append(take)
        return found

    def _part(self, period: int) -> list[Take]:
        """A choice of takes, a third of the bound at most, since those of three periods may be held at a time."""
        random = Generator().manual_seed((self._seed * 1_000_003 + self._rank) * 1_000_003 + period)
        bound = self._bound // 3
        share = bound // min(len(self._files), FILES_AT_LEAST)
        found: list[Take] = []
        held = 0
        for index in torch.randperm(len(self._files), generator=random).tolist():
            for take in self._share(self._files[index], share, begin=float(torch.rand((), generator=random))):
                if found and held + take.size_bytes > bound:
                    return found
                found.append(take)
                held += take.size_bytes
        return found

    def _share(self, file: ObjectInfo, share_bytes: int, *, begin: float) -> Iterator[Take]:
        """Takes of one file from a place on, or from its start where there is none after that place."""
        used = 0
        for place in (begin, 0.0):
            for take in self._useful(file, begin=place):
                yield take
                used += take.size_bytes
                if used >= share_bytes:
                    return
            if used:
                return

    def _useful(self, file: ObjectInfo, *, begin: float = 0.0) -> Iterator[Take]:
        found = 0
        try:
            for take in takes_of(file, smallest=self._smallest, begin=begin):
                if not take.moves or len(take.frames) >= self._frames:
                    found += 1
                    yield take
            if not found and not begin:
                self._leave_out(file, f"has no side of {self._smallest} pixels, or is a video of fewer than {self._frames} frames")
        except ClipError as error:
            if error.kind is FailureKind.STORAGE:
                raise Problem(f"{file.uri}: {error.message}; run the same command again") from error
            self._leave_out(file, f"{error.kind}: {error.message}")

    def _leave_out(self, file: ObjectInfo, reason: str) -> None:
        if file.uri not in self._left_out:
            self._left_out.add(file.uri)
            self._told(f"{file.uri}: left out: {reason}")
