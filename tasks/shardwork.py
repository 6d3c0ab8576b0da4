"""What is left to do for one shard, and what earlier runs already have of it.

    known   = clips that every wanted feature has: published rows that still hold, or fragments
    roster  = every member of the shard, once it was read to its end

Memory is proportional to one shard's clip ids, never to its media.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from tasks.choice import columns_of, meets_any
from tasks.feature import SOURCE_STAGES, Feature, maker_in
from tasks.media import media_folder, media_name, with_media
from tasks.published import FAILURES_FOLDER, path_of, published_rows, read_footer, read_rows
from tasks.schema import CLIPS
from tasks.select import Selector
from tasks.source import Shard
from tasks.staging import Roster, Staging
from tasks.stored_rows import StoredRows

Key = tuple[str, str]  # (clip_id, or member where none could be formed; source_etag)
Attempt = tuple[str, str]  # (clip_id or member, stage) of a failure


@dataclass(frozen=True, slots=True)
class ShardWork:
    """One shard with work to do."""

    shard: Shard
    features: tuple[Feature, ...]  # to be published
    reusable: frozenset[str]  # folders whose published rows hold, clip by clip, by source_etag
    listed: bool  # the published clips and failures list every member of the shard as it was then
    unchanged: bool  # and it still is as it was
    overlay: bool = False  # an archive of replacements: staged for other shards, not published itself
    try_id: str = ""  # who works on it; see `Staging`
    retried: frozenset[Attempt] = frozenset()  # published failures that are to be tried again
    settled: tuple[Feature, ...] = ()  # that need nothing, nor what is staged of them
    later: tuple[Feature, ...] = ()  # that are for another part of the run
    chosen: tuple[tuple[Feature, tuple[Selector, ...]], ...] = ()  # features of which a backfill takes only clips that meet any of these

    def wants(self, feature: Feature) -> bool:
        """Whether the feature is to be published."""
        return feature in self.features


@dataclass(frozen=True, slots=True)
class RowFile:
    """Rows of one feature, published or staged: which clips, and where they are loaded from."""

    stored: StoredRows
    rows: pa.Table  # those that hold: clip_id, source_etag, NUMBER; of restored videos also size_bytes, and staged, the address of a staged file

    @property
    def keys(self) -> tuple[Key, ...]:
        """The clips, row by row."""
        return tuple(zip(self.rows["clip_id"].to_pylist(), self.rows["source_etag"].to_pylist(), strict=True))


def published_clips(output: str, work: ShardWork, columns: tuple[str, ...] | None = None) -> pa.Table:
    """The shard's published clips, if their layout still holds; else no rows."""
    rows = read_rows(path_of(output, "clips", work.shard.name), columns) if "clips" in work.reusable else None
    return CLIPS.empty_table() if rows is None else rows


def published_failures(output: str, work: ShardWork) -> list[dict[str, object]]:
    """The shard's published failures that still hold, as rows of the failures table.

    Those of models that are not asked for explain what other features lack; those of models computed anew are found again.
    """
    rows = read_rows(path_of(output, FAILURES_FOLDER, work.shard.name))
    anew = {feature.model for feature in work.features} - set(map(maker_in, work.reusable))
    ended = anew if "clips" in work.reusable else {*anew, *SOURCE_STAGES}
    return [row for row in rows.to_pylist() if row["stage"] not in ended] if rows is not None else []


def row_files(output: str, work: ShardWork, feature: Feature) -> Iterator[RowFile]:
    """Every file that holds rows of a feature for the shard: the published one first, then fragments. Rows whose media is gone are none."""
    if published := published_file(output, work, feature):
        yield published
    if feature.table == "enhanced":
        yield from _fragments_with_media(output, work, feature)
        return
    for stored in Staging(output, work.shard.name, work.try_id).files(feature.folder, ("clip_id", "source_etag")):
        yield RowFile(stored, stored.small)


def published_file(output: str, work: ShardWork, feature: Feature) -> RowFile | None:
    """The published rows of a feature, if they hold; as `row_files`."""
    uri = path_of(output, feature.folder, work.shard.name)
    needed = ("clip_id", "source_etag", "size_bytes") if feature.table == "enhanced" else ("clip_id",)
    stored = published_rows(uri, needed) if feature.folder in work.reusable else None
    if stored is None:
        return None
    names = stored.small["clip_id"].to_pylist()
    if feature.table == "enhanced":
        return RowFile(stored, with_media(stored.small, map(media_name, names), media_folder(output, feature, work.shard.name)))
    etags = published_etags(output, work)
    made_from = [etags.get(clip_id, "") for clip_id in names]
    return RowFile(stored, stored.small.append_column("source_etag", pa.array(made_from, pa.string())))


