"""What an export leaves in its folder, so that the next one writes only what has changed.

    TO/<shard>.tfrecord              or .tfrecord.gz
    TO/_export/corpus.json           whose export this is; written first, so that nobody's own records are ever overwritten
    TO/_export/shards/<shard>.json   the file's size and etag, and what it was made from

Delete a file, of either kind, and exactly that one is written anew. Knows nothing of records.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from infra import storage
from infra.problem import Problem
from infra.storage import ObjectInfo
from tasks.published import FOOTER_THREADS
from tasks.source import RECORD_SUFFIXES

ORIGIN, NOTES = "_export/corpus.json", "_export/shards"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a shard's file was when it was written."""

    name: str
    made_from: str
    size_bytes: int
    etag: str


@dataclass(frozen=True, slots=True)
class Exported:
    """The folder of an export."""

    to: str
    suffix: str

    def uri(self, shard: str) -> str:
        """Where a shard's records lie."""
        return f"{self.to.rstrip('/')}/{shard}{self.suffix}"

    def claim(self, corpus: str) -> None:
        """Make the folder this corpus' export.

        Raises:
            Problem: it holds records of another, or of nobody known.
        """
        origin = f"{self.to.rstrip('/')}/{ORIGIN}"
        if storage.exists(origin):
            if storage.read_bytes(origin) != _content(corpus):
                raise Problem(f"--to {self.to}: holds the export of another corpus; name another folder")
            return
        if strangers := [name for name in storage.list_names(self.to) if name.endswith(RECORD_SUFFIXES)]:
            raise Problem(f"--to {self.to}: holds records that no export wrote ({min(strangers)}); name another folder")
        storage.write_bytes(origin, _content(corpus))

    def receipts(self) -> dict[str, Receipt]:
        """Of every shard whose file is there as it was written, by shard."""
        there, notes = storage.list_names(self.to), storage.list_names(self._notes)
        names = [name for name in sorted(notes) if name.endswith(".json")]
        with ThreadPoolExecutor(FOOTER_THREADS) as pool:
            read = pool.map(self._read, names)
            found = {name.removesuffix(".json"): receipt for name, receipt in zip(names, read, strict=True)}
        return {shard: receipt for shard, receipt in found.items() if receipt and _is_there(receipt, there.get(receipt.name))}

    def note(self, shard: str, made_from: str) -> int:
        """Write down what was just written; its size in bytes. What was there of the shard with the other suffix goes."""
        uri = self.uri(shard)
        found = storage.stat(uri)
        if found is None:
            raise storage.NotFound(uri)
        receipt = Receipt(f"{shard}{self.suffix}", made_from, found.size_bytes, found.etag)
        storage.write_bytes(self._note(shard), json.dumps(asdict(receipt)).encode())
        for other in RECORD_SUFFIXES:
            if other != self.suffix:
                storage.delete(f"{self.to.rstrip('/')}/{shard}{other}")
        return found.size_bytes

    @property
    def _notes(self) -> str:
        return f"{self.to.rstrip('/')}/{NOTES}"

    def _note(self, shard: str) -> str:
        return f"{self._notes}/{shard}.json"

    def _read(self, name: str) -> Receipt | None:
        try:
            return Receipt(**json.loads(storage.read_bytes(f"{self._notes}/{name}")))
        except (ValueError, TypeError, storage.NotFound):
            return None


def _content(corpus: str) -> bytes:
    return json.dumps({"corpus": corpus}).encode()


def _is_there(receipt: Receipt, found: ObjectInfo | None) -> bool:
    return found is not None and (found.size_bytes, found.etag) == (receipt.size_bytes, receipt.etag)
