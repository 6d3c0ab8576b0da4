"""Objects by address: a path, file:///path, or s3://bucket/key, all the same to the caller.

    list_objects, list_names, stat     what is there
    list_folders, walk
    open_stream, open_seekable, open_ranges     read, with memory that does not grow with the object
    publish, write_bytes, copy         a reader sees all of it or nothing
    create_exclusive, replace_if       one winner of many
    delete, delete_tree, sweep

Every failure is a `StorageError`: the object, the cause, the fix. Nothing is cached between calls. S3 is imported when first addressed.
"""

import os
import re
import shutil
from collections.abc import Iterator
from typing import BinaryIO

from infra import disk
from infra.store import Cause, NotFound, ObjectInfo, StorageError, Store, Versioned, Write, is_pattern

__all__ = [
    "Cause", "NotFound", "ObjectInfo", "StorageError", "Versioned",
    "always_conditional", "copy", "create_exclusive", "delete", "delete_if", "delete_tree", "exists", "found", "list_folders", "list_names",
    "list_objects", "normal", "open_ranges", "open_seekable", "open_stream", "publish", "publish_file", "read_bytes", "read_versioned", "real",
    "relative", "replace_if", "root_of", "stat", "sweep", "walk", "write_bytes",
]  # fmt: skip

COPY_BYTES = 1 << 20


def list_objects(pattern: str, *, recursive: bool = True) -> list[ObjectInfo]:
    """Objects that a glob, a folder or a file's name stands for, sorted by uri.

    Args:
        pattern: `*`, `?`, `[abc]` match within one name, `**` any number of folders. A name that is there as it is written is taken
            literally, whatever characters it has.
        recursive: look into the sub-folders of a folder; a glob says so itself.

    Raises:
        NotFound: no such file, folder, or folder before the glob. A glob that matches nothing gives an empty list.
    """
    uri, store = normal(pattern), _store(pattern)
    root, parts = _split(uri)
    if not pattern.endswith("/") and (found := store.stat(uri)) is not None:
        return [found]
    if not parts or store.is_folder(uri):
        root, parts = uri, ("**" if recursive else "*",)
    objects = sorted(store.scan(root, parts), key=lambda item: item.uri)
    if not objects and not store.is_folder(root):
        raise NotFound(root)
    return objects


def list_names(folder: str) -> dict[str, ObjectInfo]:
    """Files of one folder by name, sub-folders left out; empty where there is no folder."""
    uri = normal(folder)
    return {relative(found.uri, uri): found for found in _store(uri).scan(uri, ("*",))}


def list_folders(folder: str) -> list[str]:
    """Names of the folders in a folder, sorted; none where there is no such folder."""
    uri = normal(folder)
    return sorted(_store(uri).folders(uri))


def walk(folder: str) -> Iterator[ObjectInfo]:
    """Every object below a folder, one at a time and not held, folder by folder; nothing where there is no folder."""
    uri = normal(folder)
    yield from _store(uri).scan(uri, ("**",))


def root_of(pattern: str) -> str:
    """The folder that names are relative to: a folder itself, a file's folder, or the folder before the first glob character."""
    uri, store = normal(pattern), _store(pattern)
    root, parts = _split(uri)
    if pattern.endswith("/"):
        return uri
    if store.stat(uri) is not None:
        return uri.rpartition("/")[0]
    return uri if not parts or store.is_folder(uri) else root


def relative(uri: str, root: str) -> str:
    """The part of an address after its root; the whole address where it lies elsewhere."""
    whole, above = normal(uri), normal(root).rstrip("/") + "/"
    return whole.removeprefix(above)


def normal(uri: str) -> str:
    """The one way to write an address: an absolute path, or s3://bucket/key without a slash at its end."""
    return _store(uri).normal(uri)


def real(uri: str) -> str:
    """Where an address leads: on disk every symbolic link is followed, elsewhere there are none."""
    address = normal(uri)
    return disk.real(address) if _store(address) is disk else address


def stat(uri: str) -> ObjectInfo | None:
    """Size and etag of one object; None where there is none."""
    return _store(uri).stat(normal(uri))


def exists(uri: str) -> bool:
    """Whether there is such an object."""
    return stat(uri) is not None


def found(item: ObjectInfo | str) -> ObjectInfo:
    """An object that was listed as it is, or the one at an address; raises NotFound."""
    if isinstance(item, ObjectInfo):
        return item
    uri = normal(item)
    there = stat(uri)
    if there is None:
        raise StorageError(uri, Cause.IS_FOLDER) if _store(uri).is_folder(uri) else NotFound(uri)
    return there