def _fragments_with_media(output: str, work: ShardWork, feature: Feature) -> Iterator[RowFile]:
    staging = Staging(output, work.shard.name, work.try_id)
    for stored in staging.files(feature.folder, ("clip_id", "source_etag", "size_bytes", "staged")):
        rows = stored.small
        rows = with_media(rows, rows["staged"].to_pylist(), staging.media(feature))
        uris = pa.array([f"{staging.media(feature)}/{name}" for name in rows["staged"].to_pylist()], pa.string())
        yield RowFile(stored, rows.set_column(rows.schema.get_field_index("staged"), "staged", uris))


def failures_of(output: str, work: ShardWork) -> list[dict[str, object]]:
    """Failures of the shard, published and staged, as rows of the failures table."""
    staged = Staging(output, work.shard.name, work.try_id).tables(FAILURES_FOLDER)
    return [*published_failures(output, work), *(row for table in staged for row in table.to_pylist())]


def key_of(failure: Mapping[str, object]) -> Key:
    """The clip or member that failed."""
    return str(failure["clip_id"] or failure["member"]), str(failure["source_etag"])


def attempt_of(failure: Mapping[str, object]) -> Attempt:
    """What was tried, and did not succeed."""
    return str(failure["clip_id"] or failure["member"]), str(failure["stage"])


def explains(failure: Mapping[str, object], feature: Feature) -> bool:
    """Whether the failure is why the feature, or what it is made from, has no row for the clip."""
    return failure["stage"] in SOURCE_STAGES or failure["stage"] in feature.makers


def known_keys(output: str, work: ShardWork) -> set[Key]:
    """Clips that need not be computed again: each wanted feature has a row or a failure that explains its absence and is not retried."""
    done = done_keys(output, work).values()
    return set.intersection(*done) if done else set()


def done_keys(output: str, work: ShardWork) -> dict[Feature, set[Key]]:
    """Clips that need not be computed again, by feature."""
    failures = [failure for failure in failures_of(output, work) if attempt_of(failure) not in work.retried]
    done = {}
    for feature in work.features:
        done[feature] = {key for file in row_files(output, work, feature) for key in file.keys}
        done[feature] |= {key_of(failure) for failure in failures if explains(failure, feature)}
        done[feature] |= left_out(output, work, feature)
    return done


def left_out(output: str, work: ShardWork, feature: Feature) -> set[Key]:
    """Published clips that a backfill's selection does not take."""
    chosen = dict(work.chosen).get(feature)
    if chosen is None:
        return set()
    rows = published_clips(output, work, tuple(dict.fromkeys(("clip_id", "source_etag", *columns_of(chosen)))))
    others = rows.filter(pc.invert(meets_any(rows, chosen)))
    return set(zip(others["clip_id"].to_pylist(), others["source_etag"].to_pylist(), strict=True))


def lacks_chosen(output: str, work: ShardWork, feature: Feature) -> bool:
    """Whether some clip that the selection takes has neither a published row of the feature nor a failure that explains its absence."""
    wanted = set(published_etags(output, work).items()) - left_out(output, work, feature)
    if wanted and (found := published_file(output, work, feature)):
        wanted -= set(found.keys)
    return bool(wanted and wanted - {key_of(failure) for failure in published_failures(output, work) if explains(failure, feature)})


def roster_of(output: str, work: ShardWork) -> Roster | None:
    """Every member of the shard, if some run read it to its end in this very state."""
    staged = Staging(output, work.shard.name).read_roster(work.shard.etag)
    if staged is not None:
        return staged
    if not (work.listed and work.unchanged):
        return None
    return _published_roster(output, work)


def _published_roster(output: str, work: ShardWork) -> Roster:
    failed = (key_of(row) for row in published_failures(output, work) if row["stage"] in SOURCE_STAGES)
    footer = read_footer(path_of(output, "clips", work.shard.name))
    return Roster({**published_etags(output, work), **dict(failed)}, footer.coverage.ignored)


def held_etags(output: str, work: ShardWork) -> dict[str, str]:
    """Of members that a retry does not concern: what they were made from, so that other limits than before do not make them new."""
    if not (work.retried and work.listed and work.unchanged):
        return {}
    known = known_keys(output, work)
    return {key: etag for key, etag in _published_roster(output, work).members.items() if (key, etag) in known}


def published_etags(output: str, work: ShardWork) -> dict[str, str]:
    """What each published clip was made from, by clip_id."""
    rows = published_clips(output, work, ("clip_id", "source_etag"))
    return dict(zip(rows["clip_id"].to_pylist(), rows["source_etag"].to_pylist(), strict=True))
