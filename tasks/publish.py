"""Publication: the fragments of a finished shard become one visible file per feature, each in one atomic step.

    roster (who must be there) + fragments + published rows that still hold
        -> failures/<shard>.parquet, embeddings/.../<shard>.parquet, tags/..., clips/<shard>.parquet last
           media/... before the enhanced/.../<shard>.parquet that names it; what it does not name goes after it
        -> the fragments go

A crash between two files leaves both old and new valid; the next plan sees what is missing. Nothing is published with a hole:
a retry changes the failures last, so that until then they explain what is not there yet.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from infra import storage
from infra.crash_point import CrashPoint, crash_point
from tasks import digest
from tasks.digest import SealedFile
from tasks.feature import SOURCE_STAGES, Feature
from tasks.labels import Labels, add_manifest_columns, manifest_names
from tasks.media import delete_unnamed, listing_digest, media_folder, media_name, publish_media
from tasks.passes import Chosen, choose, passes
from tasks.published import FAILURES_FOLDER, Coverage, Footer, path_of, read_footer, read_rows, rows_elsewhere
from tasks.schema import CLIPS, ENHANCED, FAILURES, RECORD_CLIPS, plain_columns
from tasks.shardwork import (
    RowFile,
    ShardWork,
    attempt_of,
    explains,
    failures_of,
    key_of,
    left_out,
    published_etags,
    published_failures,
    roster_of,
    row_files,
)
from tasks.staging import Roster, Staging
from tasks.stored_rows import DAMAGED, NUMBER


class HoleError(Exception):
    """A clip of the shard is neither a row nor a failure; the shard stays unpublished."""


@dataclass(frozen=True, slots=True)
class PublishContext:
    """What publication needs besides the shard: the same for all shards of a run."""

    output: str
    run_id: str
    corpus: str
    labels: Labels
    labels_etags: Mapping[str, str]  # by shard
    replacements: ShardWork | None
    guard: Callable[[], None] = lambda: None  # called right before anything visible changes; what it raises prevents that


@dataclass(frozen=True, slots=True)
class PublishedShard:
    """What was published of a shard."""

    shard: str
    planned: int
    rows: tuple[tuple[Feature, int], ...]
    failed: tuple[tuple[str, int], ...]  # failures by kind
    written: tuple[str, ...]  # uris
    lost: int = 0  # clips that were published and are not in the shard any more


def publish_shard(context: PublishContext, work: ShardWork) -> PublishedShard:
    """Publish every wanted feature of a finished shard.

    Raises:
        HoleError: a member of the roster has neither row nor failure.
        StorageError: the output cannot be written.
    """
    roster = roster_of(context.output, work)
    if roster is None:
        raise HoleError(f"{work.shard.name}: was not read to its end; run again")
    return _Publication(context, work, roster).run()


class _Publication:
    """One shard on its way out."""

    def __init__(self, context: PublishContext, work: ShardWork, roster: Roster) -> None:
        self.context, self.work = context, work
        self.staging = Staging(context.output, work.shard.name)
        self.members, self.replaced = _overlaid(context, roster)
        self.ignored = roster.ignored
        found = _holding(failures_of(context.output, work) + _overlay_failures(context), self.members)
        self.failures = sorted(found, key=lambda row: str(row["failed_at"]))  # of two tries the later one tells
        earlier = published_failures(context.output, work) if work.retried else []
        self.tried = {attempt_of(row): row for row in earlier if attempt_of(row) in work.retried}
        self.elsewhere: list[set[str]] | None = None  # clips of each feature that is not published now; read where a failure asks for it
        self.failures_uri = path_of(context.output, FAILURES_FOLDER, work.shard.name)

    def run(self) -> PublishedShard:
        chosen = {feature: choose(self._files(feature), self.members) for feature in self.work.features}
        self.clipless = self._clipless(chosen)
        lost = len(published_etags(self.context.output, self.work).keys() - self.members.keys()) if not self.work.unchanged else 0
        self.omitted = {feature: self._omitted(feature, choice) for feature, choice in chosen.items()}
        failures = self._unexplained_removed(chosen)
        crash_point(CrashPoint.COMPLETE)
        steps = [(_edge(feature), partial(self._publish, feature, chosen[feature])) for feature in reversed(self.work.features)]
        failures_last = len(steps) if self.work.retried else 0
        steps.insert(failures_last, (CrashPoint.FAILURES, partial(self._publish_failures, failures, self._rowless(chosen))))
        written = []
        for edge, publish in steps:
            written.append(publish())
            crash_point(edge)
        self.context.guard()
        self.staging.clear((*self.work.features, *self.work.settled))
        crash_point(CrashPoint.CLEARED)
        kinds = Counter(str(failure["kind"]) for failure in failures)
        rows = tuple((feature, len(choice.places)) for feature, choice in chosen.items())
        return PublishedShard(self.work.shard.name, len(self.members), rows, tuple(kinds.items()), tuple(uri for uri in written if uri), lost)

    def _files(self, feature: Feature) -> Iterator[RowFile]:
        yield from row_files(self.context.output, self.work, feature)
        if self.replaced and self.context.replacements:
            yield from row_files(self.context.output, self.context.replacements, feature)

    def _unexplained_removed(self, chosen: Mapping[Feature, Chosen]) -> list[dict[str, object]]:
        """The failures that explain a missing row; every missing row must have one."""
        kept: dict[tuple[str, str], dict[str, object]] = {}
        for feature, choice in chosen.items():
            explained = {key_of(row)[0]: row for row in self.failures if explains(row, feature)}
            for key in self.members.keys() - choice.places.keys() - self.omitted[feature]:
                if key not in explained:
                    raise HoleError(f"{self.work.shard.name}: {key} has neither a row of {feature.label} nor a failure; run again")
                row = explained[key]
                kept[key, str(row["stage"])] = row
        others = [row for row in self.failures if self._explains_another(row, chosen)]
        kept.update({attempt_of(row): row for row in others})
        return [self._counted(kept[key]) for key in sorted(kept)]

    def _omitted(self, feature: Feature, choice: Chosen) -> frozenset[str]:
        """Clips that a selection leaves out and that have no row from before."""
        explained = {key_of(row)[0] for row in self.failures if explains(row, feature)}
        others = {key for key, etag in left_out(self.context.output, self.work, feature) if self.members.get(key) == etag}
        return frozenset(others - choice.places.keys() - explained)

    def _explains_another(self, failure: Mapping[str, object], chosen: Mapping[Feature, object]) -> bool:
        """Whether a table that is not published now needs the failure."""
        if failure["stage"] in SOURCE_STAGES:
            if all(feature.table == "enhanced" for feature in chosen):  # what the other tables were made from is not looked at
                return True
            key = key_of(failure)[0]
            return not any(feature.table == "clips" for feature in chosen) and (key in self.clipless or self._is_lacked(key, chosen))
        return not any(failure["stage"] == feature.model for feature in chosen)

    def _is_lacked(self, key: str, chosen: Mapping[Feature, object]) -> bool:
        """Whether a clip that has a row of `clips` could not be decoded again when another feature came, which still has no row of it."""
        if self.elsewhere is None:
            published = {feature.folder for feature in chosen}
            self.elsewhere = rows_elsewhere(self.context.output, self.work.shard.name, but=published)
        return any(key not in clips for clips in self.elsewhere)

    def _counted(self, failure: dict[str, object]) -> dict[str, object]:
        """A retried failure counts the tries before."""
        before = self.tried.get(attempt_of(failure))
        if before is None or before["run_id"] == failure["run_id"]:
            return failure
        return {**failure, "attempts": int(str(before["attempts"])) + int(str(failure["attempts"]))}

    def _clipless(self, chosen: Mapping[Feature, Chosen]) -> set[str]:
        """Members that `clips` has no row of, once this shard is published."""
        clips = next((choice.places for feature, choice in chosen.items() if feature.table == "clips"), None)
        return self.members.keys() - (published_etags(self.context.output, self.work) if clips is None else clips).keys()

    def _rowless(self, chosen: Mapping[Feature, Chosen]) -> "_Rowless":
        """Folders that get no file of this shard: a table without rows has no vector size to tell."""
        before = read_footer(self.failures_uri) if storage.exists(self.failures_uri) else None
        holds = before and before.source_etag == self.work.shard.etag and before.clipless <= len(self.clipless)
        gone = {feature.folder for feature in chosen}
        others = (*self.work.settled, *self.work.later)
        gone |= {feature.folder for feature in others if not {chose.folder for chose in chosen}.isdisjoint(feature.inputs)}
        empty, begun = (set(before.empty) - gone, set(before.begun) - gone) if before and holds else (set(), set())
        for feature, choice in chosen.items():
            if not choice.places and feature.table != "clips":
                (begun if self.omitted[feature] else empty).add(feature.folder)
        return _Rowless(tuple(sorted(empty)), tuple(sorted(begun)))

    def _publish_failures(self, failures: list[dict[str, object]], rowless: "_Rowless") -> str | None:
        uri = self.failures_uri
        if not failures:
            self._delete(uri)
            return None
        for failure in failures:
            failure["shard"] = self.work.shard.name
        rows = pa.Table.from_pylist(failures, FAILURES)
        footer = replace(self._footer(None, rows=len(failures), failed=len(failures)), empty=rowless.empty, begun=rowless.begun)
        return self._write_unless_same(uri, footer, rows)

    def _write_unless_same(self, uri: str, footer: Footer, rows: pa.Table) -> str | None:
        published = read_rows(uri)
        if published is not None and published.equals(rows) and _same(read_footer(uri), footer):
            return None
        _write(uri, footer, iter([rows]), self.context.guard)
        return uri

    def _delete(self, uri: str) -> None:
        self.context.guard()
        storage.delete(uri)

    def _publish(self, feature: Feature, chosen: Chosen) -> str | None:
        uri = path_of(self.context.output, feature.folder, self.work.shard.name)
        media = self._publish_media(feature, chosen) if feature.table == "enhanced" else {}
        written = self._publish_rows(uri, feature, chosen, listing_digest(media))
        if feature.table == "enhanced":
            crash_point(CrashPoint.NAMED)
            delete_unnamed(media_folder(self.context.output, feature, self.work.shard.name), media, self.context.guard)
        return written

    def _publish_rows(self, uri: str, feature: Feature, chosen: Chosen, media: str) -> str | None:
        rows = len(chosen.places)
        if not rows and feature.table != "clips":
            self._delete(uri)
            return None
        omitted = len(self.omitted[feature])
        footer = replace(self._footer(feature, rows=rows, failed=len(self.members) - rows - omitted), media=media, omitted=omitted)
        published = feature.folder in self.work.reusable and not chosen.fresh and storage.exists(uri)
        if published and _same(read_footer(uri), footer):
            return None
        _write(uri, footer, self._tables(feature, chosen), self.context.guard)
        return uri

    def _publish_media(self, feature: Feature, chosen: Chosen) -> dict[str, int]:
        """Bring the staged files that are chosen to their places; every file that the rows will name, and its size."""
        sizes: dict[str, int] = {}
        staged: dict[str, str] = {}
        for number, file in enumerate(chosen.files):
            for row in file.rows.to_pylist():
                if chosen.places.get(row["clip_id"]) == (number, row[NUMBER]):
                    name = media_name(row["clip_id"])
                    sizes[name] = row["size_bytes"]
                    staged.update({name: row["staged"]} if row.get("staged") else {})
        publish_media(media_folder(self.context.output, feature, self.work.shard.name), staged, self.context.guard)
        return sizes

    def _tables(self, feature: Feature, chosen: Chosen) -> Iterator[pa.Table]:
        try:
            for rows in passes(chosen):
                yield self._finished(feature, rows)
        except DAMAGED as error:
            told = " ".join(str(error).split())
            raise HoleError(
                f"{self.work.shard.name}: a staged file of {feature.label} is damaged ({told}); delete {self.staging.root} and run again"
            ) from error
        if not chosen.places:
            yield self._finished(feature, CLIPS.empty_table())

    def _finished(self, feature: Feature, rows: pa.Table) -> pa.Table:
        shard = pa.array([self.work.shard.name] * rows.num_rows, pa.string())
        rows = rows.set_column(rows.schema.get_field_index("shard"), "shard", shard)
        if feature.table == "enhanced":
            folder = media_folder(self.context.output, feature, self.work.shard.name)
            uris = pa.array([f"{folder}/{media_name(clip_id)}" for clip_id in rows["clip_id"].to_pylist()], pa.string())
            return rows.set_column(rows.schema.get_field_index("uri"), ENHANCED.field("uri"), uris).select(ENHANCED.names)
        if feature.table != "clips":
            return rows.select([name for name in rows.column_names if name != "source_etag"])
        names = dict.fromkeys([*RECORD_CLIPS.names, *manifest_names(self.context.labels.columns)])
        rows = self.context.labels.join(rows.select([name for name in names if name in rows.column_names]))
        return add_manifest_columns(rows, self.work.shard.files, self.context.labels.columns)

    def _footer(self, feature: Feature | None, *, rows: int, failed: int) -> Footer:
        """What a file vouches for; None is the failures' file. Labels and coverage are matters of `clips` alone."""
        described = feature is not None and feature.table == "clips"
        coverage = Coverage(self.context.labels.matched(list(self.members)), self.replaced, self.ignored)
        return Footer(
            corpus=self.context.corpus,
            model=(feature and feature.model) or "",
            version=feature.version if feature else "",
            source_etag=self.work.shard.etag,
            labels_etag=self.context.labels_etags.get(self.work.shard.name, "") if described else "",
            run_id=self.context.run_id,
            planned=len(self.members),
            failed=failed,
            rows=rows,
            clipless=len(self.clipless),
            inputless=self._inputless(feature) if feature else 0,
            coverage=coverage if described else Coverage(),
        )

    def _inputless(self, feature: Feature) -> int:
        found = (path_of(self.context.output, folder, self.work.shard.name) for folder in feature.inputs)
        return sum(read_footer(uri).lacking if storage.exists(uri) else len(self.members) for uri in found)


