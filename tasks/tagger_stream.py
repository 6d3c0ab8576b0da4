"""Labelled sequences out of an output's Parquet, in an order that follows from seed, epoch and plan alone.

    epoch      pieces in a new order -> | window | window | window |      as many pieces as fit into half of the buffer
    window     its clips in a new order; the next window is read meanwhile

Going on at example 70,000 reads the window it lies in and nothing before it. Knows a planned corpus, nothing of networks.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.problem import Problem
from tasks.frame_features import aligned, columns_of, frames_of
from tasks.tagger_corpus import Corpus, Piece, Table, clips_in, opened
from tasks.tagger_labels import Key, Labelled, RatedSegment, labelled

ROWS = 64  # of a table that are looked at together
WHOLE = 1 << 31  # frames


@dataclass(frozen=True, slots=True)
class Example:
    """A clip that a tagger learns from or is judged by."""

    clip_id: str
    inputs: tuple[np.ndarray, ...]  # one [T, width] for each input, uint8 codes, float16 or float32; T the same for all, at least 1
    labels: np.ndarray  # int [n], columns of those that the tagger learns
    positives: int  # labels in all
    segments: tuple[RatedSegment, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """Clips that are in memory together."""

    pieces: tuple[Piece, ...]
    clips: int


def windows(pieces: Sequence[Piece], *, bound_bytes: int, order: np.random.Generator, held_out: bool = False) -> list[Window]:
    """The pieces in a new order, as many together as the bound allows, at least one; those without a clip of the side left out."""
    found: list[Window] = []
    kept: list[Piece] = []
    size_bytes = 0
    for index in order.permutation(len(pieces)):
        piece = pieces[index]
        clips = _clips(piece, held_out)
        if kept and clips and size_bytes + clips * piece.vector_bytes > bound_bytes:
            found.append(_window(kept, held_out))
            kept, size_bytes = [], 0
        if clips:
            kept.append(piece)
            size_bytes += clips * piece.vector_bytes
    return [*found, _window(kept, held_out)] if kept else found


def _window(pieces: Sequence[Piece], held_out: bool) -> Window:
    return Window(tuple(pieces), sum(_clips(piece, held_out) for piece in pieces))


def _clips(piece: Piece, held_out: bool) -> int:
    return piece.held_out if held_out else piece.learned


class Stream:
    """The examples of one worker, for ever, or the held-out ones once."""

    def __init__(self, corpus: Corpus, *, frames: int, seed: int, bound_bytes: int, rank: int = 0, workers: int = 1) -> None:
        """Plan a stream.

        Args:
            frames: most of an example that is learned from.
            bound_bytes: of vectors in memory, in two windows.
            rank: of the worker; each has pieces of its own where there are enough with something to learn from.
        """
        self.corpus, self.frames, self.seed, self.rank, self.window_bytes = corpus, frames, seed, rank, bound_bytes // 2
        learned = [piece for piece in corpus.pieces if piece.learned]
        self.pieces = learned[rank::workers] if len(learned) >= workers else learned
        self.columns = {label.key: index for index, label in enumerate(corpus.labels)}

    def learned(self, start: int) -> Iterator[Example]:
        """Examples from the one with this number on.

        Raises:
            Problem: a file is damaged, gone, or another one than was planned for.
        """
        epoch, skipped = divmod(start, sum(piece.learned for piece in self.pieces))
        yield from self._shuffled(self._endless(epoch), skipped)

    def held_out(self, most: int) -> Iterator[Example]:
        """So many held-out examples, or all, drawn with the seed, with all their frames; raises as `learned`."""
        order = self._random(0, 0)
        for window in windows(self.corpus.pieces, bound_bytes=self.window_bytes, order=order, held_out=True):
            examples = self._read(window, held_out=True)[:most]
            yield from examples
            most -= len(examples)
            if not most:
                return

    def _endless(self, epoch: int) -> Iterator[tuple[int, int, Window]]:
        for number in count(epoch):
            found = windows(self.pieces, bound_bytes=self.window_bytes, order=self._random(number, 0))
            yield from ((number, index, window) for index, window in enumerate(found))

    def _shuffled(self, coming: Iterator[tuple[int, int, Window]], skipped: int) -> Iterator[Example]:
        with ThreadPoolExecutor(1, "windows") as reader:
            waiting: list[tuple[int, int, Window, Future[list[Example]]]] = []
            for epoch, index, window in coming:
                if skipped >= window.clips:
                    skipped -= window.clips
                    continue
                waiting.append((epoch, index, window, reader.submit(self._read, window)))
                if len(waiting) == 2:
                    yield from self._in_new_order(*waiting.pop(0), skipped)
                    skipped = 0

    def _in_new_order(self, epoch: int, index: int, window: Window, read: "Future[list[Example]]", skipped: int) -> Iterator[Example]:
        examples = read.result()
        for place in self._random(epoch, 1 + index).permutation(window.clips)[skipped:]:
            yield examples[place]

    def _random(self, epoch: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.rank, epoch, purpose])

    def _read(self, window: Window, *, held_out: bool = False) -> list[Example]:
        return [example for piece in window.pieces for example in self._examples(piece, held_out)]

    def _examples(self, piece: Piece, held_out: bool) -> list[Example]:
        corpus, first, others = self.corpus, self.corpus.tables[0], self.corpus.tables[1:]
        clips = {clip.clip_id: clip for clip in labelled(clips_in(corpus.features, piece.shard)) if corpus.sides.is_held_out(clip) == held_out}
        with opened(corpus.features, first, piece.shard) as parquet:
            found = [_rows(parquet, clips, (piece.row_group,), piece.start, piece.stop)]
        wanted = found[0].keys()
        found += [self._of(table, piece.shard, {clip_id: clips[clip_id] for clip_id in wanted}) for table in others]
        complete = [clip_id for clip_id in wanted if all(clip_id in rows for rows in found)]
        if len(complete) != _clips(piece, held_out):
            raise Problem(f"features {corpus.features}: {piece.shard} changed since the training began; run the same command again")
        most = WHOLE if held_out else self.frames  # segments are seconds of the whole clip
        return [self._example(clips[clip_id], [rows[clip_id] for rows in found], most) for clip_id in complete]

    def _of(self, table: Table, shard: str, clips: Mapping[str, Labelled]) -> dict[str, np.ndarray]:
        if not clips:
            return {}
        with opened(self.corpus.features, table, shard) as parquet:
            groups = [group for group in range(parquet.num_row_groups) if _overlaps(parquet, group, min(clips), max(clips))]
            return _rows(parquet, clips, groups)

    def _example(self, clip: Labelled, inputs: Sequence[np.ndarray], most: int) -> Example:
        labels = np.array([self.columns[key] for key in clip.names if key in self.columns], np.int64)
        segments = tuple(rated for rated in clip.segments if rated.key in self.columns)
        return Example(clip.clip_id, aligned(inputs, most=most), labels, len(clip.names), segments)

    def column(self, key: Key) -> int:
        """Of a label in the scores."""
        return self.columns[key]


def _rows(
    parquet: pq.ParquetFile, clips: Mapping[str, Labelled], groups: Sequence[int], start: int = 0, stop: int | None = None
) -> dict[str, np.ndarray]:
    """Frames by clip_id, in the order of the rows; only of the clips asked for, some rows at a time."""
    found: dict[str, np.ndarray] = {}
    wanted, at = pa.array(list(clips), pa.string()), 0
    for rows in parquet.iter_batches(ROWS, row_groups=list(groups), columns=["clip_id", *columns_of(parquet.schema_arrow)]) if groups else ():
        low, high = max(0, start - at), rows.num_rows if stop is None else min(rows.num_rows, stop - at)
        at += rows.num_rows
        if high <= 0:
            break
        if low < high:
            part = rows.slice(low, high - low)
            part = part.filter(pc.is_in(part.column("clip_id"), wanted))
            found.update(zip(part.column("clip_id").to_pylist(), frames_of(part), strict=True))
    return found


def _overlaps(parquet: pq.ParquetFile, group: int, first: str, last: str) -> bool:
    """Whether a row group may hold clips from `first` to `last`; rows are sorted by clip_id."""
    meta = parquet.metadata.row_group(group)
    column = next(meta.column(index) for index in range(meta.num_columns) if meta.column(index).path_in_schema == "clip_id")
    known = column.statistics
    return known is None or not known.has_min_max or (known.min <= last and first <= known.max)
