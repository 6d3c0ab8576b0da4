"""Staging: what workers have finished of a shard and nobody sees yet.

    OUT/_wip/shard=<shard>/<feature folder>/<try>-<any>.fragment     rows, with the etag of what they were made from
    OUT/_wip/shard=<shard>/media/<partitions>/<try>-<any>.mp4              a restored video, there before the fragment that names it
    OUT/_wip/shard=<shard>/failures/<try>-<any>.fragment
    OUT/_wip/shard=<shard>/roster-<shard etag>.fragment              every member of the shard, written when it was read to its end

Fragments are Parquet in any order and number; duplicates are harmless. A damaged fragment counts as absent.
"""

import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from infra import storage
from tasks.feature import Feature
from tasks.media import MEDIA_FOLDER, SUFFIX
from tasks.stored_rows import DAMAGED, StoredRows, save, stored_rows

RESTORED = ("enhanced", MEDIA_FOLDER)
INFERRED = frozenset({"clips", "embeddings", "tags"})


@dataclass(frozen=True, slots=True)
class Roster:
    """Every member of a shard that is a clip, good or bad."""

    members: dict[str, str]  # clip_id, or member where none could be formed -> source_etag
    ignored: int  # members that are no video and do not claim to be one


@dataclass(frozen=True, slots=True)
class Staging:
    """The staging area of one shard.

    A try does not see what it staged itself: where a machine is lost, Ray runs its reader again and counts on the same clips in the same parcels.
    """

    output: str
    shard: str
    try_id: str = ""  # one call of `tasks.pipeline.process`; empty: sees everything

    @property
    def root(self) -> str:
        """Folder that holds everything staged for the shard; no archive's name can make it another thing's, such as `_wip/tmp`."""
        return f"{wip(self.output)}/shard={self.shard}"

    def add(self, folder: str, rows: pa.Table) -> None:
        """Stage finished rows."""
        if rows.num_rows:
            _write(f"{self.root}/{folder}/{self.try_id}-{uuid.uuid4().hex}.fragment", rows)

    def add_media(self, feature: Feature, path: str) -> str:
        """Stage a finished local file; the name that its row must give as `staged`."""
        name = f"{self.try_id}-{uuid.uuid4().hex}{SUFFIX}"
        storage.publish_file(f"{self.media(feature)}/{name}", path)
        return name

    def media(self, feature: Feature) -> str:
        """Folder of the staged files that a feature's rows name."""
        return f"{self.root}/{MEDIA_FOLDER}/{feature.partitions}"

    def tables(self, folder: str) -> Iterator[pa.Table]:
        """The fragments of a folder, each whole."""
        for found in self._fragments(folder):
            table = _read(found.uri)
            if table is not None:
                yield table

    def files(self, folder: str, columns: Sequence[str]) -> Iterator[StoredRows]:
        """The fragments of a folder with these columns, the others to be read by rows."""
        for found in self._fragments(folder):
            try:
                stored = stored_rows(found, columns)
            except (storage.NotFound, *DAMAGED):
                continue
            yield stored

    def _fragments(self, folder: str) -> Iterator[storage.ObjectInfo]:
        for name, found in sorted(storage.list_names(f"{self.root}/{folder}").items()):
            if name.endswith(".fragment") and not (self.try_id and name.startswith(f"{self.try_id}-")):
                yield found

    def write_roster(self, etag: str, roster: Roster) -> None:
        """Record that the shard was read to its end, and what is in it."""
        columns = {"key": pa.array(roster.members.keys(), pa.string()), "source_etag": pa.array(roster.members.values(), pa.string())}
        _write(self._roster(etag), pa.table(columns).replace_schema_metadata({"ignored": str(roster.ignored)}))

    def read_roster(self, etag: str) -> Roster | None:
        """The shard's members, if it was read to its end in this state."""
        rows = _read(self._roster(etag))
        if rows is None:
            return None
        members = dict(zip(rows["key"].to_pylist(), rows["source_etag"].to_pylist(), strict=True))
        return Roster(members, int(rows.schema.metadata[b"ignored"]))

    def clear(self, features: Collection[Feature] = ()) -> None:
        """Remove what is staged for a shard of which these features are published; what other recipes have staged took hours, and stays."""
        if not self._recipes(but=features):
            storage.delete_tree(self.root)
            return
        for folder in (*INFERRED, *(f"{place}/{_recipe(feature)}" for feature in features if feature.table == "enhanced" for place in RESTORED)):
            storage.delete_tree(f"{self.root}/{folder}")

    def holds(self, features: Collection[Feature]) -> bool:
        """Whether there is something that `clear` would remove."""
        there, recipes = storage.list_folders(self.root), self._recipes(but=())
        return not self._recipes(but=features) or not recipes.isdisjoint(map(_recipe, features)) or not INFERRED.isdisjoint(there)

    def _recipes(self, *, but: Collection[Feature]) -> set[str]:
        staged = {recipe for place in RESTORED for recipe in storage.list_folders(f"{self.root}/{place}")}
        return staged - set(map(_recipe, but))

    def _roster(self, etag: str) -> str:
        return f"{self.root}/roster-{etag}.fragment"


def staged_shards(output: str) -> list[str]:
    """Shards for which something is staged."""
    return [name.removeprefix("shard=") for name in storage.list_folders(wip(output)) if name.startswith("shard=")]


def _recipe(feature: Feature) -> str:
    return feature.partitions.partition("/")[0] if feature.table == "enhanced" else ""


def wip(output: str) -> str:
    """Folder of everything unpublished."""
    return f"{output.rstrip('/')}/_wip"


def _write(uri: str, rows: pa.Table) -> None:
    storage.publish(uri, partial(save, rows))


def _read(uri: str) -> pa.Table | None:
    try:
        return pq.read_table(pa.BufferReader(storage.read_bytes(uri)), page_checksum_verification=True)
    except (storage.NotFound, *DAMAGED):
        return None
