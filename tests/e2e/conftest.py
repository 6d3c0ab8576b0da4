"""A run inside this process; tests that kill start their own."""

from collections.abc import Callable

import pytest

from flows.process_corpus import RunIncomplete, process_corpus
from infra.settings import RunConfig
from tasks.record import RunSummary
from tests.faults import here

Run = Callable[[RunConfig], RunSummary]


@pytest.fixture
def run(ray_here: None) -> Run:
    """Run process-corpus as a plain function; a run that left work gives its summary too."""

    def call(config: RunConfig) -> RunSummary:
        try:
            return process_corpus.fn(config)
        except RunIncomplete as incomplete:
            return incomplete.summary

    return call


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch) -> Run:
    """The same without Ray, which takes longer to begin than small runs to end: for what the plan and the publication do."""
    here.without_ray(monkeypatch)
    return here.run
