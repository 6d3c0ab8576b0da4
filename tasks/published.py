"""What is visible of an output: one Parquet file per shard and feature, and what its footer vouches for.

    OUT/<feature folder>/<shard>.parquet    vidmill.* keys in the footer: made from what, by what, how complete

The visible file is the only memory a run has of earlier runs.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version as release_of

import pyarrow as pa
import pyarrow.parquet as pq

from infra import storage
from infra.problem import Problem
from infra.storage import Cause, ObjectInfo, StorageError
from tasks.failure_groups import group_failures
from tasks.feature import MAKER, Feature
from tasks.index import Entry, read_index, write_index
from tasks.outcome import FailureGroup
from tasks.schema import SCHEMA_VERSION
from tasks.stored_rows import DAMAGED, StoredRows, stored_rows

FAILURES_FOLDER = "failures"
FOOTER_THREADS = 32
VIDEO_COLUMNS = {FAILURES_FOLDER: "member", "clips": "uri"}  # that name the loose video of a row
LOOSE_CORPORA = ("files ", "manifest ")  # how the identity of a corpus begins whose shards are numbered groups of videos
NOT_OURS = (pa.ArrowException, OSError, KeyError, ValueError)  # Arrow says OSError of a damaged footer
FAILURE_COLUMNS = ["clip_id", "member", "stage", "kind", "message"]


@dataclass(frozen=True, slots=True)
class Coverage:
    """How a shard's members meet the annotations."""

    annotated: int = 0  # members that the annotations name
    replaced: int = 0  # members taken from source.replacements
    ignored: int = 0  # members that are no video and claim to be none


@dataclass(frozen=True, slots=True)
class Footer:
    """What a published file says of itself: `rows + failed + omitted == planned`, and it is whole when nothing is omitted."""

    corpus: str
    model: str
    version: str
    source_etag: str
    labels_etag: str  # of the annotations or manifest joined into `clips`
    run_id: str
    planned: int  # members of the shard that are clips, good or bad
    failed: int  # of these, without a row in this table
    rows: int = 0
    omitted: int = 0  # of the planned: a backfill's selection left them out, neither row nor failure
    clipless: int = 0  # members without a row of `clips` when this file was written
    inputless: int = 0  # of tags made from embeddings: rows that these lacked when this file was written, all of them together
    coverage: Coverage = Coverage()
    media: str = ""  # of `enhanced`: `tasks.media.listing_digest` of the folder with the shard's files
    empty: tuple[str, ...] = ()  # of the failures' file: folders that have no file of this shard, because no clip gave a row
    begun: tuple[str, ...] = ()  # of the failures' file: folders of which the same is true of a backfill's selection, and the others were left out

    @property
    def lacking(self) -> int:
        """Members without a row, whether they failed or were left out."""
        return self.failed + self.omitted

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
            "omitted": str(self.omitted),
            "clipless": str(self.clipless),
            "inputless": str(self.inputless),
            "coverage": json.dumps([self.coverage.annotated, self.coverage.replaced, self.coverage.ignored]),
            "media": self.media,
            "empty": json.dumps(self.empty),
            "begun": json.dumps(self.begun),
        }
        return {f"vidmill.{key}".encode(): value.encode() for key, value in values.items()}


def is_behind(footer: Footer, clips: Footer) -> bool:
    """Whether a file was written before a retry brought rows of `clips` or found other members; both footers are of one shard."""
    same = footer.source_etag == clips.source_etag
    return same and (footer.planned != clips.planned or footer.clipless > clips.failed)


def path_of(output: str, folder: str, shard: str) -> str:
    """Where a shard's file of a feature lies."""
    return f"{output.rstrip('/')}/{folder}/{shard}.parquet"


@dataclass(frozen=True, slots=True)
class KnownFile:
    """What plans and reports need to know of a published file."""

    footer: Footer
    videos: tuple[tuple[str, str, int], ...] = ()  # of a corpus of loose videos: uri, etag, rows; of `clips` and the failures
    failed: int = 0  # of the failures: clips and members
    groups: tuple[FailureGroup, ...] = ()


def read_footer(uri: str) -> Footer:
    """Read a published file's footer.

    Raises:
        Problem: the file is not one that vidmill wrote.
    """
    try:
        with storage.open_seekable(uri) as file:
            return footer_of(pq.read_metadata(file))
    except NOT_OURS as error:
        raise _not_ours(uri, error) from error


def footer_of(meta: pq.FileMetaData) -> Footer:
    """What a file's metadata says.

    Raises:
        KeyError, ValueError: vidmill did not write it.
    """
    return _footer(_pairs(meta), meta.num_rows)


def _pairs(meta: pq.FileMetaData) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in (meta.metadata or {}).items() if key.startswith(b"vidmill.")}


def _footer(values: Mapping[str, str], rows: int) -> Footer:
    return Footer(
        corpus=values["vidmill.corpus"],
        model=values["vidmill.model"],
        version=values["vidmill.version"],
        source_etag=values["vidmill.source_etag"],
        labels_etag=values["vidmill.labels_etag"],
        run_id=values["vidmill.run_id"],
        planned=int(values["vidmill.planned"]),
        failed=int(values["vidmill.failed"]),
        rows=rows,
        omitted=int(values.get("vidmill.omitted", "0")),  # files written before there were selections do not say so
        clipless=int(values["vidmill.clipless"]),
        inputless=int(values.get("vidmill.inputless", "0")),  # files written before there were such tags do not say so
        coverage=Coverage(*json.loads(values["vidmill.coverage"])),
        media=values.get("vidmill.media", ""),  # files written before there was any do not say so
        empty=tuple(json.loads(values["vidmill.empty"])),
        begun=tuple(json.loads(values.get("vidmill.begun", "[]"))),
    )


