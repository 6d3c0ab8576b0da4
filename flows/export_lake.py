"""`vidmill export delta` and `vidmill export iceberg` from the command line: which format, and what became of each table."""

from rich.console import Console
from rich.text import Text

from flows.console import counted, one_line
from flows.export import watched
from tasks.export_lake import LakeFormat, LakeSummary, TableSummary, export_lake
from tasks.lake import label_of

NAMES = {"delta": "Delta Lake", "iceberg": "Iceberg"}


def export_delta(output: str) -> LakeSummary:
    """Register an output as Delta Lake tables; raises as `tasks.export_lake.export_lake`."""
    from tasks.export_delta import DeltaFormat

    return _watched(output, DeltaFormat())


def export_iceberg(output: str, *, to: str | None, catalog: str | None, namespace: str) -> LakeSummary:
    """Register an output as Iceberg tables; raises as `tasks.export_lake.export_lake`."""
    from tasks.export_iceberg import IcebergFormat

    return _watched(output, IcebergFormat(output, to=to, catalog=catalog, namespace=namespace))


def _watched(output: str, formatted: LakeFormat) -> LakeSummary:
    return watched(lambda show: export_lake(output, formatted, show), "files")


def print_lake(summary: LakeSummary, console: Console) -> None:
    """One line per table, what a table cannot have, what is left."""
    for table in summary.tables:
        console.print(Text(one_line(f"{table.name}: {counted(table.files, 'file')}, {counted(table.rows, 'row')}{_did(table)}")), soft_wrap=True)
    for line in [*_left_out(summary), *(f"note: {notice}" for notice in summary.notices)]:
        console.print(Text(one_line(line)), soft_wrap=True)
    for dropped in summary.dropped:
        console.print(Text(one_line(f"dropped: {dropped}, whose folder is gone")), soft_wrap=True)
    for problem in summary.problems:
        console.print(Text.assemble(("left: ", "red"), one_line(problem)), soft_wrap=True)
    touched = sum(table.touched for table in summary.tables)
    did = "every table is up to date" if summary.status == "nothing to do" else f"{counted(touched, 'table')} of {len(summary.tables)} changed"
    console.print(Text(one_line(f"{summary.status}: {did}, in {summary.place}")), soft_wrap=True)


def _did(table: TableSummary) -> str:
    counts = {"added": table.added, "changed": table.changed, "removed": table.removed}
    said = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    return f" ({said})" if said else ""


def _left_out(summary: LakeSummary) -> list[str]:
    return [
        f"note: {', '.join(table.left_out)} of {label_of(table.table)} is no column of the table, {NAMES[summary.format]} has no such type; "
        "the Parquet files have it"
        for table in summary.tables
        if table.left_out
    ]
