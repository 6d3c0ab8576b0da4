"""What an S3 error means: which cause, and whether it passes by itself.

Knows botocore's and aiohttp's exceptions and S3's error codes; makes no request. No message repeats a credential.
"""

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import ClientError as HttpError
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from infra.store import Cause, NotFound, StorageError

PASSING_STATUS = frozenset({408, 429, 500, 502, 503, 504})
PASSING_CODES = frozenset({"SlowDown", "Throttling", "ThrottlingException", "RequestTimeout", "InternalError", "ServiceUnavailable",
                           "RequestLimitExceeded", "ConditionalRequestConflict", "OperationAborted"})  # fmt: skip
DENIED_CODES = frozenset({"AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken",
                          "AccountProblem", "AllAccessDisabled", "RequestTimeTooSkewed", "401", "403"})  # fmt: skip


class Refused(StorageError):
    """A condition (If-Match, If-None-Match) does not hold."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to tell, and whether trying again can help."""

    error: StorageError
    passing: bool


def told(uri: str, error: Exception, endpoint: str | None) -> Verdict:
    """Classify what a request raised.

    Args:
        uri: the object it was about.
        error: from aiobotocore, aiohttp or asyncio.
        endpoint: AWS_ENDPOINT_URL, named where it cannot be reached.
    """
    if isinstance(error, boto.ClientError):
        return _answered(uri, error)
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError | boto.CredentialRetrievalError | boto.ProfileNotFound):
        return Verdict(StorageError(uri, Cause.NO_CREDENTIALS), passing=False)
    if isinstance(error, boto.SSLError):
        return Verdict(StorageError(uri, Cause.UNREACHABLE, f"{_shown(endpoint)}: TLS failed"), passing=False)
    if endpoint is not None and "@" in urlsplit(endpoint).netloc:
        return Verdict(StorageError(uri, Cause.UNREACHABLE, f"{_shown(endpoint)} with a user in the address"), passing=False)
    if isinstance(error, boto.EndpointConnectionError | boto.ConnectTimeoutError | boto.ProxyConnectionError):
        return Verdict(StorageError(uri, Cause.UNREACHABLE, _shown(endpoint)), passing=True)
    if isinstance(error, boto.HTTPClientError | ResponseParserError | HttpError | asyncio.TimeoutError | OSError):
        return Verdict(StorageError(uri, Cause.BUSY, type(error).__name__), passing=True)
    if isinstance(error, boto.ParamValidationError):
        return Verdict(StorageError(uri, Cause.BAD_URI, "S3 allows no such bucket or key"), passing=False)
    if isinstance(error, ValueError) and "endpoint" in str(error).lower():
        return Verdict(StorageError(uri, Cause.UNREACHABLE, f"{_shown(endpoint)} is not an http address"), passing=False)
    return Verdict(StorageError(uri, Cause.FAILED, type(error).__name__), passing=False)


def _answered(uri: str, error: boto.ClientError) -> Verdict:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in PASSING_CODES or status in PASSING_STATUS:
        return Verdict(StorageError(uri, Cause.BUSY, code), passing=True)
    if code == "NoSuchBucket":
        return Verdict(StorageError(f"s3://{uri.removeprefix('s3://').partition('/')[0]}", Cause.NO_BUCKET), passing=False)
    if code in DENIED_CODES or status in (401, 403):
        return Verdict(StorageError(uri, Cause.DENIED, code), passing=False)
    if status == 412:
        return Verdict(Refused(uri, Cause.CHANGED), passing=False)
    if status == 404:
        return Verdict(NotFound(uri), passing=False)
    if code == "InvalidBucketName":
        return Verdict(StorageError(uri, Cause.BAD_URI, "S3 allows no such bucket name"), passing=False)
    return Verdict(StorageError(uri, Cause.FAILED, f"{code or status}"), passing=False)


def _shown(endpoint: str | None) -> str:
    """The endpoint without a user or password that may be in it."""
    if endpoint is None:
        return "AWS"
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
