"""Files on a local or mounted disk.

Published files appear whole: temporary file, fsync, rename, fsync of the folder. Knows paths; nothing of S3 or of what a file means.
"""

import errno
import fcntl
import hashlib
import io
import os
import shutil
import stat as modes
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from infra.crash_point import CrashPoint, crash_point
from infra.disk_error import File, told
from infra.store import Cause, NotFound, ObjectInfo, StorageError, Versioned, Write, leads_to, matches

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BUFFER_BYTES = 1 << 20
BEING_WRITTEN_S = 5.0  # a temporary file as young as this may be another run's, on its way to be turned away
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)  # what a disk says that has no hard links, or no more of them
PRIVATE_SUFFIXES = (".vidmill-tmp", ".vidmill-lock")


def normal(uri: str) -> str:
    """Absolute path of a path or of a file: address, whose characters are taken as they are (no %20)."""
    if uri.startswith("file://") and not uri.startswith("file:///"):
        raise StorageError(uri, Cause.BAD_URI, "file:// takes an absolute path")
    path = uri.removeprefix("file://").removeprefix("file:")
    if not path or "\0" in path:
        raise StorageError(uri, Cause.BAD_URI, "an empty path or one with a zero byte")
    return os.path.abspath(path)


def stat(path: str) -> ObjectInfo | None:
    """Size and etag of a file; None where there is no file. Raises NOT_FILE for what is no regular file."""
    try:
        with told(path):
            found = os.stat(path)
            return None if modes.S_ISDIR(found.st_mode) else _info(path, _regular(path, found))
    except StorageError as error:
        if error.cause in (Cause.NOT_FOUND, Cause.NOT_FOLDER):
            return None
        raise


def real(path: str) -> str:
    """Where a path leads once every symbolic link in it is followed."""
    return os.path.realpath(path)


def is_folder(path: str) -> bool:
    """Whether there is a folder of this name."""
    return os.path.isdir(path)


def folders(path: str) -> Iterator[str]:
    """Names of the folders in a folder; nothing where there is none."""
    with told(path), suppress(FileNotFoundError, NotADirectoryError), os.scandir(path) as entries:
        yield from (entry.name for entry in entries if entry.is_dir())


def scan(folder: str, parts: Sequence[str]) -> Iterator[ObjectInfo]:
    """Regular files below a folder that match, links followed; nothing where there is no folder."""
    if os.path.isdir(folder):
        yield from _walk(folder, (), parts, ())


def _walk(folder: str, names: tuple[str, ...], parts: Sequence[str], above: tuple[str, ...]) -> Iterator[ObjectInfo]:
    real_folder = real(folder)
    if real_folder in above:
        return  # a symbolic link to a folder we are in
    with told(folder), os.scandir(folder) as entries:
        listed = sorted((entry for entry in entries if not entry.name.endswith(PRIVATE_SUFFIXES)), key=lambda entry: entry.name)
    for entry in listed:
        below = (*names, entry.name)
        if (found := _found(entry)) is None:
            continue
        if modes.S_ISDIR(found.st_mode):
            if leads_to(below, parts):
                yield from _walk(entry.path, below, parts, (*above, real_folder))
        elif modes.S_ISREG(found.st_mode) and matches(below, parts):
            yield _info(entry.path, found)


def _found(entry: os.DirEntry[str]) -> os.stat_result | None:
    """None for what was deleted meanwhile, and for a link to nowhere or to itself."""
    try:
        return entry.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
            return None
        with told(entry.path):
            raise


class _Listed(File):
    """A file as it was listed: what comes of it after a change is refused. One that was replaced by renaming stays as it was."""

    def __init__(self, found: ObjectInfo) -> None:
        super().__init__(found.uri, "rb", opener=_open_regular)
        self._found = found
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        count = super().readinto(buffer)
        self._check()  # afterwards: a writer moves the time of change before it brings its bytes
        return count

    def readall(self) -> bytes:
        """The rest of the file."""
        with told(self._found.uri):
            data = super().readall()
        self._check()
        return data

    def _check(self) -> None:
        with told(self._found.uri):
            there = _info(self._found.uri, os.fstat(self.fileno()))
        if self._found.etag and there.etag != self._found.etag:
            raise StorageError(self._found.uri, Cause.CHANGED)


def open_stream(found: ObjectInfo) -> BinaryIO:
    """Open for reading from the beginning to the end."""
    return open_seekable(found)


def open_seekable(found: ObjectInfo) -> BinaryIO:
    """Open for reading anywhere; where an etag is known, the file must have it until the last read."""
    with told(found.uri):
        return io.BufferedReader(_Listed(found), BUFFER_BYTES)


def open_ranges(found: ObjectInfo) -> BinaryIO:
    """Open for reading anywhere; a large read passes the buffer by."""
    return open_seekable(found)


def _open_regular(path: str, flags: int) -> int:
    """Open a regular file; a pipe would wait for its writer for ever, a device may do anything."""
    handle = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        _regular(path, os.fstat(handle))
    except BaseException:
        os.close(handle)
        raise
    return handle


def _regular(path: str, found: os.stat_result) -> os.stat_result:
    if modes.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not modes.S_ISREG(found.st_mode):
        raise StorageError(path, Cause.NOT_FILE)
    return found


def publish(path: str, write: Write) -> None:
    """Make a file appear whole, or not at all."""
    with _temporary(path, write) as temporary, told(path):
        crash_point(CrashPoint.WRITTEN)
        os.replace(temporary, path)
        crash_point(CrashPoint.VISIBLE)
    _sync_folder(path)


