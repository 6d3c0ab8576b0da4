"""The published Parquet as tables of a lakehouse: what is new, changed or gone since the last export goes into one commit per table.

    listing - receipt  ->  footers of what differs  ->  one commit  ->  receipt

No data is written. The output's lease is held meanwhile: a run would replace files while their footers are read, and of two exports one is turned
away. Knows no format; `tasks.export_delta` and `tasks.export_iceberg` do.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol

import pyarrow as pa

from infra import storage
from infra.lease import Lease, lease
from infra.problem import Problem
from infra.storage import ObjectInfo
from tasks.lake import LakeFile, LakeTable, folders_of, label_of, read_file, table_in
from tasks.lake_receipt import Receipt, Registered, read_receipt, write_receipt
from tasks.published import FOOTER_THREADS

Status = Literal["done", "nothing to do", "work left"]


class Overtaken(Problem):
    """Somebody else wrote to a table between reading and committing."""

    def __init__(self, label: str) -> None:
        super().__init__(f"{label}: somebody else wrote to this table meanwhile; export again")

    @property
    def passing(self) -> bool:
        """The next export goes on."""
        return True


@dataclass(frozen=True, slots=True)
class Change:
    """What turns a table's version into the next one; all of it is one commit."""

    schema: pa.Schema  # of the files that come; columns that the table has and they have not are empty in them
    left_out: pa.Schema
    added: Sequence[LakeFile]  # new, or replaced under the same name
    removed: frozenset[str]  # names that are there no more


class TableHandle(Protocol):
    """A table in its format."""

    @property
    def version(self) -> str | None:
        """Names what was committed last; None where there is no table yet."""

    @property
    def name(self) -> str:
        """What readers call it."""

    @property
    def location(self) -> str:
        """Where readers that know no catalog open it."""

    @property
    def receipt_uri(self) -> str:
        """Where its receipt lies."""

    def names(self) -> set[str]:
        """The files it consists of."""

    def apply(self, change: Change) -> str:
        """Commit; the new version. Raises Problem, and the last version stays."""


class LakeFormat(Protocol):
    """A table format."""

    @property
    def name(self) -> str:
        """`delta`, `iceberg`."""

    @property
    def place(self) -> str | None:
        """Where all tables are found together; None: in the output."""

    def open(self, table: LakeTable) -> TableHandle:
        """The table of a folder, there already or not."""

    def forget(self, folders: Sequence[str]) -> list[str]:
        """Remove the tables of folders that are no more, these being what there is; their names."""


@dataclass(frozen=True, slots=True)
class TableSummary:
    """One table and what this export did to it."""

    table: str  # the folder
    name: str  # what readers call it: the folder's address, or the table's name in the catalog
    location: str  # where readers that know no catalog open it
    files: int
    rows: int
    added: int
    changed: int
    removed: int
    left_out: tuple[str, ...]  # columns

    @property
    def touched(self) -> bool:
        """Whether there is a new version."""
        return bool(self.added or self.changed or self.removed)


@dataclass(frozen=True, slots=True)
class LakeSummary:
    """What an export did."""

    status: Status
    format: str
    output: str
    place: str  # the output, or the catalog
    tables: tuple[TableSummary, ...]
    dropped: tuple[str, ...]  # tables whose folder is no more
    problems: tuple[str, ...]  # what is left, and why
    notices: tuple[str, ...]


def export_lake(output: str, formatted: LakeFormat, on_file: Callable[[int, int], None] = lambda done, total: None) -> LakeSummary:
    """Register what is published and not registered.

    Args:
        on_file: called with the number of footers read, and of all that have to be.

    Raises:
        Problem: nothing can be registered, or a run or another export is at work; the message says which.
    """
    _check(output)
    with lease(output, run_id=f"export-{formatted.name}") as held:
        exporting = _Exporting(formatted, held, on_file)
        folders = list(folders_of(output))
        tables = [summary for folder in folders if (summary := exporting.register(table_in(output, folder)))]
        dropped = formatted.forget(folders)
    changed = dropped or any(table.touched for table in tables)
    return LakeSummary(
        status="work left" if exporting.problems else "done" if changed else "nothing to do",
        format=formatted.name,
        output=output,
        place=formatted.place or output,
        tables=tuple(tables),
        dropped=tuple(dropped),
        problems=tuple(exporting.problems),
        notices=held.notices,
    )


def _check(output: str) -> None:
    """Before the lease, which would make a folder of a slip of the pen."""
    if unfit := sorted(set("%#?") & set(output.removeprefix("s3://"))):
        raise Problem(f"{output}: the libraries of table formats read {unfit[0]} in an address as a code; rename the folder")
    if not any(name.endswith(".parquet") for name in storage.list_names(f"{output.rstrip('/')}/clips")):
        raise Problem(f"{output}: holds no published clips; check the path, or run first")


