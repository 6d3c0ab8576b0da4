"""What is visible of an output: one Parquet file per shard and feature, and what its footer vouches for.

    OUT/<feature folder>/<shard>.parquet    vidmill.* keys in the footer: made from what, by what, how complete

The visible file is the only memory a run has of earlier runs.
"""

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version as release_of

import pyarrow as pa
import pyarrow.parquet as pq

from infra import storage
from infra.problem import Problem
from tasks.feature import Feature
from tasks.schema import SCHEMA_VERSION
from tasks.stored_rows import DAMAGED, StoredRows, stored_rows

FAILURES_FOLDER = "failures"
FOOTER_THREADS = 32


@dataclass(frozen=True, slots=True)
class Coverage:
    """How a shard's members meet the annotations."""

    annotated: int = 0  # members that the annotations name
    replaced: int = 0  # members taken from source.replacements
    ignored: int = 0  # members that are no video and claim to be none


@dataclass(frozen=True, slots=True)
class Footer:
    """What a published file says of itself; `rows + failed == planned` when it is whole."""

    corpus: str
    model: str
    version: str
    source_etag: str
    labels_etag: str  # of the annotations or manifest joined into `clips`
    run_id: str
    planned: int  # members of the shard that are clips, good or bad
    failed: int  # of these, without a row in this table
    rows: int = 0
    clipless: int = 0  # members without a row of `clips` when this file was written
    inputless: int = 0  # of tags made from embeddings: rows that these lacked when this file was written, all of them together
    coverage: Coverage = Coverage()
    media: str = ""  # of `enhanced`: `tasks.media.listing_digest` of the folder with the shard's files
    empty: tuple[str, ...] = ()  # of the failures' file: folders that have no file of this shard, because no clip gave a row

    def metadata(self) -> dict[bytes, bytes]:
        """The footer's key-value pairs; values are text."""
        values = {
            "schema": SCHEMA_VERSION,
            "release": release_of("vidmill"),
            "corpus": self.corpus,
            "model": self.model,
            "version": self.version,
            "source_etag": self.source_etag,
            "labels_etag": self.labels_etag,
            "run_id": self.run_id,
            "planned": str(self.planned),
            "failed": str(self.failed),
            "clipless": str(self.clipless),
            "inputless": str(self.inputless),
            "coverage": json.dumps([self.coverage.annotated, self.coverage.replaced, self.coverage.ignored]),
            "media": self.media,
            "empty": json.dumps(self.empty),
        }
        return {f"vidmill.{key}".encode(): value.encode() for key, value in values.items()}


def is_behind(footer: Footer, clips: Footer) -> bool:
    """Whether a file was written before a retry brought rows of `clips` or found other members; both footers are of one shard."""
    same = footer.source_etag == clips.source_etag
    return same and (footer.planned != clips.planned or footer.clipless > clips.failed)


def path_of(output: str, folder: str, shard: str) -> str:
    """Where a shard's file of a feature lies."""
    return f"{output.rstrip('/')}/{folder}/{shard}.parquet"


def read_footer(uri: str) -> Footer:
    """Read a published file's footer.

    Raises:
        Problem: the file is not one that vidmill wrote.
    """
    try:
        with storage.open_seekable(uri) as file:
            return footer_of(pq.read_metadata(file))
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:  # Arrow says OSError of a damaged footer
        raise Problem(f"{uri}: not a file that vidmill wrote, or damaged ({_line(error)}); move it away, it will be written anew") from error


def footer_of(meta: pq.FileMetaData) -> Footer:
    """What a file's metadata says.

    Raises:
        KeyError, ValueError: vidmill did not write it.
    """
    values = {key.decode(): value.decode() for key, value in (meta.metadata or {}).items() if key.startswith(b"vidmill.")}
    return Footer(
        corpus=values["vidmill.corpus"],
        model=values["vidmill.model"],
        version=values["vidmill.version"],
        source_etag=values["vidmill.source_etag"],
        labels_etag=values["vidmill.labels_etag"],
        run_id=values["vidmill.run_id"],
        planned=int(values["vidmill.planned"]),
        failed=int(values["vidmill.failed"]),
        rows=meta.num_rows,
        clipless=int(values["vidmill.clipless"]),
        inputless=int(values.get("vidmill.inputless", "0")),  # files written before there were such tags do not say so
        coverage=Coverage(*json.loads(values["vidmill.coverage"])),
        media=values.get("vidmill.media", ""),  # files written before there was any do not say so
        empty=tuple(json.loads(values["vidmill.empty"])),
    )


def shards_in(output: str, folder: str) -> set[str]:
    """Names of the shards whose file is visible in a feature's folder."""
    names = storage.list_names(f"{output.rstrip('/')}/{folder}")
    return {name.removesuffix(".parquet") for name in names if name.endswith(".parquet")}


def footers(output: str, feature: Feature) -> dict[str, Footer]:
    """Footers of a feature by shard."""
    return footers_of(output, feature.folder, sorted(shards_in(output, feature.folder)))


def footers_of(output: str, folder: str, shards: Sequence[str]) -> dict[str, Footer]:
    """Footers of these shards' files in a folder, read in parallel."""
    with ThreadPoolExecutor(FOOTER_THREADS) as pool:
        return dict(zip(shards, pool.map(lambda shard: read_footer(path_of(output, folder, shard)), shards), strict=True))


def read_rows(uri: str, columns: Iterable[str] | None = None) -> pa.Table | None:
    """A published file as a table, or None when there is none.

    Raises:
        Problem: the file is damaged.
    """
    try:
        with storage.open_seekable(uri) as file:
            return pq.ParquetFile(file).read(columns=list(columns) if columns else None)
    except storage.NotFound:
        return None
    except (pa.ArrowException, OSError) as error:  # Arrow says OSError of damaged pages
        raise _damaged(uri, error) from error


def published_rows(uri: str, columns: Sequence[str]) -> StoredRows | None:
    """As `read_rows`, with the other columns to be read by rows."""
    try:
        return stored_rows(uri, columns)
    except storage.NotFound:
        return None
    except DAMAGED as error:
        raise _damaged(uri, error) from error


def _damaged(uri: str, error: Exception) -> Problem:
    return Problem(f"{uri}: damaged ({_line(error)}); delete it and run again, only it will be computed")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
