"""Both table formats as a test sees them: export, then read as a stranger does, through the format's own library.

Knows deltalake and pyiceberg; nothing of how an export is made.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
from deltalake import DeltaTable
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog

from infra.s3_access import s3_access
from tasks.export_delta import DeltaFormat
from tasks.export_iceberg import IcebergFormat, table_name
from tasks.export_lake import LakeSummary, TableSummary, export_lake
from tests.corpus import table

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Delta:
    """Delta Lake tables of an output."""

    output: str

    def export(self) -> LakeSummary:
        return export_lake(self.output, DeltaFormat())

    def opened(self, folder: str) -> DeltaTable:
        options = {"AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"} if self.output.startswith("s3://") else None
        return DeltaTable(f"{self.output}/{folder}", storage_options=options)

    def arrow(self, folder: str) -> pa.Table:
        return self.opened(folder).to_pyarrow_table()

    def pandas(self, folder: str) -> pd.DataFrame:
        return self.opened(folder).to_pandas()

    def sql(self, folder: str, query: str) -> list[tuple[Any, ...]]:
        with duckdb.connect() as connection:
            return connection.register("t", self.opened(folder).to_pyarrow_dataset()).execute(query).fetchall()

    def chosen(self, folder: str, predicate: str) -> pa.Table:
        """Rows of the files that statistics do not rule out, filtered."""
        return pa.table(self.opened(folder).scan(predicate=predicate).read_all())

    def versions(self, folder: str) -> int:
        """How often it was committed."""
        return self.opened(folder).version() + 1

    def has(self, folder: str) -> bool:
        return DeltaTable.is_deltatable(f"{self.output}/{folder}")


@dataclass(frozen=True)
class Iceberg:
    """Iceberg tables of an output."""

    output: str
    to: str | None = None

    def export(self) -> LakeSummary:
        return export_lake(self.output, IcebergFormat(self.output, to=self.to))

    @property
    def catalog(self) -> Catalog:
        options = {"s3.endpoint": s3_access().endpoint or "", "s3.region": "us-east-1"} if self.output.startswith("s3://") else {}
        return SqlCatalog("vidmill", uri=f"sqlite:///{self.to or f'{self.output}/_iceberg'}/catalog.db", **options)

    def opened(self, folder: str) -> Any:
        return self.catalog.load_table(("vidmill", table_name(folder)))

    def arrow(self, folder: str) -> pa.Table:
        return self.opened(folder).scan().to_arrow()

    def pandas(self, folder: str) -> pd.DataFrame:
        return self.opened(folder).scan().to_pandas()

    def sql(self, folder: str, query: str) -> list[tuple[Any, ...]]:
        with self.opened(folder).scan().to_duckdb("t") as connection:
            return connection.execute(query).fetchall()

    def chosen(self, folder: str, predicate: str) -> pa.Table:
        """Rows of the files that statistics do not rule out, filtered."""
        return self.opened(folder).scan(row_filter=predicate).to_arrow()

    def versions(self, folder: str) -> int:
        """How often it was committed."""
        return int(self.opened(folder).current_snapshot().sequence_number)

    def has(self, folder: str) -> bool:
        return self.catalog.table_exists(("vidmill", table_name(folder)))


Lake = Delta | Iceberg


def sorted_rows(found: pa.Table) -> Rows:
    """Rows by clip."""
    return sorted(found.to_pylist(), key=lambda row: (str(row["clip_id"]), str(row.get("member"))))


def plain_rows(output: object, folder: str, *, without: tuple[str, ...] = ()) -> Rows:
    """What the Parquet files hold, read without any table format."""
    found = table(output, folder)
    return sorted_rows(found.drop_columns([name for name in without if name in found.column_names]))


def by_folder(summary: LakeSummary) -> Mapping[str, TableSummary]:
    """Its tables."""
    return {found.table: found for found in summary.tables}


def done(lake: Lake) -> Mapping[str, TableSummary]:
    """Export; everything must go."""
    summary = lake.export()
    assert (summary.status, summary.problems) == ("done", ())
    return by_folder(summary)
