"""An output as Iceberg tables: metadata in one folder, a catalog that names the newest of it, data files where they are.

    OUT/_iceberg/catalog.db                        SQLite; or any catalog of pyiceberg's configuration
    OUT/_iceberg/<namespace>/<table>/metadata/     manifests that name OUT/clips/part_0.parquet and the others by their whole address

A file that was replaced leaves and comes again in one snapshot. Only the newest snapshot is kept: the files that older ones name are not what they
were. Knows Iceberg through pyiceberg alone.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from infra import storage
from infra.problem import Problem
from tasks.export_lake import Change, Overtaken, conflict
from tasks.lake import Bound, LakeFile, LakeTable, label_of, shared_type

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.manifest import DataFile
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table, Transaction
    from pyiceberg.types import NestedField

FOLDER, CATALOG_FILE, NAMESPACE = "_iceberg", "catalog.db", "vidmill"
CATALOG_NAME = "vidmill"  # by which SQLite tells catalogs of one file apart; a reader says it too
NAME_MAPPING = "schema.name-mapping.default"
PROPERTIES = {
    "comment": "Parquet that vidmill publishes; read it, and let only `vidmill export iceberg` write here",
    "commit.retry.num-retries": "0",  # a second try would not know what somebody else did
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "4",
}


class IcebergFormat:
    """Iceberg, in one catalog."""

    name = "iceberg"

    def __init__(self, output: str, *, to: str | None = None, catalog: str | None = None, namespace: str = NAMESPACE) -> None:
        try:
            import pyiceberg.catalog.sql  # noqa: F401
        except ImportError as error:
            raise Problem("export iceberg: the package pyiceberg is missing; pip install 'vidmill[iceberg]'") from error
        if not re.fullmatch(r"\w+", namespace):
            raise Problem(f"--namespace {namespace}: holds more than letters, digits and _; name another")
        place = to or f"{output.rstrip('/')}/{FOLDER}" + (f"/{catalog}" if catalog else "")
        self.to, self.namespace, self.catalog_name = storage.normal(place), namespace, catalog
        self._catalog: Catalog | None = None
        self._folders: dict[str, str] = {}  # by table
        if unfit := sorted(set("%#?") & set(self.to.removeprefix("s3://"))):
            raise Problem(f"--to {to}: the libraries of table formats read {unfit[0]} in an address as a code; name another folder")
        if catalog is None and self.to.startswith("s3://"):
            raise Problem(f"{self.to}: an SQLite catalog cannot lie in S3; name a folder on disk with --to, or pyiceberg's catalog with --catalog")

    @property
    def place(self) -> str:
        """The catalog."""
        return f"catalog {self.catalog_name}" if self.catalog_name else f"{self.to}/{CATALOG_FILE}"

    @property
    def catalog(self) -> "Catalog":
        """The catalog, made or loaded when first asked for."""
        if self._catalog is None:
            self._catalog = self._connected()
        return self._catalog

    def open(self, table: LakeTable) -> "IcebergHandle":
        """The table of a folder; raises Problem where another folder has its name."""
        name = table_name(table.folder)
        if (other := self._folders.setdefault(name, table.folder)) != table.folder:
            raise Problem(f"{table.folder}: would be the table {name}, as {other} is; rename the model in one of them and run again")
        return IcebergHandle(self.catalog, table, (self.namespace, name), f"{self.to}/{self.namespace}")

    def forget(self, folders: Sequence[str]) -> list[str]:
        """Drop the tables of folders that are no more."""
        kept, gone = {table_name(folder) for folder in folders}, []
        for identifier in self.catalog.list_tables(self.namespace):
            location = f"{self.to}/{self.namespace}/{identifier[-1]}"
            if identifier[-1] not in kept and self.catalog.load_table(identifier).location() == location:
                self.catalog.drop_table(identifier)
                storage.delete_tree(location)
                gone.append(".".join(identifier))
        return gone

    def _connected(self) -> "Catalog":
        from pyiceberg.catalog import load_catalog
        from pyiceberg.catalog.sql import SqlCatalog

        try:
            if self.catalog_name:
                catalog = load_catalog(self.catalog_name, **_file_options(self.to))
            else:
                Path(self.to).mkdir(parents=True, exist_ok=True)
                catalog = SqlCatalog(CATALOG_NAME, uri=f"sqlite:///{self.to}/{CATALOG_FILE}", **_file_options(self.to))
            catalog.create_namespace_if_not_exists(self.namespace)
        except Exception as error:  # whatever a catalog of any make says
            raise Problem(f"{self.place}: the catalog cannot be used ({_line(error)}); check its configuration, or delete the file") from error
        return catalog


class IcebergHandle:
    """A folder and its table in the catalog, which may not be there yet."""

    def __init__(self, catalog: "Catalog", table: LakeTable, identifier: tuple[str, str], root: str) -> None:
        self.catalog, self.table, self.identifier, self.root = catalog, table, identifier, f"{root}/{identifier[1]}"
        self._iceberg = self._opened()

    @property
    def version(self) -> str | None:
        """The snapshot; empty where a table has none."""
        snapshot = self._iceberg.current_snapshot() if self._iceberg else None
        return str(snapshot.snapshot_id) if snapshot else "" if self._iceberg else None

    @property
    def name(self) -> str:
        """Namespace and table."""
        return ".".join(self.identifier)

    @property
    def location(self) -> str:
        """The newest metadata file, which readers without a catalog open."""
        return self._iceberg.metadata_location if self._iceberg else self.root

    @property
    def receipt_uri(self) -> str:
        """Beside the metadata."""
        return f"{self.root}/receipt.json"

    def names(self) -> set[str]:
        """Files of the newest snapshot."""
        assert self._iceberg is not None
        return {task.file.file_path.rpartition("/")[2] for task in self._iceberg.scan().plan_files()}

    def apply(self, change: Change) -> str:
        """One commit, then older snapshots go; their manifests at the next one, for whoever is reading them."""
        from pyiceberg.exceptions import CommitFailedException, TableAlreadyExistsError

        before = _metadata_files(self._iceberg) if self._iceberg else set()
        try:
            self._commit(change)
        except (CommitFailedException, TableAlreadyExistsError) as error:
            raise Overtaken(label_of(self.table.folder)) from error
        self._iceberg = self._opened()
        assert self._iceberg is not None
        self._forget_older(self._iceberg, before)
        return self.version or ""

    def _opened(self) -> "Table | None":
        from pyiceberg.exceptions import NoSuchTableError

        try:
            found = self.catalog.load_table(self.identifier)
        except NoSuchTableError:
            return None
        except (OSError, ValueError) as error:
            raise Problem(f"{self.name}: its metadata cannot be read ({_line(error)}); drop the table from the catalog and export again") from error
        if found.location() != self.root:
            raise Problem(f"{self.name}: the catalog has it at {found.location()}, and not at {self.root}; choose another --namespace or catalog")
        return found

    def _commit(self, change: Change) -> None:
        if self._iceberg is None:
            transaction: Transaction = self.catalog.create_table_transaction(
                self.identifier, pa.schema([*change.schema, *_stand_ins(change.left_out)]), self.root, properties=PROPERTIES
            )
            transaction.set_properties({NAME_MAPPING: transaction.table_metadata.schema().name_mapping.model_dump_json()})
            if change.left_out.names:
                with transaction.update_schema() as update:
                    for name in change.left_out.names:
                        update.delete_column(name)
        else:
            transaction = self._iceberg.transaction()
            self._evolve(transaction, change)
        self._replace_files(transaction, change)
        transaction.commit_transaction()

    def _evolve(self, transaction: "Transaction", change: Change) -> None:
        """Columns that the table has not; those it cannot have get an id and go again, so that files that hold them can be read."""
        mapped = transaction.table_metadata.name_mapping()
        known = {name for field in mapped for name in field.names} if mapped else set()
        there = {field.name: field.type for field in transaction.table_metadata.schema().as_arrow()}
        for field in change.schema:
            if field.name in there and not _same(there[field.name], field.type):
                raise conflict(self.table, field.name, there[field.name], field.type, remedy="drop the table from the catalog")
        unknown = [field for field in _stand_ins(change.left_out) if field.name not in known]
        new = [field for field in change.schema if field.name not in there]
        if new or unknown:
            with transaction.update_schema() as update:
                update.union_by_name(pa.schema([*new, *unknown]))
        if unknown:
            with transaction.update_schema() as update:
                for field in unknown:
                    update.delete_column(field.name)

    def _replace_files(self, transaction: "Transaction", change: Change) -> None:
        schema = transaction.table_metadata.schema()
        spec_id = transaction.table_metadata.default_spec_id
        there = self.names() if self._iceberg else set()
        with transaction.update_snapshot().overwrite() as snapshot:
            for file in change.added:
                entry = data_file(file, self._address(file.name), schema, spec_id)
                if file.name in there:
                    snapshot.delete_data_file(entry)
                snapshot.append_data_file(entry)
            for name in sorted(change.removed & there):
                snapshot.delete_data_file(_entry(self._address(name), spec_id, rows=0, size_bytes=0))

    def _address(self, name: str) -> str:
        address = f"{self.table.uri}/{name}"
        if address.startswith("s3://") and set("#?") & set(name):
            raise Problem(f"{address}: pyiceberg cannot address a name with # or ? in S3; rename the archive, and run into another output")
        return address

    def _forget_older(self, iceberg: "Table", before: set[str]) -> None:
        newest = iceberg.current_snapshot()
        older = [snapshot.snapshot_id for snapshot in iceberg.snapshots() if newest and snapshot.snapshot_id != newest.snapshot_id]
        if older:
            iceberg.maintenance.expire_snapshots().by_ids(older).commit()
            iceberg.refresh()
        kept = _metadata_files(iceberg) | before
        for name, found in storage.list_names(f"{self.root}/metadata").items():
            if name.endswith(".avro") and name not in kept:
                storage.delete(found.uri)


def table_name(folder: str) -> str:
    """`clips`, or `embeddings_efficientnet_lite0_1a2b3c4d`: a name that SQL takes without quotes."""
    return re.sub(r"\W+", "_", label_of(folder))


def data_file(file: LakeFile, address: str, schema: "Schema", spec_id: int) -> "DataFile":
    """A file as manifests have it, with the statistics of its footer."""
    columns = [(schema.find_field(name), stats) for name, stats in file.stats.items()]
    bounded = [(column, stats.bounds) for column, stats in columns if stats.bounds]
    return _entry(
        address,
        spec_id,
        rows=file.rows,
        size_bytes=file.found.size_bytes,
        value_counts={column.field_id: file.rows for column, _ in columns},
        null_value_counts={column.field_id: stats.nulls for column, stats in columns if stats.nulls is not None},
        lower_bounds={column.field_id: _bytes(column, low) for column, (low, _) in bounded},
        upper_bounds={column.field_id: _bytes(column, high) for column, (_, high) in bounded},
        split_offsets=list(file.row_groups),
    )


def _bytes(column: "NestedField", bound: Bound) -> bytes:
    from pyiceberg.conversions import to_bytes
    from pyiceberg.types import PrimitiveType

    assert isinstance(column.field_type, PrimitiveType)
    return to_bytes(column.field_type, bound)


def _entry(address: str, spec_id: int, *, rows: int, size_bytes: int, **statistics: Any) -> "DataFile":
    from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
    from pyiceberg.typedef import Record

    entry = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=address,
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=rows,
        file_size_in_bytes=size_bytes,
        **statistics,
    )
    entry.spec_id = spec_id
    return entry


def _stand_ins(left_out: pa.Schema) -> list[pa.Field]:
    """Columns that a table cannot have, of the same shape and of a type it knows: they only take ids."""
    return [field.with_type(_shape(field.type)) for field in left_out]


def _shape(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(pa.field("element", _shape(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_shape(field.type)) for field in kind.fields])
    return pa.binary()


def _same(there: pa.DataType, comes: pa.DataType) -> bool:
    """Whether two Arrow types are one in Iceberg; pyiceberg reads text and lists as the large kinds."""
    return bool(shared_type(there) == shared_type(comes))


def _metadata_files(iceberg: "Table") -> set[str]:
    """Names of the manifests and manifest lists of the newest snapshot."""
    snapshot = iceberg.current_snapshot()
    if snapshot is None:
        return set()
    paths = [snapshot.manifest_list, *(manifest.manifest_path for manifest in snapshot.manifests(iceberg.io))]
    return {path.rpartition("/")[2] for path in paths}


def _file_options(place: str) -> Mapping[str, str]:
    """pyiceberg's settings for S3; a configured catalog's own are taken where these have none."""
    from infra.s3_access import s3_access

    access = s3_access()
    options = {
        "s3.endpoint": access.endpoint,
        "s3.region": access.region,
        "s3.access-key-id": access.key_id,
        "s3.secret-access-key": access.secret,
        "s3.session-token": access.token,
    }
    return {name: value for name, value in options.items() if value}


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
