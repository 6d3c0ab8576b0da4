"""Objects in S3 and in stores that speak its language.

    read     [block][block][block]   a few at a time, the next ones fetched while this one is used
    write    [part][part]...commit   nothing is visible before the last request

Knows S3's requests and what they promise; `infra.s3_request` makes them.
"""

import io
import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO, cast

from infra.crash_point import CrashPoint, crash_point
from infra.s3_copy import copy as copy
from infra.s3_copy import multipart_etag
from infra.s3_error import NoUpload, Refused
from infra.s3_read import Blocks, Ranges, etag_of
from infra.s3_request import request, where
from infra.store import Cause, NotFound, ObjectInfo, StorageError, Versioned, Write, is_pattern, matches

PART_BYTES = 16 << 20  # of a multipart upload: 10,000 parts make 160 GB
STREAM = (8 << 20, 3, 2)  # bytes of a block, blocks held, blocks fetched ahead
SEEKABLE = (2 << 20, 8, 1)
DELETE_KEYS = 1000  # S3's limit per request


def normal(uri: str) -> str:
    """s3://bucket/key without slashes at the end; refuses credentials in an address without repeating them."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if "@" in bucket or (":" in bucket and not bucket.startswith("arn:")):
        raise StorageError("s3://...", Cause.BAD_URI, "credentials in an address are refused; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if not bucket:
        raise StorageError(uri, Cause.BAD_URI, "no bucket")
    return f"s3://{bucket}/{key}".rstrip("/")


def stat(uri: str) -> ObjectInfo | None:
    """Size and etag of an object; None where there is none."""
    if not where(uri)["Key"]:
        return None
    try:
        head = request(uri, "head_object", **where(uri))
    except NotFound:
        return None
    except StorageError as error:
        if error.cause is not Cause.FAILED:
            raise
        return _stat_by_list(uri)  # the answer to a HEAD has no body that says why
    return ObjectInfo(uri, head["ContentLength"], etag_of(head))


def _stat_by_list(uri: str) -> ObjectInfo | None:
    place = where(uri)
    listed = request(uri, "list_objects_v2", Bucket=place["Bucket"], Prefix=place["Key"], MaxKeys=1).get("Contents", ())
    return next((ObjectInfo(uri, item["Size"], etag_of(item)) for item in listed if item["Key"] == place["Key"]), None)


def is_folder(uri: str) -> bool:
    """Whether some key begins with this name and a slash; an empty bucket counts. Raises NO_BUCKET."""
    bucket, prefix = _prefix(uri)
    return not prefix or request(uri, "list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1).get("KeyCount", 0) > 0


def folders(uri: str) -> Iterator[str]:
    """Names of what looks like folders below a prefix."""
    bucket, prefix = _prefix(uri)
    for page in _pages(uri, Bucket=bucket, Prefix=prefix, Delimiter="/"):
        yield from (item["Prefix"].removeprefix(prefix).rstrip("/") for item in page.get("CommonPrefixes", ()))


def scan(folder: str, parts: Sequence[str]) -> Iterator[ObjectInfo]:
    """Objects below a prefix that match, from one stream of LIST requests."""
    bucket, prefix = _prefix(folder)
    literal = "".join(itertools.takewhile(lambda char: not is_pattern(char), parts[0]))
    flat = {} if len(parts) > 1 or parts[0] == "**" else {"Delimiter": "/"}
    for item in _listed(folder, Bucket=bucket, Prefix=prefix + literal, **flat):
        names = item["Key"].removeprefix(prefix).split("/")
        if names[-1] and matches(names, parts):
            yield ObjectInfo(f"s3://{bucket}/{item['Key']}", item["Size"], etag_of(item))


def open_stream(found: ObjectInfo) -> BinaryIO:
    """Open for reading from the beginning to the end; holds 24 MiB."""
    return io.BufferedReader(Blocks(found, *STREAM), 1 << 18)


def open_seekable(found: ObjectInfo) -> BinaryIO:
    """Open for reading anywhere; holds 16 MiB."""
    return io.BufferedReader(Blocks(found, *SEEKABLE), 1 << 16)


def open_ranges(found: ObjectInfo) -> BinaryIO:
    """Open for reading anywhere, each read a request; holds nothing."""
    return cast(BinaryIO, Ranges(found))


def publish(uri: str, write: Write) -> None:
    """Make an object appear whole: one PUT, or a multipart upload, aborted when anything fails."""
    upload = _Upload(uri)
    try:
        write(cast(BinaryIO, upload))
        crash_point(CrashPoint.WRITTEN)
        upload.finish()
        crash_point(CrashPoint.VISIBLE)
    except BaseException:
        upload.abort()
        raise


def read_versioned(uri: str) -> Versioned:
    """Content, ETag and age of a small object; the age is by the store's own clock."""
    answer = request(uri, "get_object", **where(uri))
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    now_s = parsedate_to_datetime(date).timestamp() if date else time.time()
    return Versioned(answer["Body"], answer["ETag"], max(0.0, now_s - answer["LastModified"].timestamp()))


def create_exclusive(uri: str, data: bytes) -> str | None:
    """Create an object where there is none; its version, or None where there was one."""
    return _put_if(uri, data, IfNoneMatch="*")


def replace_if(uri: str, data: bytes, version: str) -> str | None:
    """Replace an object that still has this version; the new version, or None where it was changed or is gone."""
    return _put_if(uri, data, IfMatch=version)


