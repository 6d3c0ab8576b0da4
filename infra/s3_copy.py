"""A second name for an object of S3, made by the store itself: no byte comes through here.

up to PART_BYTES   one CopyObject
more               a multipart upload of copied ranges, invisible until it is complete
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from infra.crash_point import CrashPoint, crash_point
from infra.s3_error import NoUpload
from infra.s3_request import request, where
from infra.store import NotFound, StorageError

PART_BYTES = 256 << 20  # S3 would take 5 GB at once, and answer after minutes in which nobody knows whether it lives


def copy(source: str, target: str) -> None:
    """Make an object appear whole under a second name; what had that name is replaced."""
    head = request(source, "head_object", **where(source))
    if head["ContentLength"] <= PART_BYTES:
        request(source, "copy_object", **where(target), CopySource=where(source))
    else:
        _copy_in_parts(source, target, head)
    crash_point(CrashPoint.VISIBLE)


def _copy_in_parts(source: str, target: str, head: dict[str, Any]) -> None:
    before = _etag(target)
    upload = {"UploadId": request(target, "create_multipart_upload", **where(target))["UploadId"]}
    try:
        parts = list(_copied_parts(source, target, upload, head))
        crash_point(CrashPoint.WRITTEN)
        request(target, "complete_multipart_upload", **where(target), **upload, MultipartUpload={"Parts": parts})
    except NoUpload:  # completed by a try whose answer was lost, or aborted by somebody
        if _etag(target) in ("", before):
            raise
    except BaseException:
        with suppress(StorageError):
            request(target, "abort_multipart_upload", **where(target), **upload)
        raise


def _copied_parts(source: str, target: str, upload: dict[str, str], head: dict[str, Any]) -> Iterator[dict[str, Any]]:
    size_bytes = head["ContentLength"]
    for number, start in enumerate(range(0, size_bytes, PART_BYTES), 1):
        part = {"PartNumber": number, "CopySourceRange": f"bytes={start}-{min(start + PART_BYTES, size_bytes) - 1}"}
        same = {"CopySource": where(source), "CopySourceIfMatch": head["ETag"]}
        answer = request(source, "upload_part_copy", **where(target), **upload, **part, **same)
        yield {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}


def _etag(uri: str) -> str:
    """What an object is in now; empty where there is none."""
    try:
        return str(request(uri, "head_object", **where(uri))["ETag"])
    except NotFound:
        return ""


def multipart_etag(parts: Sequence[dict[str, Any]]) -> str:
    """What S3 calls an object of these parts; empty where a store names parts in its own way."""
    names = [str(part["ETag"]).strip('"') for part in parts]
    if not all(re.fullmatch("[0-9a-f]{32}", name) for name in names):
        return ""
    return f"{hashlib.md5(bytes.fromhex(''.join(names)), usedforsecurity=False).hexdigest()}-{len(names)}"
