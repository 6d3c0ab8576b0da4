"""The vocabulary of YouTube-8M: what its label ids are called, joined into `clips` when a shard is published.

    vocabulary.csv: Index,...,Name,...,Vertical1,Vertical2,Vertical3,...    and label_ids [3, 7]    ->    labels ["Guitar", "Concert"], verticals

A corrected vocabulary republishes `clips` without opening a record. Knows tables, nothing of records.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from infra.problem import Problem
from tasks import foreign_table
from tasks.source import SourceFile

NEEDED = ("Index", "Name")
VERTICALS = ("Vertical1", "Vertical2", "Vertical3")
NAMES_TYPE = pa.list_(pa.string())


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Names and verticals by label id; a label that it does not know has none."""

    names: Mapping[int, str] = field(default_factory=dict)
    verticals: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    def add_to(self, clips: pa.Table) -> pa.Table:
        """`clips` of records with what their labels are called, in their order, and the verticals they belong to, each once."""
        if "label_ids" not in clips.column_names:
            return clips
        ids = [labels or () for labels in clips["label_ids"].to_pylist()]
        names = [[self.names.get(label) for label in labels] for labels in ids]
        verticals = [[*dict.fromkeys(_chained(self.verticals.get(label, ()) for label in labels))] for labels in ids]
        at = clips.schema.get_field_index("label_ids") + 1
        return clips.add_column(at, "verticals", pa.array(verticals, NAMES_TYPE)).add_column(at, "labels", pa.array(names, NAMES_TYPE))


def read_vocabulary(source: SourceFile | None) -> Vocabulary:
    """Read vocabulary.csv.

    Raises:
        Problem: not a CSV, a column is missing, or an index is no whole number.
    """
    if source is None:
        return Vocabulary()
    where = f"source.vocabulary {source.uri}"
    try:
        table = foreign_table.read_csv(source.uri, text=(NEEDED[1], *VERTICALS))
    except foreign_table.BadTable as reason:
        raise Problem(f"{where}: not a CSV table ({reason}); it needs {','.join(NEEDED)} and may have {','.join(VERTICALS)}") from reason
    if missing := [name for name in NEEDED if name not in table.column_names]:
        raise Problem(f"{where}: column {missing[0]} is missing; its columns are {foreign_table.names_of(table)}")
    try:
        ids = pc.cast(table["Index"], pa.int64()).to_pylist()
    except pa.ArrowException as error:
        raise Problem(f"{where}: Index is not whole numbers ({' '.join(str(error).split())}); correct the table") from error
    verticals = zip(*(table[name].to_pylist() for name in VERTICALS if name in table.column_names), strict=True)
    found = {label: tuple(name for name in row if name) for label, row in zip(ids, verticals, strict=False)}
    return Vocabulary(dict(zip(ids, table["Name"].to_pylist(), strict=True)), found)


def _chained(parts: Iterable[tuple[str, ...]]) -> Iterable[str]:
    return (name for part in parts for name in part)