def copy(source: str, target: str) -> None:
    """Make a file appear whole under a second name: a hard link, or its bytes again on a disk that has none."""
    temporary = _hard_link(source, target)
    if temporary is None:
        with open_stream(ObjectInfo(source, 0, "")) as file:
            publish(target, lambda copied: shutil.copyfileobj(file, copied, BUFFER_BYTES))
        return
    try:
        with told(target):
            crash_point(CrashPoint.WRITTEN)
            os.replace(temporary, target)
            crash_point(CrashPoint.VISIBLE)
    finally:
        with suppress(OSError):  # it stays where both names were one file already
            os.unlink(temporary)
    _sync_folder(target)


def _hard_link(source: str, target: str) -> str | None:
    """A second name of a file, not yet visible; None on a disk without hard links."""
    temporary = _new_temporary(target)
    with told(source):
        try:
            os.link(source, temporary)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            return None
    return temporary


def read_versioned(path: str) -> Versioned:
    """Content, digest and age of a small file."""
    with told(path), open(path, "rb", opener=_open_regular) as file:
        data = file.read()
        age_s = time.time() - os.fstat(file.fileno()).st_mtime
    return Versioned(data, _digest(data), max(0.0, age_s))


def create_exclusive(path: str, data: bytes) -> str | None:
    """Make a file appear whole where there is none; its version, or None where there was one."""
    with _temporary(path, lambda file: file.write(data)) as temporary:
        if not _link(temporary, path):
            return None
    _sync_folder(path)
    return _digest(data)


def replace_if(path: str, data: bytes, version: str) -> str | None:
    """Replace a file that still has this version; the new version, or None where it was changed or is gone."""
    with _locked(path):
        if _version(path) != version:
            return None
        publish(path, lambda file: file.write(data))
    return _digest(data)


def delete_if(path: str, version: str) -> bool:
    """Delete a file that still has this version."""
    with _locked(path):
        if _version(path) != version:
            return False
        delete(path)
    return True


def delete(path: str) -> None:
    """Delete a file; one that is not there is no error."""
    with told(path), suppress(FileNotFoundError):
        os.unlink(path)


def delete_tree(path: str) -> None:
    """Delete a folder with all that is in it; one that is not there is no error."""
    if len(Path(path).parts) < 2:
        raise StorageError(path, Cause.BAD_URI, "refused to delete all there is")
    with told(path), suppress(FileNotFoundError):
        shutil.rmtree(path)


def sweep(folder: str) -> int:
    """Delete the temporary files of writers that were killed, in this very folder, and say how many there were."""
    with told(folder), suppress(FileNotFoundError), os.scandir(folder) as entries:
        left = [entry.path for entry in entries if entry.name.endswith(PRIVATE_SUFFIXES[0]) and _age_s(entry.path) > BEING_WRITTEN_S]
        for path in left:
            os.unlink(path)
        return len(left)
    return 0


def _age_s(path: str) -> float:
    try:
        return time.time() - os.stat(path).st_mtime
    except FileNotFoundError:
        return 0.0


def always_conditional() -> bool:
    """Conditions are kept by locks and links of our own."""
    return True


@contextmanager
def _temporary(path: str, write: Write) -> Iterator[str]:
    """A finished file on the same disk, not yet visible; gone afterwards."""
    temporary = _new_temporary(path)
    with told(path):
        raw = File(temporary, "xb")
    try:
        with io.BufferedWriter(raw, BUFFER_BYTES) as file:
            write(file)
            file.flush()
            with told(path):
                os.fsync(raw.fileno())
        yield temporary
    finally:
        with suppress(OSError):  # what cannot be removed now is swept by a later run
            os.unlink(temporary)


def _new_temporary(path: str) -> str:
    """A free name on the same disk; its folder and that of the path are there."""
    folder = _scratch(path)
    with told(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.makedirs(folder, exist_ok=True)
    return f"{folder}/.{uuid.uuid4().hex}{PRIVATE_SUFFIXES[0]}"


def _scratch(path: str) -> str:
    """`<OUT>/_wip/tmp` inside an output, else the file's own folder: either way the same disk."""
    folder = Path(path).parent
    outputs = (above / "_wip" for above in folder.parents if (above / "_wip").is_dir())
    return str(next((wip / "tmp" for wip in outputs), folder))


def _link(temporary: str, path: str) -> bool:
    """Give a finished file its name unless the name is taken."""
    with told(path):
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            return _rename_if_free(temporary, path)
    return True


def _rename_if_free(temporary: str, path: str) -> bool:
    """As `_link`, on a disk without hard links."""
    with _locked(path):
        if os.path.lexists(path):
            return False
        os.rename(temporary, path)
    return True


@contextmanager
def _locked(path: str) -> Iterator[None]:
    folder, name = os.path.split(path)
    with told(path):
        os.makedirs(folder, exist_ok=True)
        handle = os.open(f"{folder}/.{name}{PRIVATE_SUFFIXES[1]}", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _version(path: str) -> str | None:
    try:
        return read_versioned(path).version
    except NotFound:
        return None


def _sync_folder(path: str) -> None:
    with told(path):
        handle = os.open(os.path.dirname(path), os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _info(path: str, found: os.stat_result) -> ObjectInfo:
    return ObjectInfo(path, found.st_size, f"{found.st_size:x}-{found.st_mtime_ns:x}")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
