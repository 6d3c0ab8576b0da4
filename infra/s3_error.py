"""What an S3 error means: which cause, and whether it passes by itself.

Knows botocore's and aiohttp's exceptions and S3's error codes; makes no request. No message repeats a credential.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import ClientError as HttpError
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from infra.store import Cause, NotFound, StorageError

PASSING_STATUS = frozenset({408, 429, 500, 502, 503, 504})
# Also what comes with a 400: a body that arrived cut, altered or too slowly.
PASSING_CODES = frozenset({"SlowDown", "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "TooManyRequests",
                           "BandwidthLimitExceeded", "RequestLimitExceeded", "RequestTimeout", "RequestTimeoutException", "InternalError",
                           "InternalFailure", "ServiceUnavailable", "ServerBusy", "ConditionalRequestConflict", "OperationAborted",
                           "IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch"})  # fmt: skip
CAUSES = {
    "ExpiredToken": Cause.EXPIRED, "ExpiredTokenException": Cause.EXPIRED, "TokenRefreshRequired": Cause.EXPIRED, "RequestExpired": Cause.EXPIRED,
    "InvalidAccessKeyId": Cause.BAD_CREDENTIALS, "SignatureDoesNotMatch": Cause.BAD_CREDENTIALS, "InvalidToken": Cause.BAD_CREDENTIALS,
    "InvalidClientTokenId": Cause.BAD_CREDENTIALS, "UnrecognizedClientException": Cause.BAD_CREDENTIALS,
    "RequestTimeTooSkewed": Cause.CLOCK, "InvalidObjectState": Cause.ARCHIVED,
    "AccessDenied": Cause.DENIED, "Forbidden": Cause.DENIED, "AccountProblem": Cause.DENIED, "AllAccessDisabled": Cause.DENIED,
    "NotImplemented": Cause.NOT_OFFERED,
}  # fmt: skip
STATUS_CAUSES = {401: Cause.DENIED, 403: Cause.DENIED, 405: Cause.NOT_OFFERED, 501: Cause.NOT_OFFERED}
EXPIRED_ERRORS = (boto.SSOError, boto.TokenRetrievalError)  # botocore's own sessions, ended before a request was made
LONGEST_WAIT_S = 60.0  # believed of a Retry-After


class Refused(StorageError):
    """A condition (If-Match, If-None-Match) does not hold."""


class NoUpload(StorageError):
    """The multipart upload is over: completed, or aborted."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to tell, and whether trying again can help."""

    error: StorageError
    passing: bool
    wait_s: float = 0.0  # what the store asked for


def told(uri: str, error: Exception, endpoint: str | None) -> Verdict:
    """Classify what a request raised.

    Args:
        uri: the object it was about.
        error: from aiobotocore, aiohttp or asyncio.
        endpoint: AWS_ENDPOINT_URL, named where it cannot be reached.
    """
    if isinstance(error, boto.ClientError):
        return _answered(uri, error)
    if isinstance(error, EXPIRED_ERRORS):
        return Verdict(StorageError(uri, Cause.EXPIRED), passing=False)
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
    answer = error.response.get("ResponseMetadata", {})
    status = int(answer.get("HTTPStatusCode", 0))
    if code in PASSING_CODES or status in PASSING_STATUS:
        return Verdict(StorageError(uri, Cause.BUSY, code), passing=True, wait_s=_wait_s(answer.get("HTTPHeaders", {})))
    if code == "NoSuchUpload":
        return Verdict(NoUpload(uri, Cause.CHANGED, "its multipart upload was aborted"), passing=False)
    if code == "NoSuchBucket":
        return Verdict(StorageError(f"s3://{uri.removeprefix('s3://').partition('/')[0]}", Cause.NO_BUCKET), passing=False)
    if code in CAUSES or status in STATUS_CAUSES:
        return Verdict(StorageError(uri, CAUSES.get(code) or STATUS_CAUSES[status], code), passing=False)
    if status == 412:
        return Verdict(Refused(uri, Cause.CHANGED), passing=False)
    if status == 404:
        return Verdict(NotFound(uri), passing=False)
    if code == "InvalidBucketName":
        return Verdict(StorageError(uri, Cause.BAD_URI, "S3 allows no such bucket name"), passing=False)
    return Verdict(StorageError(uri, Cause.FAILED, f"{code or status}"), passing=False)


def _wait_s(headers: Mapping[str, str]) -> float:
    """Seconds of a Retry-After; a date, which S3 does not send, counts as none."""
    value = headers.get("retry-after", "")
    return min(LONGEST_WAIT_S, float(value)) if value.isascii() and value.isdigit() else 0.0


def _shown(endpoint: str | None) -> str:
    """The endpoint without a user or password that may be in it."""
    if endpoint is None:
        return "AWS"
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
