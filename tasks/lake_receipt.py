"""What the last export registered of a table, so that the next one reads only the footers of what has changed since.

Bound to the version it was written after: after a crash between the two, or somebody else's commit, it is not believed and every footer is read
again. Delete it, and the same happens.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from infra import storage
from infra.storage import ObjectInfo


@dataclass(frozen=True, slots=True)
class Registered:
    """A file as it was registered."""

    size_bytes: int
    etag: str
    rows: int

    def is_as(self, found: ObjectInfo) -> bool:
        """Whether the file that is there is the one that was registered."""
        return (self.size_bytes, self.etag) == (found.size_bytes, found.etag)


@dataclass(frozen=True, slots=True)
class Receipt:
    """One version of a table."""

    version: str
    files: Mapping[str, Registered]
    left_out: tuple[str, ...] = ()  # columns that the table cannot have


def read_receipt(uri: str, version: str | None) -> Receipt | None:
    """The receipt of this version; None where there is none that can be believed."""
    try:
        found = json.loads(storage.read_bytes(uri))
        files = {name: Registered(*values) for name, values in found["files"].items()}
        receipt = Receipt(found["version"], files, tuple(found["left_out"]))
    except (storage.NotFound, ValueError, TypeError, KeyError, AttributeError):
        return None
    return receipt if receipt.version == version else None


def write_receipt(uri: str, receipt: Receipt) -> None:
    """Put it in the place of the last one."""
    files = {name: tuple(asdict(file).values()) for name, file in receipt.files.items()}
    storage.write_bytes(uri, json.dumps({"version": receipt.version, "left_out": receipt.left_out, "files": files}).encode())
