"""Label ids for records, and vocabulary.csv, which says what they are called.

    clips with label_ids [3, 7]     those, and names as far as the clips have them
    clips with label "archery"      numbers of all names in order: abseiling 0, archery 1, ...

Memory is proportional to the labels, not to the clips. Knows `clips` and the vocabulary's columns, nothing of records.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra import storage
from infra.problem import Problem
from tasks.source import SourceFile, digest_of
from tasks.vocabulary import NEEDED, VERTICALS, read_vocabulary

COLUMNS = ("label_ids", "label")  # of `clips`, either of which gives the ids
HEADER = (NEEDED[0], "TrainVideoCount", "KnowledgeGraphId", NEEDED[1], "WikiUrl", *VERTICALS, "WikiDescription")


@dataclass(frozen=True, slots=True)
class LabelIds:
    """The labels of an output."""

    names: Mapping[int, str]  # by id; an id without a name is not in it
    videos: Mapping[int, int]  # with the label, by id
    by_name: Mapping[str, int] | None = None  # of clips that have a name and no id

    @property
    def digest(self) -> str:
        """Of what decides a clip's ids besides the clip; empty where nothing does."""
        return digest_of(self.by_name) if self.by_name else ""

    def of(self, clip: Mapping[str, Any]) -> Sequence[int]:
        """The ids of a row of `clips`."""
        if self.by_name is None:
            return clip.get("label_ids") or ()
        return (self.by_name[name],) if (name := clip["label"]) else ()


def read_label_ids(tables: Iterable[pa.Table]) -> LabelIds:
    """The labels of an output.

    Args:
        tables: of every shard, as `label_columns` reads them, in the same order every time.
    """
    videos: Counter[int] = Counter()
    names: dict[int, str] = {}
    counted: Counter[str] = Counter()
    for table in tables:
        for row in table.group_by(table.column_names).aggregate([([], "count_all")]).to_pylist():
            if "label" in row:
                counted.update({row["label"]: row["count_all"]} if row["label"] else {})
            else:
                videos[row["label_ids"]] += row["count_all"]
                names |= {row["label_ids"]: row["labels"]} if row["labels"] is not None else {}
    if not counted:
        return LabelIds(names, videos)
    by_name = {name: index for index, name in enumerate(sorted(counted))}
    return LabelIds({index: name for name, index in by_name.items()}, {by_name[name]: count for name, count in counted.items()}, by_name)


def label_columns(clips: str) -> pa.Table:
    """Every label of a shard's clips, a row each: label_ids and labels, or label.

    Raises:
        StorageError: see there.
        pa.ArrowException, OSError: the file is damaged.
    """
    with storage.open_seekable(clips) as file:
        parquet = pq.ParquetFile(file)
        if "label_ids" not in parquet.schema_arrow.names:
            return parquet.read(columns=["label"])
        table = parquet.read(columns=["label_ids", "labels"])
        return pa.table({name: pc.list_flatten(table[name]) for name in table.column_names})


def vocabulary_csv(labels: LabelIds, original: str | None) -> bytes:
    """The vocabulary of an export.

    Args:
        original: address of the run's own vocabulary; taken as it is if it says what the clips say.
    """
    return _agreeing(labels, original) or _csv(labels)


def _agreeing(labels: LabelIds, original: str | None) -> bytes | None:
    """The run's own vocabulary, unless it is gone or says something else by now."""
    try:
        found = storage.stat(original) if original else None
        known = read_vocabulary(SourceFile("", found.uri, found.etag, found.size_bytes)).names if found else {}
        agrees = found is not None and all(known.get(index) == labels.names.get(index) for index in labels.videos)
        return storage.read_bytes(found.uri) if found and agrees else None
    except Problem:
        return None


def _csv(labels: LabelIds) -> bytes:
    """Names are one line each, as readers of the real file expect."""
    text = io.StringIO()
    rows = csv.DictWriter(text, HEADER, restval="", lineterminator="\n")
    rows.writeheader()
    for index, name in sorted(labels.names.items()):
        rows.writerow({"Index": index, "TrainVideoCount": labels.videos.get(index, 0), "Name": " ".join(name.splitlines())})
    return text.getvalue().encode()
