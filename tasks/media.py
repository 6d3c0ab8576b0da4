"""Media: restored videos, files beside the rows that name them.

    OUT/_wip/shard=<shard>/media/recipe=<name>/version=<v>/<try>-<any>.mp4      staged: finished, and nobody sees it yet
    OUT/media/recipe=<name>/version=<v>/<shard>/<clip_id>.mp4                   published, before the row that names it

A file in its place is never changed in it. Knows names, sizes and digests; opens media only to hash it.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO
from urllib.parse import quote

import pyarrow as pa
import xxhash

from infra import storage
from infra.crash_point import CrashPoint, crash_point
from tasks.feature import Feature

MEDIA_FOLDER = "media"
SUFFIX = ".mp4"
LONGEST_NAME = 200  # bytes of a name without its suffix; disks take 255
COPY_THREADS = 8
CHUNK_BYTES = 1 << 20


def media_folder(output: str, feature: Feature, shard: str) -> str:
    """Where the files of a shard and recipe lie."""
    return f"{output.rstrip('/')}/{MEDIA_FOLDER}/{feature.partitions}/{shard}"


def media_name(clip_id: str) -> str:
    """The file name of a clip: no two clips share one.

    Everything but letters, digits and `_ . -` is percent-encoded, UTF-8 byte by byte. A name that would be too long is cut and ends with `~` and
    a digest of the whole, and no other name has a `~`.
    """
    name = quote(clip_id, safe="").replace("~", "%7E")
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME - 33]}~{hashlib.sha256(clip_id.encode()).hexdigest()[:32]}"
    return name + SUFFIX


def listing_digest(sizes: Mapping[str, int]) -> str:
    """What a folder with these files, size by name, is called in the footer of the table that names them; empty for none."""
    listing = "\n".join(f"{size} {name}" for name, size in sorted(sizes.items()))
    return xxhash.xxh3_64_hexdigest(listing.encode()) if sizes else ""


def listed_digest(output: str, feature: Feature, shard: str) -> str:
    """The digest of what lies in the folder; one listing, no file is opened."""
    return listing_digest(_sizes(media_folder(output, feature, shard)))


def digest_of(file: BinaryIO) -> str:
    """xxh3_128 of everything from the file's position on, as 32 hex digits."""
    found = xxhash.xxh3_128()
    while chunk := file.read(CHUNK_BYTES):
        found.update(chunk)
    return found.hexdigest()


def with_media(rows: pa.Table, names: Iterable[str], folder: str) -> pa.Table:
    """The rows whose file is there and has the size that the row says.

    Args:
        rows: with a column `size_bytes`.
        names: of their files, row by row.
        folder: that holds the files.
    """
    there = _sizes(folder)
    return rows.filter(pa.array([there.get(name) == size for name, size in zip(names, rows["size_bytes"].to_pylist(), strict=True)], pa.bool_()))


def publish_media(folder: str, staged: Mapping[str, str], guard: Callable[[], None]) -> None:
    """Give staged files, address by name, their places in `folder`; the staged ones stay, so that whoever is killed now finds them again."""

    def publish(name: str) -> None:
        guard()
        storage.copy(staged[name], f"{folder}/{name}")
        crash_point(CrashPoint.MEDIA)

    with ThreadPoolExecutor(COPY_THREADS) as pool:
        list(pool.map(publish, sorted(staged)))


def delete_unnamed(folder: str, named: Iterable[str], guard: Callable[[], None]) -> None:
    """Delete the files of a folder that no row names."""
    for name in sorted(storage.list_names(folder).keys() - set(named)):
        guard()
        storage.delete(f"{folder}/{name}")


def _sizes(folder: str) -> dict[str, int]:
    return {name: found.size_bytes for name, found in storage.list_names(folder).items()}
