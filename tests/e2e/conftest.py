"""One Ray for all tests that run inside this process; tests that kill start their own."""

from collections.abc import Callable, Iterator

import pytest

from flows.process_corpus import RunIncomplete, process_corpus
from infra.cluster import ray_session
from infra.settings import ClusterConfig, RunConfig
from tasks.record import RunSummary

Run = Callable[[RunConfig], RunSummary]


@pytest.fixture(scope="session")
def ray_here(s3: str) -> Iterator[None]:
    """Ray on two cores; its workers know the S3 server by their environment."""
    with ray_session(ClusterConfig(cpus=2)):
        yield


@pytest.fixture
def run(ray_here: None) -> Run:
    """Run process-corpus as a plain function; a run that left work gives its summary too."""

    def call(config: RunConfig) -> RunSummary:
        try:
            return process_corpus.fn(config)
        except RunIncomplete as incomplete:
            return incomplete.summary

    return call