def delete_if(uri: str, version: str) -> bool:
    """Delete an object that still has this version; atomic where the store honours If-Match on deletes."""
    try:
        if request(uri, "head_object", **where(uri))["ETag"] != version:
            return False
        request(uri, "delete_object", **where(uri), IfMatch=version)
    except (NotFound, Refused):
        return False
    return True


def delete(uri: str) -> None:
    """Delete an object; one that is not there is no error."""
    with suppress(NotFound):
        request(uri, "delete_object", **where(uri))


def delete_tree(uri: str) -> None:
    """Delete every object below a prefix."""
    bucket, prefix = _prefix(uri)
    if not prefix:
        raise StorageError(uri, Cause.BAD_URI, "refused to delete a whole bucket")
    keys = (item["Key"] for item in _listed(uri, Bucket=bucket, Prefix=prefix))
    while batch := [{"Key": key} for key in itertools.islice(keys, DELETE_KEYS)]:
        answer = request(uri, "delete_objects", Bucket=bucket, Delete={"Objects": batch, "Quiet": True})
        for error in answer.get("Errors", ()):
            delete(f"s3://{bucket}/{error['Key']}")  # alone, so that what passes is waited out and what stays is told


def sweep(folder: str) -> int:
    """Abort the unfinished multipart uploads below a prefix, and say how many; their parts are invisible, and paid for."""
    bucket, prefix = _prefix(folder)
    if not prefix:
        raise StorageError(folder, Cause.BAD_URI, "refused to abort the uploads of a whole bucket")
    uploads = list(_uploads(folder, Bucket=bucket, Prefix=prefix))
    for upload in uploads:
        uri = f"s3://{bucket}/{upload['Key']}"
        with suppress(NotFound, NoUpload):
            request(uri, "abort_multipart_upload", **where(uri), UploadId=upload["UploadId"])
    return len(uploads)


def always_conditional() -> bool:
    """S3 is, and not every store that speaks its language."""
    return False


class _Upload(io.RawIOBase):
    """Takes bytes front to back; nothing is visible before `finish`."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._buffer = bytearray()
        self._upload: dict[str, str] = {}
        self._before: ObjectInfo | None = None
        self._parts: list[dict[str, Any]] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        for start in range(0, len(view), PART_BYTES):
            self._buffer += view[start : start + PART_BYTES]
            if len(self._buffer) >= PART_BYTES:
                self._send(bytes(self._buffer[:PART_BYTES]))
                del self._buffer[:PART_BYTES]
        self._written += len(view)
        return len(view)

    def finish(self) -> None:
        if not self._upload:
            request(self._uri, "put_object", **where(self._uri), Body=bytes(self._buffer))
            return
        if self._buffer:
            self._send(bytes(self._buffer))
        try:
            request(self._uri, "complete_multipart_upload", **where(self._uri), **self._upload, MultipartUpload={"Parts": self._parts})
        except NoUpload:  # completed by a try whose answer was lost, or aborted by somebody
            if not self._is_there():
                raise

    def _is_there(self) -> bool:
        """Whether what is visible is what was uploaded, and not an older object of the same size."""
        there = stat(self._uri)
        if there is None or there.size_bytes != self._written:
            return False
        return there != self._before or there.etag == multipart_etag(self._parts)

    def abort(self) -> None:
        if self._upload:
            with suppress(StorageError):
                request(self._uri, "abort_multipart_upload", **where(self._uri), **self._upload)

    def _send(self, part: bytes) -> None:
        if not self._upload:
            self._before = stat(self._uri)
            self._upload = {"UploadId": request(self._uri, "create_multipart_upload", **where(self._uri))["UploadId"]}
        number = len(self._parts) + 1
        answer = request(self._uri, "upload_part", **where(self._uri), **self._upload, PartNumber=number, Body=part)
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})


def _put_if(uri: str, data: bytes, **condition: str) -> str | None:
    try:
        return cast(str, request(uri, "put_object", **where(uri), Body=data, **condition)["ETag"])
    except NotFound:
        return None  # If-Match on an object that is gone
    except Refused:
        with suppress(NotFound):
            there = read_versioned(uri)
            if there.data == data:
                return there.version  # our own write, whose answer was lost
        return None


def _listed(uri: str, **query: str) -> Iterator[dict[str, Any]]:
    return (item for page in _pages(uri, **query) for item in page.get("Contents", ()))


def _pages(uri: str, **query: str) -> Iterator[dict[str, Any]]:
    page: dict[str, Any] = {"IsTruncated": True}
    while page.get("IsTruncated"):
        token = {"ContinuationToken": page["NextContinuationToken"]} if "NextContinuationToken" in page else {}
        page = request(uri, "list_objects_v2", **query, **token)
        yield page
        if page.get("IsTruncated") and not page.get("NextContinuationToken"):
            raise StorageError(uri, Cause.FAILED, "the store cut its list short")


def _uploads(uri: str, **query: str) -> Iterator[dict[str, Any]]:
    page: dict[str, Any] = {"IsTruncated": True}
    while page.get("IsTruncated"):
        marks = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page.get("NextUploadIdMarker", "")} if "NextKeyMarker" in page else {}
        page = request(uri, "list_multipart_uploads", **query, **marks)
        yield from page.get("Uploads", ())
        if page.get("IsTruncated") and not page.get("NextKeyMarker"):
            return  # the rest is swept another time


def _prefix(uri: str) -> tuple[str, str]:
    place = where(uri)
    return place["Bucket"], f"{place['Key']}/" if place["Key"] else ""
