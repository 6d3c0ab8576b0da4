"""process-corpus in this process: everything it does, with its stages run one after the other where Ray would spread them."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pytest

from flows import process_corpus as flow
from flows.process_corpus import RunIncomplete
from infra.cluster import Resources
from infra.settings import RunConfig
from tasks import pipeline
from tasks.record import RunSummary
from tasks.stage import Stage, StageActor, StageTask, pack


class Chain:
    """What `ray.data` gives `tasks.pipeline`, as one generator."""

    def __init__(self, work: Iterable[object], steps: Sequence[Stage]) -> None:
        self.work, self.steps = work, steps

    def iter_batches(self, **_: Any) -> Iterator[pa.Table]:
        """The last stage's rows."""
        rows: Iterator[pa.Table] = (pack(shard) for shard in self.work)
        for stage in self.steps:
            rows = _through(stage, rows)
        yield from rows


def _through(stage: Stage, rows: Iterator[pa.Table]) -> Iterator[pa.Table]:
    worker = StageTask(stage) if stage.workers is None else StageActor(stage)
    for row in rows:
        found = worker(row)
        yield from found


def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let process-corpus run its stages here."""

    @contextmanager
    def session(*_: object, **__: object) -> Iterator[Resources]:
        yield Resources(cpus=2, gpus=0)

    monkeypatch.setattr(flow, "ray_session", session)
    monkeypatch.setattr(pipeline, "dataset_of", Chain)


def run(config: RunConfig) -> RunSummary:
    """Run it; a run that left work gives its summary too."""
    try:
        return flow.process_corpus.fn(config)
    except RunIncomplete as incomplete:
        return incomplete.summary
