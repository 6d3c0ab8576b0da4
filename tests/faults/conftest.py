"""A proxy that breaks things, between this process and the S3 server, and a process that forks runs which may be killed."""

from collections.abc import Iterator

import pytest

from infra import s3_request
from tests.faults.proxy import Proxy, proxy_to
from tests.faults.zygote import Zygote, zygote


@pytest.fixture(scope="session")
def forks(s3: str) -> Iterator[Zygote]:
    """Forks runs, which find the S3 server by their environment."""
    with zygote() as started:
        yield started


@pytest.fixture(scope="module")
def _proxy(s3: str) -> Iterator[Proxy]:
    with proxy_to(s3) as running:
        yield running


@pytest.fixture
def proxy(_proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Everything this process asks of S3 goes through it; nothing is broken yet, and patience is short."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", _proxy.url)
    monkeypatch.setattr(s3_request, "RETRY", s3_request.Retry(budget_s=1.0, hopeless_s=0.2, pause_s=0.02, longest_pause_s=0.1))
    monkeypatch.setattr(s3_request, "_failing", {})
    yield _proxy
    _proxy.heal()
    _proxy.asked.clear()
