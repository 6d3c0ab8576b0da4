"""What disk and S3 have in common: objects, errors, name patterns, and the calls both answer.

Knows names and messages; opens nothing. `infra.disk` and `infra.s3` do the work, `infra.storage` chooses between them.
"""

import fnmatch
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO, Protocol

from infra.problem import Problem

Write = Callable[[BinaryIO], object]


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One file or object."""

    uri: str  # absolute path, or s3://bucket/key
    size_bytes: int
    etag: str  # changes when the content does: S3's ETag, or size and mtime of a file


@dataclass(frozen=True, slots=True)
class Versioned:
    """A small object, and what `replace_if` and `delete_if` compare."""

    data: bytes
    version: str  # S3's ETag, or a digest of the content of a file
    age_s: float  # since it was written, by the store's own clock where it tells the time


class Cause(StrEnum):
    """Why storage said no."""

    NOT_FOUND = "not found"
    NO_BUCKET = "no such bucket"
    DENIED = "permission denied"
    NO_CREDENTIALS = "no S3 credentials"
    BAD_CREDENTIALS = "the S3 credentials are not accepted"
    EXPIRED = "the S3 credentials have expired"
    CLOCK = "the clock of this machine is wrong"
    ARCHIVED = "is in an archive tier"
    UNREACHABLE = "the S3 endpoint cannot be reached"
    BUSY = "the store kept failing"
    DISK_FULL = "no space left"
    IS_FOLDER = "is a folder"
    NOT_FOLDER = "a part of the path is a file"
    NOT_FILE = "is a pipe, a device or a socket"
    CHANGED = "changed meanwhile"
    BAD_URI = "not an address that can be used"
    NOT_OFFERED = "the store does not offer this"
    FAILED = "failed"


FIXES = {
    Cause.NOT_FOUND: "check the spelling",
    Cause.NO_BUCKET: "check the spelling, or create the bucket",
    Cause.DENIED: "check owner and mode of the path, or the bucket's policy and the credentials",
    Cause.NO_CREDENTIALS: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role",
    Cause.BAD_CREDENTIALS: "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or AWS_PROFILE",
    Cause.EXPIRED: "renew them (`aws sso login`, or a new AWS_SESSION_TOKEN), then run the same command again",
    Cause.CLOCK: "set it, by NTP for example, then run the same command again",
    Cause.ARCHIVED: "restore the object, then run the same command again",
    Cause.UNREACHABLE: "check AWS_ENDPOINT_URL and the network",
    Cause.BUSY: "run the same command again, it goes on where it stopped",
    Cause.DISK_FULL: "free some space or name another folder, then run the same command again",
    Cause.IS_FOLDER: "name a file",
    Cause.NOT_FOLDER: "name a folder, or move the file away",
    Cause.NOT_FILE: "name a regular file",
    Cause.CHANGED: "run the same command again once nobody writes to it",
    Cause.BAD_URI: "name a path, file:///path or s3://bucket/key",
    Cause.NOT_OFFERED: "name another store, or another output",
    Cause.FAILED: "run the same command again; if it stays, look at the disk or the store",
}


class StorageError(Problem):
    """Storage said no: which object, why, and what to do, in one line."""

    def __init__(self, uri: str, cause: Cause, detail: str = "") -> None:
        super().__init__(f"{uri}: {cause}{f' ({detail})' if detail else ''}; {FIXES[cause]}")
        self.uri = uri
        self.cause = cause
        self.detail = detail

    @property
    def passing(self) -> bool:
        """Whether the store is in trouble, rather than the address or the rights."""
        return self.cause in (Cause.BUSY, Cause.CHANGED)

    def __reduce__(self) -> tuple[type["StorageError"], tuple[str, Cause, str]]:
        """Pickle by what it was made from: errors cross Ray processes."""
        return type(self), (self.uri, self.cause, self.detail)


class NotFound(StorageError):
    """There is no such object or folder."""

    def __init__(self, uri: str, cause: Cause = Cause.NOT_FOUND, detail: str = "") -> None:
        super().__init__(uri, cause, detail)


class Store(Protocol):
    """What a kind of storage can do. All of it raises StorageError, and names objects by `normal` addresses."""

    def normal(self, uri: str) -> str: ...
    def stat(self, uri: str) -> ObjectInfo | None: ...
    def is_folder(self, uri: str) -> bool: ...
    def folders(self, uri: str) -> Iterator[str]: ...
    def scan(self, folder: str, parts: Sequence[str]) -> Iterator[ObjectInfo]: ...
    def open_stream(self, found: ObjectInfo) -> BinaryIO: ...
    def open_seekable(self, found: ObjectInfo) -> BinaryIO: ...
    def open_ranges(self, found: ObjectInfo) -> BinaryIO: ...
    def publish(self, uri: str, write: Write) -> None: ...
    def copy(self, source: str, target: str) -> None: ...
    def read_versioned(self, uri: str) -> Versioned: ...
    def create_exclusive(self, uri: str, data: bytes) -> str | None: ...
    def replace_if(self, uri: str, data: bytes, version: str) -> str | None: ...
    def delete_if(self, uri: str, version: str) -> bool: ...
    def delete(self, uri: str) -> None: ...
    def delete_tree(self, uri: str) -> None: ...
    def sweep(self, folder: str) -> int: ...
    def always_conditional(self) -> bool: ...


def is_pattern(part: str) -> bool:
    """Whether one component of a path has a glob character: `*`, `?` or `[`."""
    return any(char in part for char in "*?[")


def matches(names: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether a path below the root, as names, is what the pattern's parts say; `**` is any number of folders."""
    if not parts:
        return not names
    if parts[0] == "**":
        return (bool(names) and matches(names[1:], parts)) or matches(names, parts[1:])
    return bool(names) and _fits(names[0], parts[0]) and matches(names[1:], parts[1:])


def leads_to(names: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether a folder below the root can hold something that matches."""
    if not parts:
        return False
    if not names or parts[0] == "**":
        return True
    return len(parts) > 1 and _fits(names[0], parts[0]) and leads_to(names[1:], parts[1:])


def _fits(name: str, part: str) -> bool:
    return name == part or fnmatch.fnmatchcase(name, part)