def open_stream(item: ObjectInfo | str) -> BinaryIO:
    """Open for one reading from the beginning to the end, fetched ahead.

    Raises:
        StorageError: here and by every read; CHANGED when the object was replaced, or the file written to, since it was listed.
    """
    listed = found(item)
    return _store(listed.uri).open_stream(listed)


def open_seekable(item: ObjectInfo | str) -> BinaryIO:
    """Open for reading anywhere, such as a video with its index at the end. Raises as `open_stream`."""
    listed = found(item)
    return _store(listed.uri).open_seekable(listed)


def open_ranges(item: ObjectInfo | str) -> BinaryIO:
    """Open for a few reads of known places, such as row groups, each one request. Raises as `open_stream`."""
    listed = found(item)
    return _store(listed.uri).open_ranges(listed)


def publish(uri: str, write: Write) -> None:
    """Make an object appear whole under its name, or leave everything as it was.

    Args:
        uri: what to create or replace.
        write: writes the content into the open file it is given, front to back, without seeking.
    """
    _store(uri).publish(normal(uri), write)


def publish_file(uri: str, path: str) -> None:
    """Publish a copy of a local file."""
    with disk.open_stream(ObjectInfo(path, 0, "")) as source:
        publish(uri, lambda target: shutil.copyfileobj(source, target, COPY_BYTES))


def copy(source: str, target: str) -> None:
    """Make an object appear whole under a second name of the same kind of storage; what had that name is replaced.

    The bytes do not pass through here, save on a disk without hard links. Raises NotFound where there is no source.
    """
    _store(target).copy(normal(source), normal(target))


def read_bytes(uri: str) -> bytes:
    """A small object as it is; raises NotFound."""
    return read_versioned(uri).data


def write_bytes(uri: str, data: bytes) -> None:
    """Publish a small object."""
    publish(uri, lambda file: file.write(data))


def read_versioned(uri: str) -> Versioned:
    """A small object with the version that `replace_if` and `delete_if` want; raises NotFound."""
    return _store(uri).read_versioned(normal(uri))


def create_exclusive(uri: str, data: bytes) -> str | None:
    """Create an object where there is none.

    Args:
        uri: what to create.
        data: whole content; no two callers may bring the same, for it is how a caller knows its own write after a lost answer.

    Returns:
        The version written, or None: somebody was first.
    """
    return _store(uri).create_exclusive(normal(uri), data)


def replace_if(uri: str, data: bytes, version: str) -> str | None:
    """Replace an object nobody has touched since it was read; arguments and result as `create_exclusive`."""
    return _store(uri).replace_if(normal(uri), data, version)


def delete_if(uri: str, version: str) -> bool:
    """Delete an object nobody has touched since it was read; on S3 as far as the store honours If-Match on deletes."""
    return _store(uri).delete_if(normal(uri), version)


def delete(uri: str) -> None:
    """Delete an object; one that is not there is no error."""
    _store(uri).delete(normal(uri))


def delete_tree(folder: str) -> None:
    """Delete everything in a folder; one that is not there is no error. A whole bucket or disk is refused."""
    _store(folder).delete_tree(normal(folder))


def sweep(folder: str) -> int:
    """Remove what writers that were killed left: on disk the temporary files in a folder, in S3 the unfinished uploads below it.

    Returns:
        How many there were.

    Raises:
        StorageError: some stores list no uploads.
    """
    return _store(folder).sweep(normal(folder))


def always_conditional(uri: str) -> bool:
    """Whether `create_exclusive` and `replace_if` are certain to keep their condition here; an S3 store may ignore it."""
    return _store(uri).always_conditional()


def _store(uri: str) -> Store:
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", uri)
    if scheme is None or scheme[1] == "file":
        return disk
    if scheme[1] != "s3":
        raise StorageError(f"{scheme[1]}://...", Cause.BAD_URI, f"{scheme[1]} is not supported")
    from infra import s3  # here, because it takes half a second that a run on disk need not spend

    return s3


def _split(uri: str) -> tuple[str, tuple[str, ...]]:
    """The address before the first name with a glob character, and the names from there on."""
    start = "s3://" if uri.startswith("s3://") else "/"
    names = uri.removeprefix(start).split("/")
    first = next((index for index, name in enumerate(names) if is_pattern(name)), len(names))
    return start + "/".join(names[:first]) if first else start.rstrip("/") or os.sep, tuple(names[first:])
