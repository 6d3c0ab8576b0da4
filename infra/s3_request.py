"""One request to S3: try, wait, try again within RETRY, then an answer or a StorageError.

The only module that knows s3fs. It brings the session, the credentials and the event loop; requests are made one by one on its client, because
only so can they carry If-Match and If-None-Match and be retried by one policy. Nothing is cached but this process's connection.
"""

import asyncio
import itertools
import os
import random
import time
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from typing import Any

import s3fs

from infra.s3_error import told
from infra.store import Cause

_CONFIG = {
    "retries": {"total_max_attempts": 1, "mode": "standard"},  # one attempt: RETRY is the only policy
    "connect_timeout": 10,
    "read_timeout": 60,
    "max_pool_connections": 64,
    "request_checksum_calculation": "when_required",  # stores older than 2024 refuse the newer default
    "response_checksum_validation": "when_required",
}


@dataclass(frozen=True, slots=True)
class Retry:
    """How long a request is tried: throttling, server errors, resets and timeouts are waited out, with jitter."""

    budget_s: float = 120.0
    unreachable_s: float = 8.0  # for an endpoint that this process never reached: likely a wrong address
    pause_s: float = 0.2  # doubled every time
    longest_pause_s: float = 10.0


RETRY = Retry()
_reached: set[str | None] = set()


def request(uri: str, method: str, **arguments: Any) -> dict[str, Any]:
    """Make one request and wait for its answer, whose Body, if any, is read.

    Args:
        uri: the object it is about, for the error.
        method: botocore's name of the operation.
        arguments: botocore's arguments.

    Raises:
        StorageError: refused, or still failing when RETRY is used up.
    """
    return submit(uri, method, **arguments).result()


def submit(uri: str, method: str, **arguments: Any) -> "Future[dict[str, Any]]":
    """Begin a request, as `request`; the result gives the answer or raises."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    try:
        files = _files(os.getpid(), endpoint)
        client = files.s3
    except Exception as error:
        raise told(uri, error, endpoint).error from error
    return asyncio.run_coroutine_threadsafe(_tried(uri, endpoint, client, method, arguments), files.loop)


@cache
def _files(pid: int, endpoint: str | None) -> Any:
    """This process's connection; a forked child makes its own."""
    return s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False, config_kwargs=_CONFIG)


async def _tried(uri: str, endpoint: str | None, client: Any, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
    started_s = time.monotonic()
    for attempt in itertools.count():
        try:
            answer = await _once(client, method, arguments)
            _reached.add(endpoint)
            return answer
        except Exception as error:
            verdict = told(uri, error, endpoint)
            unknown = verdict.error.cause is Cause.UNREACHABLE and endpoint not in _reached
            budget_s = RETRY.unreachable_s if unknown else RETRY.budget_s
            pause_s = min(RETRY.longest_pause_s, RETRY.pause_s * 2 ** min(attempt, 20)) * random.uniform(0.5, 1.0)
            if not verdict.passing or time.monotonic() + pause_s - started_s > budget_s:
                raise verdict.error from error
            await asyncio.sleep(pause_s)
    raise AssertionError("count() does not end")


async def _once(client: Any, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = await getattr(client, method)(**arguments)
    if "Body" in answer:
        async with answer["Body"] as body:
            answer["Body"] = await body.read()
        if len(answer["Body"]) != answer["ContentLength"]:
            raise ConnectionResetError(f"{len(answer['Body'])} of {answer['ContentLength']} bytes came")
    return answer