@dataclass(frozen=True, slots=True)
class _Rowless:
    """Folders without a file of the shard: because no clip gave a row, or none of those that a selection took."""

    empty: tuple[str, ...]
    begun: tuple[str, ...]


def _edge(feature: Feature) -> CrashPoint:
    return CrashPoint.CLIPS if feature.table == "clips" else CrashPoint.FEATURE


def _overlaid(context: PublishContext, roster: Roster) -> tuple[dict[str, str], int]:
    """The roster with replaced members pointing at their replacement, and how many are."""
    overlay = context.replacements and roster_of(context.output, context.replacements)
    if not overlay:
        return roster.members, 0
    replaced = {key: etag for key, etag in overlay.members.items() if key in roster.members}
    return {**roster.members, **replaced}, len(replaced)


def _overlay_failures(context: PublishContext) -> list[dict[str, object]]:
    return failures_of(context.output, context.replacements) if context.replacements else []


def _holding(failures: list[dict[str, object]], members: Mapping[str, str]) -> list[dict[str, object]]:
    return [row for row in failures if members.get(key_of(row)[0]) == key_of(row)[1]]


def _same(published: Footer, wanted: Footer) -> bool:
    """Whether a published file vouches for what would be written; who wrote it does not matter."""
    return replace(published, run_id="") == replace(wanted, run_id="")


def _write(uri: str, footer: Footer, tables: Iterator[pa.Table], guard: Callable[[], None]) -> None:
    def write(file: BinaryIO) -> None:
        first = next(tables)
        schema = first.schema.with_metadata(footer.metadata())
        sealed = SealedFile(file)
        plain = plain_columns(schema)
        with pq.ParquetWriter(sealed, schema, compression="zstd", use_dictionary=plain, write_statistics=plain) as writer:
            writer.write_table(first.replace_schema_metadata(schema.metadata))
            for table in tables:
                writer.write_table(table.cast(first.schema).replace_schema_metadata(schema.metadata))
            writer.add_key_value_metadata({digest.KEY: digest.PENDING})
            sealed.hold()
        sealed.seal()
        guard()

    storage.publish(uri, write)
