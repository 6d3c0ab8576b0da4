"""Failures by kind, out of rows of their table or out of groups of several files."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tasks.outcome import FailureGroup
from tasks.select import exactly

EXAMPLES = 3  # failures of a kind that are shown in words


def group_failures(rows: Sequence[Mapping[str, Any]]) -> tuple[FailureGroup, ...]:
    """Failures by kind, most frequent first, with the first few of each in words."""
    by_kind: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_kind.setdefault(row["kind"], []).append(row)
    return tuple(sorted((_group(kind, found) for kind, found in by_kind.items()), key=lambda group: -group.count))


def _group(kind: str, rows: Sequence[Mapping[str, Any]]) -> FailureGroup:
    examples = tuple(f"{row['member']}: {row['stage']} {kind}: {row['message']}" for row in rows[:EXAMPLES])
    selectors = tuple(f"clip:{exactly(row['clip_id'])}" if row["clip_id"] else f"member:{exactly(row['member'])}" for row in rows[:EXAMPLES])
    return FailureGroup(kind, len(rows), examples, selectors)


def joined_groups(groups: Iterable[FailureGroup]) -> tuple[FailureGroup, ...]:
    """Groups of several files as one of each kind, most frequent first."""
    by_kind: dict[str, FailureGroup] = {}
    for group in groups:
        had = by_kind.get(group.kind, FailureGroup(group.kind, 0, (), ()))
        examples, selectors = ((*old, *new)[:EXAMPLES] for old, new in ((had.examples, group.examples), (had.selectors, group.selectors)))
        by_kind[group.kind] = FailureGroup(group.kind, had.count + group.count, examples, selectors)
    return tuple(sorted(by_kind.values(), key=lambda group: -group.count))
