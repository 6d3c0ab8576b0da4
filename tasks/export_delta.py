"""An output as Delta Lake tables: each folder of a feature gets a log that names its files, beside them.

    OUT/clips/_delta_log/00000000000000000000.json    {"add": {"path": "part_0.parquet", "size": ..., "stats": ...}}

A file that was replaced is added again under its name, which takes the old entry's place. No checkpoint is written: `*.parquet` below a table is
data to everybody who reads plain Parquet. Knows Delta Lake through its library alone.
"""

import json
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa

from infra import storage
from infra.problem import Problem
from tasks.export_lake import Change, Overtaken, conflict
from tasks.lake import Bound, LakeFile, LakeTable, label_of
from tasks.visible import DELTA_LOG as LOG

if TYPE_CHECKING:
    from deltalake import DeltaTable, Schema
    from deltalake.transaction import AddAction

ABOUT = "Parquet that vidmill publishes; read it, and let only `vidmill export delta` write here"


class DeltaFormat:
    """Delta Lake."""

    name = "delta"
    place = None

    def __init__(self) -> None:
        try:
            import deltalake  # noqa: F401
        except ImportError as error:
            raise Problem("export delta: the package deltalake is missing; pip install 'vidmill[delta]'") from error

    def open(self, table: LakeTable) -> "DeltaHandle":
        """The table of a folder."""
        return DeltaHandle(table)

    def forget(self, folders: Sequence[str]) -> list[str]:
        """A log goes with its folder."""
        return []


class DeltaHandle:
    """A folder with or without a log."""

    def __init__(self, table: LakeTable) -> None:
        self.table, self._options = table, _options(table.uri)
        self._delta = self._opened()

    @property
    def version(self) -> str | None:
        """The table's id and version."""
        return f"{self._delta.metadata().id} {self._delta.version()}" if self._delta else None

    @property
    def name(self) -> str:
        """The folder, as the output was addressed."""
        return f"{self.table.output.rstrip('/')}/{self.table.folder}"

    @property
    def location(self) -> str:
        """The folder."""
        return self.table.uri

    @property
    def receipt_uri(self) -> str:
        """In the output, apart from the table."""
        return f"{self.table.output.rstrip('/')}/_export/{DeltaFormat.name}/{self.table.folder}.json"

    def names(self) -> set[str]:
        """Files of the newest version."""
        assert self._delta is not None
        return {unquote(path) for path in pa.table(self._delta.get_add_actions())["path"].to_pylist()}

    def apply(self, change: Change) -> str:
        """One commit; one more before it where there are new columns."""
        from deltalake.exceptions import CommitFailedError, DeltaError

        try:
            if self._delta:
                self._commit(self._delta, change)
            else:
                self._create(change)
        except CommitFailedError as error:
            raise Overtaken(label_of(self.table.folder)) from error
        except DeltaError as error:
            raise Problem(f"{self.table.uri}: Delta Lake's library refuses ({_line(error)}); delete its {LOG} and export again") from error
        self._delta = self._opened()
        assert self.version is not None
        return self.version

    def _opened(self) -> "DeltaTable | None":
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError

        if not storage.list_names(f"{self.table.uri}/{LOG}"):
            return None
        try:
            return DeltaTable(self.table.uri, storage_options=self._options)
        except TableNotFoundError:
            return None
        except DeltaError as error:
            raise Problem(f"{self.table.uri}/{LOG}: damaged ({_line(error)}); delete it and export again") from error

    def _create(self, change: Change) -> None:
        from deltalake.transaction import create_table_with_add_actions

        create_table_with_add_actions(
            self.table.uri,
            _schema(change.schema),
            [_added(file) for file in change.added],
            name=label_of(self.table.folder),
            description=ABOUT,
            storage_options=self._options,
            **_quietly(),
        )

    def _commit(self, delta: "DeltaTable", change: Change) -> None:
        from deltalake.transaction import RemoveAction

        self._add_columns(delta, change.schema)
        now_ms = time.time_ns() // 1_000_000
        removed = [RemoveAction(name, True, now_ms) for name in sorted(change.removed)]
        delta.create_write_transaction([*map(_added, change.added), *removed], "append", delta.schema(), **_quietly())

    def _add_columns(self, delta: "DeltaTable", schema: pa.Schema) -> None:
        there, new = {field.name: field for field in delta.schema().fields}, []
        for field in _schema(schema).fields:
            if field.name not in there:
                new.append(field)
            elif there[field.name].type != field.type:
                raise conflict(self.table, field.name, there[field.name].type, field.type, remedy=f"delete {self.table.folder}/{LOG}")
        if new:
            delta.alter.add_columns(new, **_quietly())


def _schema(schema: pa.Schema) -> "Schema":
    from deltalake import Schema

    return Schema.from_arrow(schema)


def _added(file: LakeFile) -> "AddAction":
    from deltalake.transaction import AddAction

    return AddAction(file.name, file.found.size_bytes, {}, time.time_ns() // 1_000_000, True, stats_json(file))


def stats_json(file: LakeFile) -> str:
    """A file's statistics as the log has them; times in milliseconds, the greatest rounded up."""
    bounds = {name: stats.bounds for name, stats in file.stats.items() if stats.bounds}
    return json.dumps(
        {
            "numRecords": file.rows,
            "minValues": {name: _said(low, timedelta()) for name, (low, _) in bounds.items()},
            "maxValues": {name: _said(high, timedelta(microseconds=999)) for name, (_, high) in bounds.items()},
            "nullCount": {name: stats.nulls for name, stats in file.stats.items() if stats.nulls is not None},
        }
    )


def _said(bound: Bound, up: timedelta) -> str | int | float:
    if isinstance(bound, datetime):
        return f"{(bound + up).astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
    return bound.isoformat() if isinstance(bound, date) else bound


def _quietly() -> dict[str, Any]:
    """Neither a second try, which would not know what somebody else did, nor checkpoints, nor a log that loses its tail."""
    from deltalake import CommitProperties, PostCommitHookProperties

    return {
        "commit_properties": CommitProperties(max_commit_retries=0),
        "post_commithook_properties": PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False),
    }


def _options(uri: str) -> dict[str, str] | None:
    """The library's settings for S3; commits are conditional there, as on disk."""
    if not uri.startswith("s3://"):
        return None
    from infra.s3_access import s3_access

    access = s3_access()
    options = {
        "AWS_ENDPOINT_URL": access.endpoint,
        "AWS_REGION": access.region,
        "AWS_ACCESS_KEY_ID": access.key_id,
        "AWS_SECRET_ACCESS_KEY": access.secret,
        "AWS_SESSION_TOKEN": access.token,
        "AWS_ALLOW_HTTP": "true" if access.endpoint and access.endpoint.startswith("http://") else None,
        "AWS_CONDITIONAL_PUT": "etag",
    }
    return {name: value for name, value in options.items() if value}


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
