"""Which embeddings an output holds, and which are meant by `efficientnet-lite0`, or by `efficientnet-lite0@1a2b3c4d` where it has several versions.

    OUT/embeddings/model=<name>/version=<v>/

Lists folders, opens no table.
"""

from collections.abc import Sequence
from difflib import get_close_matches

from infra import storage
from infra.problem import Problem
from tasks.feature import MAKER, Feature


def embedding_tables(output: str) -> tuple[Feature, ...]:
    """Every embeddings table of an output, by model and version."""
    root, maker = f"{output.rstrip('/')}/embeddings", f"{MAKER['embeddings']}="
    models = [name.removeprefix(maker) for name in storage.list_folders(root) if name.startswith(maker)]
    return tuple(
        Feature("embeddings", model, version.removeprefix("version="))
        for model in models
        for version in storage.list_folders(f"{root}/{maker}{model}")
        if version.startswith("version=")
    )


def chosen(tables: Sequence[Feature], wanted: str, *, option: str) -> Feature:
    """The table of a model, or of a model and version.

    Args:
        wanted: `model` or `model@version`.
        option: what asked for it, for the message.

    Raises:
        Problem: there is none, or there are several.
    """
    model, _, version = wanted.partition("@")
    fitting = [table for table in tables if table.model == model and version in ("", table.version)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise Problem(f"{option} {wanted}: there are {len(fitting)} versions of it; name one: {names_of(fitting)}")
    known = [table for table in tables if table.model == model] or tables
    near = get_close_matches(model, [str(table.model) for table in tables], 1) if known is tables else []
    hint = f"did you mean {near[0]}?" if near else f"there are {names_of(known) or 'none'}"
    raise Problem(f"{option} {wanted}: the output has no such embeddings; {hint}")


def names_of(tables: Sequence[Feature]) -> str:
    """The tables for a message."""
    return ", ".join(map(named, tables))


def named(table: Feature) -> str:
    """As `chosen` takes it."""
    return f"{table.model}@{table.version}"
