"""What an error of the operating system means: which cause of a `StorageError`.

Knows errno and nothing of where files lie.
"""

import errno
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from infra.store import Cause, NotFound, StorageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_CAUSES = {
    errno.ENOENT: Cause.NOT_FOUND,
    errno.EACCES: Cause.DENIED,
    errno.EPERM: Cause.DENIED,
    errno.EROFS: Cause.DENIED,
    errno.ENOSPC: Cause.DISK_FULL,
    errno.EDQUOT: Cause.DISK_FULL,
    errno.EISDIR: Cause.IS_FOLDER,
    errno.ENOTDIR: Cause.NOT_FOLDER,
    errno.EEXIST: Cause.NOT_FOLDER,
    errno.ENAMETOOLONG: Cause.BAD_URI,
    errno.ELOOP: Cause.BAD_URI,
    errno.ENXIO: Cause.NOT_FILE,  # open() says so of a socket
}


class File(io.FileIO):
    """A file whose failures, also those in the middle of a read or write, are StorageErrors."""

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        with told(str(self.name)):
            return super().readinto(buffer) or 0

    def write(self, data: "ReadableBuffer", /) -> int:
        with told(str(self.name)):
            return super().write(data) or 0


@contextmanager
def told(path: str) -> Iterator[None]:
    """Raise what goes wrong with a path as a StorageError."""
    try:
        yield
    except OSError as error:
        cause = _CAUSES.get(error.errno or 0, Cause.FAILED)
        if cause is Cause.NOT_FOUND:
            raise NotFound(path) from error
        raise StorageError(path, cause, "" if cause is not Cause.FAILED else error.strerror or str(error)) from error
