"""Media against rows: every file has a row that names it, every row its file with the size and the digest that it says.

    OUT/enhanced/<partitions>/<shard>.parquet   <->   OUT/media/<partitions>/<shard>/*.mp4

Reads every byte of media; holds the names of one shard at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import pyarrow.parquet as pq

from infra import storage
from infra.storage import ObjectInfo, StorageError
from tasks.media import MEDIA_FOLDER, digest_of, media_name
from tasks.visible import VisibleFile

TABLE_PLACES, DEPTH = "enhanced/", 4  # folders between the output and a file of media


@dataclass(frozen=True, slots=True)
class MediaFault:
    """What is wrong with a file of media; `row` is the clip whose row names it, None where none does."""

    uri: str
    row: str | None
    cause: str
    is_there: bool


def media_places(output: str) -> Iterator[tuple[str, list[ObjectInfo]]]:
    """Folders of media, relative to the output, with what is in or below them; files that lie too high come alone."""
    found = storage.walk(f"{output.rstrip('/')}/{MEDIA_FOLDER}")
    for place, files in groupby(found, key=lambda item: "/".join(storage.relative(item.uri, output).split("/")[:DEPTH])):
        yield place, list(files)


def check_media(output: str, file: VisibleFile, there: list[ObjectInfo]) -> Iterator[MediaFault]:
    """Compare the rows of a sound file with what lies in its folder of media."""
    folder = storage.normal(f"{output.rstrip('/')}/{media_place(file)}")
    names = {storage.relative(item.uri, folder): item for item in there}
    for clip_id, uri, size_bytes, digest in _rows(file):
        place = f"{folder}/{media_name(clip_id)}"
        found = names.pop(media_name(clip_id), None)
        if found is None:
            yield MediaFault(place, clip_id, "is missing", is_there=False)
        elif cause := _altered(found, size_bytes, digest):
            yield MediaFault(found.uri, clip_id, cause, is_there=True)
        elif not uri.endswith(storage.relative(place, output)):
            yield MediaFault(found.uri, clip_id, f"its row names {uri}", is_there=True)
    for item in names.values():
        yield unnamed(item)


def unnamed(item: ObjectInfo) -> MediaFault:
    """A file that no row names."""
    return MediaFault(item.uri, None, "no row names this file", is_there=True)


def media_place(file: VisibleFile) -> str:
    """Where the media of a table's file lies, relative to the output."""
    return f"{MEDIA_FOLDER}/{file.folder.removeprefix(TABLE_PLACES)}/{file.shard}"


def _rows(file: VisibleFile) -> Iterator[tuple[str, str, int, str]]:
    with storage.open_seekable(file.found) as opened:
        rows = pq.ParquetFile(opened).read(columns=["clip_id", "uri", "size_bytes", "media_digest"])
    return zip(*(rows[name].to_pylist() for name in ("clip_id", "uri", "size_bytes", "media_digest")), strict=True)


def _altered(found: ObjectInfo, size_bytes: int, digest: str) -> str | None:
    if found.size_bytes != size_bytes:
        return f"has {found.size_bytes:,} bytes where its row says {size_bytes:,}"
    try:
        with storage.open_stream(found) as file:
            return None if digest_of(file) == digest else "altered since vidmill wrote it: its bytes do not give its row's digest"
    except StorageError as error:
        return f"cannot be read ({error.cause}{f': {error.detail}' if error.detail else ''})"