class _Exporting:
    """One export on its way, table after table."""

    def __init__(self, formatted: LakeFormat, held: Lease, on_file: Callable[[int, int], None]) -> None:
        self.formatted, self.held, self.on_file = formatted, held, on_file
        self.problems: list[str] = []
        self._done = self._total = 0

    def register(self, table: LakeTable) -> TableSummary | None:
        """Bring one table up to date; None where there is neither a file nor a table, or it cannot be."""
        try:
            return self._register(table)
        except storage.StorageError:
            raise
        except Problem as error:
            if error.passing:
                raise
            self.problems.append(str(error))
            return None

    def _register(self, table: LakeTable) -> TableSummary | None:
        handle = self.formatted.open(table)
        receipt = read_receipt(handle.receipt_uri, handle.version)
        known = receipt.files if receipt else {}
        before = set(known) if receipt else handle.names() if handle.version else set()
        fresh = self._read({name: found for name, found in table.files.items() if name not in known or not known[name].is_as(found)}, table)
        if handle.version is None and not fresh:
            return None
        after = {name: known[name] for name, found in table.files.items() if name in known and known[name].is_as(found)}
        after |= {file.name: Registered(file.found.size_bytes, file.found.etag, file.rows) for file in fresh}
        change = _change(table, fresh, before - set(after))
        left_out = tuple(sorted({*(receipt.left_out if receipt else ()), *change.left_out.names}))
        if change.added or change.removed:
            self.held.confirm()
            write_receipt(handle.receipt_uri, Receipt(handle.apply(change), after, left_out))
        return _summary(table, handle, change, before, after, left_out)

    def _read(self, files: Mapping[str, ObjectInfo], table: LakeTable) -> list[LakeFile]:
        """Footers, several at a time; a file that has none is told, and is no part of the table."""
        self._total += len(files)
        with ThreadPoolExecutor(FOOTER_THREADS, "footer") as threads:
            try:
                return [file for file in map(self._counted, threads.map(lambda item: self._footer(table, *item), files.items())) if file]
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise

    def _footer(self, table: LakeTable, name: str, found: ObjectInfo) -> LakeFile | None:
        try:
            return read_file(name, found)
        except storage.StorageError:
            raise
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:  # Arrow says OSError of a damaged footer
            line = " ".join(str(error).split())
            self.problems.append(f"{table.folder}/{name}: not a file that vidmill wrote, or damaged ({line}); delete it and run again")
            return None

    def _counted(self, file: LakeFile | None) -> LakeFile | None:
        self._done += 1
        self.on_file(self._done, self._total)
        return file


def _change(table: LakeTable, fresh: list[LakeFile], gone: set[str]) -> Change:
    return Change(_one_schema(table, fresh), pa.schema(_first_of_each(file.left_out for file in fresh)), fresh, frozenset(gone))


def _one_schema(table: LakeTable, files: Iterable[LakeFile]) -> pa.Schema:
    """The columns of all files; raises Problem where two say different things of one."""
    schemas: dict[pa.Schema, str] = {}
    for file in files:
        schemas.setdefault(file.schema, file.name)
    fields: dict[str, tuple[pa.Field, str]] = {}
    for schema, name in schemas.items():
        for field in schema:
            first, where = fields.setdefault(field.name, (field, name))
            if first.type != field.type:
                raise Problem(
                    f"{table.folder}: column {field.name!r} is {first.type} in {where} and {field.type} in {name}, and a table has one type "
                    "per column; run again, so that all shards are written with one type, then export again"
                )
    return pa.schema([field for field, _ in fields.values()])


def _first_of_each(schemas: Iterable[pa.Schema]) -> list[pa.Field]:
    fields: dict[str, pa.Field] = {}
    for schema in schemas:
        for field in schema:
            fields.setdefault(field.name, field)
    return list(fields.values())


def _summary(
    table: LakeTable, handle: TableHandle, change: Change, before: set[str], after: Mapping[str, Registered], left_out: tuple[str, ...]
) -> TableSummary:
    new = sum(file.name not in before for file in change.added)
    return TableSummary(
        table=table.folder,
        name=handle.name,
        location=handle.location,
        files=len(after),
        rows=sum(file.rows for file in after.values()),
        added=new,
        changed=len(change.added) - new,
        removed=len(change.removed),
        left_out=left_out,
    )


def conflict(table: LakeTable, column: str, has: object, comes: object, *, remedy: str) -> Problem:
    """A column that the table has with another type than the files that come."""
    return Problem(f"{label_of(table.folder)}: column {column!r} is {has} in the table and {comes} in new files; {remedy}, then export again")