def shards_in(output: str, folder: str) -> set[str]:
    """Names of the shards whose file is visible in a feature's folder."""
    names = storage.list_names(f"{output.rstrip('/')}/{folder}")
    return {name.removesuffix(".parquet") for name in names if name.endswith(".parquet")}


def footers(output: str, feature: Feature) -> dict[str, Footer]:
    """Footers of a feature by shard."""
    return {shard: known.footer for shard, known in known_files(output, feature.folder).items()}


def footers_of(output: str, folder: str, shards: Iterable[str]) -> dict[str, Footer]:
    """Footers of these shards' files in a folder."""
    return {shard: known.footer for shard, known in known_files(output, folder, frozenset(shards)).items()}


def known_files(output: str, folder: str, shards: Set[str] | None = None) -> dict[str, KnownFile]:
    """The files of a folder by shard, all or some; those that the index does not know as they are now are read, in parallel."""
    return {shard: _known(entry) for shard, entry in _entries(output, folder, shards, read_index(output, folder)).items()}


def index_files(output: str, folder: str) -> None:
    """Bring the index of a folder up to date; only for the holder of the output's lease."""
    index = read_index(output, folder)
    entries = _entries(output, folder, None, index)
    if entries != index:
        write_index(output, folder, entries)


def _entries(output: str, folder: str, shards: Set[str] | None, index: Mapping[str, Entry]) -> dict[str, Entry]:
    names = storage.list_names(f"{output.rstrip('/')}/{folder}")
    found = {name.removesuffix(".parquet"): info for name, info in names.items() if name.endswith(".parquet")}
    there = {shard: info for shard, info in sorted(found.items()) if shards is None or shard in shards}
    fresh = [shard for shard, info in there.items() if shard not in index or index[shard].etag != info.etag]
    with ThreadPoolExecutor(FOOTER_THREADS) as pool:
        read = dict(zip(fresh, pool.map(lambda shard: _read_entry(there[shard], folder), fresh), strict=True))
    return {shard: read[shard] if shard in read else index[shard] for shard in there}


def _read_entry(info: ObjectInfo, folder: str) -> Entry:
    try:
        return _entry_of(info, folder)
    except NOT_OURS as error:
        raise _not_ours(info.uri, error) from error
    except StorageError as error:
        if error.cause is not Cause.CHANGED:
            raise
        return _read_entry(storage.found(info.uri), folder)  # another run has published it anew since it was listed


def _entry_of(info: ObjectInfo, folder: str) -> Entry:
    with storage.open_seekable(info) as file:
        parquet = pq.ParquetFile(file)
        pairs, known = _pairs(parquet.metadata), dict[str, object]()
        if folder == FAILURES_FOLDER:
            rows = parquet.read(columns=FAILURE_COLUMNS).to_pylist()
            known = {"failed": len({row["clip_id"] or row["member"] for row in rows}), "groups": [asdict(group) for group in group_failures(rows)]}
        if folder in VIDEO_COLUMNS and pairs["vidmill.corpus"].startswith(LOOSE_CORPORA):
            columns = parquet.read(columns=[VIDEO_COLUMNS[folder], "source_etag"])
            videos = Counter(zip(*(column.to_pylist() for column in columns.columns), strict=True))
            known["videos"] = [[*video, count] for video, count in sorted(videos.items())]
        entry = Entry(info.etag, parquet.metadata.num_rows, {"footer": pairs, **known})
        _known(entry)  # raises where a key is missing
        return entry


def _known(entry: Entry) -> KnownFile:
    known = entry.known
    groups = (FailureGroup(g["kind"], g["count"], tuple(g["examples"]), tuple(g["selectors"])) for g in known.get("groups", ()))
    videos = ((uri, etag, count) for uri, etag, count in known.get("videos", ()))
    return KnownFile(_footer(known["footer"], entry.rows), tuple(videos), known.get("failed", 0), tuple(groups))


def _not_ours(uri: str, error: Exception) -> Problem:
    return Problem(f"{uri}: not a file that vidmill wrote, or damaged ({_line(error)}); move it away, it will be written anew")


def features_in(output: str) -> Iterator[Feature]:
    """Every version of a model or recipe that has a folder; what its tags were made from, no folder tells."""
    for table, maker in MAKER.items():
        root = f"{output.rstrip('/')}/{table}"
        for model in storage.list_folders(root):
            for version in storage.list_folders(f"{root}/{model}") if model.startswith(f"{maker}=") else ():
                if version.startswith("version="):
                    yield Feature(table, model.removeprefix(f"{maker}="), version.removeprefix("version="))


def rows_elsewhere(output: str, shard: str, *, but: Collection[str]) -> list[set[str]]:
    """The clips of a shard that each feature has a row of, folders in `but` left out."""
    others = (feature.folder for feature in features_in(output) if feature.folder not in but)
    tables = (read_rows(path_of(output, folder, shard), ("clip_id",)) for folder in others)
    return [set(rows["clip_id"].to_pylist()) for rows in tables if rows is not None]


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
