"""One request to S3: try, wait, try again within RETRY, then an answer or a StorageError.

The only module that knows s3fs. It brings the session, the credentials and the event loop; requests are made one by one on its client, because
only so can they carry If-Match and If-None-Match and be retried by one policy. Nothing is cached but this process's connection.
"""

import asyncio
import itertools
import os
import random
import threading
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
    hopeless_s: float = 8.0  # for an endpoint this process never reached, likely a wrong address, and for one that used a whole budget up
    attempt_s: float = 300.0  # one try: 16 MiB in that time are half a megabit per second
    pause_s: float = 0.2  # doubled every time
    longest_pause_s: float = 10.0


RETRY = Retry()
_connecting = threading.Lock()  # threads that begin together would make a connection each, and the one that is not kept closes under its requests
_reached: set[str | None] = set()
_failing: dict[str | None, tuple[float, float]] = {}  # first and last failure since an endpoint answered, by the monotonic clock


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
        with _connecting:
            files = _files(os.getpid(), endpoint)
            client = files.s3
    except Exception as error:
        raise told(uri, error, endpoint).error from error
    return asyncio.run_coroutine_threadsafe(_tried(uri, endpoint, client, method, arguments), files.loop)


def where(uri: str) -> dict[str, str]:
    """Bucket and key of s3://bucket/key, as requests name them."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return {"Bucket": bucket, "Key": key}


@cache
def _files(pid: int, endpoint: str | None) -> Any:
    """This process's connection; a forked child makes its own."""
    return s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False, config_kwargs=_CONFIG)


async def _tried(uri: str, endpoint: str | None, client: Any, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
    started_s = time.monotonic()
    budget_s = _budget_s(endpoint, started_s)
    for attempt in itertools.count():
        try:
            async with asyncio.timeout(RETRY.attempt_s):
                answer = await _once(client, method, arguments)
            _note_answer(endpoint)
            return answer
        except Exception as error:
            verdict = told(uri, error, endpoint)
            unknown = verdict.error.cause is Cause.UNREACHABLE and endpoint not in _reached
            pause_s = min(RETRY.longest_pause_s, RETRY.pause_s * 2 ** min(attempt, 20)) * random.uniform(0.5, 1.0)
            end_s = time.monotonic() + max(pause_s, verdict.wait_s)
            if verdict.passing:
                _failing[endpoint] = (_failing.get(endpoint, (started_s, 0.0))[0], time.monotonic())
            if not verdict.passing or end_s - started_s > (RETRY.hopeless_s if unknown else budget_s):
                raise verdict.error from error
            await asyncio.sleep(end_s - time.monotonic())
    raise AssertionError("count() does not end")


def _note_answer(endpoint: str | None) -> None:
    _reached.add(endpoint)
    _failing.pop(endpoint, None)


def _budget_s(endpoint: str | None, now_s: float) -> float:
    """A run that ends because of its store makes a dozen more requests, and shall not wait for each as for the first."""
    first_s, last_s = _failing.get(endpoint, (now_s, now_s))
    hopeless = last_s - first_s > RETRY.budget_s / 2 and now_s - last_s < RETRY.budget_s
    return min(RETRY.hopeless_s, RETRY.budget_s) if hopeless else RETRY.budget_s


async def _once(client: Any, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = await getattr(client, method)(**arguments)
    if "Body" in answer:
        async with answer["Body"] as body:
            answer["Body"] = await body.read()
        if len(answer["Body"]) != answer["ContentLength"]:
            raise ConnectionResetError(f"{len(answer['Body'])} of {answer['ContentLength']} bytes came")
    return answer
