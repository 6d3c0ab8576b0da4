"""What a tagger learns from: an output's embeddings joined with its labels, planned shard by shard without opening a vector.

    clips/<shard>  +  embeddings/model=<input>/version=<v>/<shard> ...  ->  pieces: rows of the first input that fit into memory together

A clip counts that has a label and a row in every input. The driver keeps numbers per piece; `tasks.tagger_stream` reads the vectors.
Knows the layout of an output, nothing of networks.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from infra import storage
from infra.problem import Problem
from tasks.feature import RECORD_MODELS
from tasks.frame_features import FRAMES, width_of
from tasks.published import path_of, read_rows, shards_in
from tasks.tagger_labels import COLUMNS, Key, Label, Sides, labelled, most_frequent

THREADS = 16


@dataclass(frozen=True, slots=True)
class Table:
    """An embeddings table that a tagger reads."""

    model: str
    version: str
    width: int

    @property
    def folder(self) -> str:
        """Under the output."""
        return f"embeddings/model={self.model}/version={self.version}"


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one row group of the first input, and how many of them are of use."""

    shard: str
    row_group: int
    start: int
    stop: int
    learned: int
    held_out: int
    vector_bytes: int  # of one clip in all inputs, about


@dataclass(frozen=True, slots=True)
class Corpus:
    """What there is to learn from."""

    features: str
    tables: tuple[Table, ...]
    sides: Sides
    labels: tuple[Label, ...]
    pieces: tuple[Piece, ...]
    digest: str  # hex SHA-256 of every clip, its labels and its side, and of the inputs
    unlabelled: int
    incomplete: int  # clips with a label that lack an input

    @property
    def learned(self) -> int:
        """Clips that are learned from."""
        return sum(piece.learned for piece in self.pieces)

    @property
    def held_out(self) -> int:
        """Clips that can judge."""
        return sum(piece.held_out for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class _Shard:
    pieces: list[Piece]
    counts: Counter[tuple[Key, str]]
    digest: bytes
    unlabelled: int
    incomplete: int


def corpus_of(features: str, inputs: Sequence[str], sides: Sides, *, labels: int, frames: int, piece_bytes: int) -> Corpus:
    """Plan.

    Args:
        features: output of a run.
        inputs: MODEL or MODEL@VERSION.
        labels: most of them.
        frames: most of a clip.
        piece_bytes: of vectors that are read together; a larger row group is several pieces.

    Raises:
        Problem: an input is missing or has several versions, or there is nothing to learn from or to judge by.
    """
    tables = tables_of(features, inputs)
    look = _Look(features, tables, sides, frames, piece_bytes, {table: frozenset(shards_in(features, table.folder)) for table in tables})
    with ThreadPoolExecutor(THREADS) as pool:
        shards = list(pool.map(look.shard, sorted(shards_in(features, "clips"))))
    counts: Counter[tuple[Key, str]] = Counter()
    digest = hashlib.sha256(repr(tables).encode())
    for shard in shards:
        counts.update(shard.counts)
        digest.update(shard.digest)
    corpus = Corpus(
        features, tables, sides, most_frequent(counts, labels), tuple(piece for shard in shards for piece in shard.pieces), digest.hexdigest(),
        sum(shard.unlabelled for shard in shards), sum(shard.incomplete for shard in shards),
    )  # fmt: skip
    _check(corpus)
    return corpus


def _check(corpus: Corpus) -> None:
    fix = f"name another --held-out-split than {corpus.sides.split}" if corpus.sides.split is not None else "choose another --held-out"
    if not corpus.learned and not corpus.held_out:
        names = ", ".join(table.model for table in corpus.tables)
        raise Problem(f"features {corpus.features}: no clip has a label and a row of {names}; run vidmill over a corpus with labels")
    if not corpus.learned or not corpus.held_out:
        side = "judge by" if corpus.learned else "learn from"
        raise Problem(f"features {corpus.features}: {corpus.learned + corpus.held_out:,} clips leave none to {side}; {fix}, or add clips")


def tables_of(features: str, inputs: Sequence[str]) -> tuple[Table, ...]:
    """The tables that inputs name; without any those of YouTube-8M's records, or the only model there is.

    Raises:
        Problem: there is none, or more than one that it could be.
    """
    there = [name.removeprefix("model=") for name in storage.list_folders(f"{features}/embeddings") if name.startswith("model=")]
    if not there:
        raise Problem(f"features {features}: holds no embeddings; name the output of a `vidmill run`")
    wanted = list(inputs) or [name for name in RECORD_MODELS if name in there] or there
    if not inputs and len(wanted) > 1 and not set(wanted) <= set(RECORD_MODELS):
        raise Problem(f"inputs: none is named and there are {', '.join(there)}; add --inputs {there[0]}")
    return tuple(_table(features, name, there) for name in dict.fromkeys(wanted))


def _table(features: str, name: str, there: Sequence[str]) -> Table:
    model, _, version = name.partition("@")
    if model not in there:
        raise Problem(f"inputs {model}: {features} has no embeddings of it; it has {', '.join(there)}")
    folder = f"{features}/embeddings/model={model}"
    versions = [found.removeprefix("version=") for found in storage.list_folders(folder)]
    if (version and version not in versions) or (not version and len(versions) != 1):
        raise Problem(f"inputs {name}: {folder} has the versions {', '.join(versions) or 'none'}; name one as {model}@VERSION")
    table = Table(model, version or versions[0], 0)
    shards = sorted(shards_in(features, table.folder))
    if not shards:
        raise Problem(f"inputs {name}: {features}/{table.folder} is empty; run vidmill again")
    with opened(features, table, shards[0]) as parquet:
        return Table(model, table.version, width_of(parquet.schema_arrow))


@dataclass(frozen=True, slots=True)
class _Look:
    """Looks at the keys of shards."""

    features: str
    tables: Sequence[Table]
    sides: Sides
    frames: int
    piece_bytes: int
    holding: Mapping[Table, frozenset[str]]  # shards that have rows in a table

    def shard(self, name: str) -> _Shard:
        """What a shard has to learn from."""
        rows = clips_in(self.features, name)
        clips = {clip.clip_id: clip for clip in labelled(rows)}
        groups = [self._ids(table, name) for table in self.tables]
        present = [{clip_id for ids in table for clip_id in ids} for table in groups]
        usable = {clip_id: clip for clip_id, clip in clips.items() if all(clip_id in ids for ids in present)}
        held_out = {clip_id for clip_id, clip in usable.items() if self.sides.is_held_out(clip)}
        counts = Counter(label for clip_id, clip in usable.items() if clip_id not in held_out for label in clip.names.items())
        told = repr([(clip, clip.clip_id in held_out) for _, clip in sorted(usable.items())])
        pieces = list(self._pieces(name, groups[0], usable.keys() - held_out, held_out)) if usable else []
        digest = hashlib.sha256(told.encode("utf-8", "surrogateescape")).digest()
        return _Shard(pieces, counts, digest, rows.num_rows - len(clips), len(clips) - len(usable))

    def _ids(self, table: Table, shard: str) -> list[list[str]]:
        """clip_ids of every row group."""
        if shard not in self.holding[table]:
            return []
        with opened(self.features, table, shard) as parquet:
            return [parquet.read_row_group(group, columns=["clip_id"])["clip_id"].to_pylist() for group in range(parquet.num_row_groups)]

    def _pieces(self, shard: str, groups: Sequence[Sequence[str]], learned: Set[str], held_out: Set[str]) -> Iterator[Piece]:
        with opened(self.features, self.tables[0], shard) as parquet:
            each = [self._vector_bytes(parquet, group) for group in range(parquet.num_row_groups)]
        for group, ids in enumerate(groups):
            rows = max(1, self.piece_bytes // each[group])
            for start in range(0, len(ids), rows):
                part = ids[start : start + rows]
                counts = [sum(clip_id in side for clip_id in part) for side in (learned, held_out)]
                if any(counts):
                    yield Piece(shard, group, start, start + len(part), counts[0], counts[1], each[group])

    def _vector_bytes(self, parquet: pq.ParquetFile, group: int) -> int:
        """Bytes of an average clip in all inputs, of as many vectors as one has in the first: Parquet counts them."""
        meta = parquet.metadata.row_group(group)
        rows, size, vectors = max(1, meta.num_rows), 4, 1.0
        for column in map(meta.column, range(meta.num_columns)):
            name = column.path_in_schema.partition(".")[0]
            if name in FRAMES and column.num_values > rows:
                size, vectors = (1, column.num_values / rows) if name == FRAMES[0] else (2, column.num_values / rows / self.tables[0].width)
        return max(1, int(min(vectors, self.frames) * size * sum(table.width for table in self.tables)))


def clips_in(features: str, shard: str) -> pa.Table:
    """A shard's rows of `clips`, as much of them as labels need."""
    uri = path_of(features, "clips", shard)
    with _Opened(uri) as parquet:
        columns = [name for name in COLUMNS if name in parquet.schema_arrow.names]
    rows = read_rows(uri, columns)
    if rows is None:
        raise Problem(f"{uri}: is gone; run vidmill again, then this command")
    return rows


def opened(features: str, table: Table, shard: str) -> "_Opened":
    """A shard's file of an input, for a `with`; what is wrong with it is a Problem."""
    return _Opened(path_of(features, table.folder, shard))


class _Opened:
    """A Parquet file that is read in parts, so that memory does not grow with its row groups."""

    BUFFER_BYTES = 1 << 20

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.file: BinaryIO | None = None

    def __enter__(self) -> pq.ParquetFile:
        self.file = storage.open_seekable(self.uri)
        try:
            return pq.ParquetFile(self.file, buffer_size=self.BUFFER_BYTES)
        except (pa.ArrowException, OSError) as error:
            self.file.close()
            raise self._damaged(error) from error

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        assert self.file is not None
        self.file.close()
        if isinstance(error, (pa.ArrowException, OSError)):
            raise self._damaged(error) from error

    def _damaged(self, error: BaseException) -> Problem:
        return Problem(f"{self.uri}: damaged ({' '.join(str(error).split())}); delete it and run vidmill again, only it will be computed")
