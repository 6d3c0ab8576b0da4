"""What the source lists no more and the output still holds: counted, or dropped where `source.deleted` says so.

    archive or TFRecord file gone      its shard is in no listing: all its files go
    loose video gone                   its rows go when its shard is published without it; a shard without any video goes whole
    clip gone from a changed archive   goes with the publication of the changed archive, whatever `source.deleted` says

Files go in an order that may end anywhere: tables, media after the table that names them, what is staged, `clips` last, by which the next run
finds the shard again. Knows the layout of an output; lists no source.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from infra import storage
from infra.crash_point import CrashPoint, crash_point
from infra.problem import Problem
from infra.settings import Deleted, RunConfig
from tasks.feature import MAKER
from tasks.media import MEDIA_FOLDER
from tasks.published import FAILURES_FOLDER, Footer, path_of, shards_in
from tasks.source import LOOSE, Corpus
from tasks.staging import Staging, staged_shards

DROP_THREADS = 8


@dataclass(frozen=True, slots=True)
class DeletedInputs:
    """What the source has no more, in numbers."""

    kept: int = 0  # archives, TFRecord files or loose videos whose rows stay
    kept_clips: int = 0  # their rows of `clips`
    dropped: int = 0  # the same whose rows go
    dropped_clips: int = 0
    lost_clips: int = 0  # that archives changed meanwhile had, and have no more; their rows went


def deleted_inputs(config: RunConfig, corpus: Corpus, clips: Mapping[str, Footer]) -> DeletedInputs:
    """Count what is gone.

    Args:
        config: of the run.
        corpus: as it is listed.
        clips: footers of the published clips, by shard.

    Raises:
        Problem: more would be dropped than `limits.max_deleted` allows.
    """
    if config.source.kind in LOOSE:
        gone, rows = len(corpus.deleted), sum(member.clips for member in corpus.deleted)
        known = gone + sum(len(shard.files) for shard in corpus.shards if shard.name in clips)
    else:
        names = clips.keys() - {shard.name for shard in corpus.shards}
        gone, rows, known = len(names), sum(clips[name].rows for name in names), len(clips)
    if config.source.deleted is Deleted.KEEP:
        return DeletedInputs(kept=gone, kept_clips=rows)
    if gone > config.limits.max_deleted * known:
        what, most = ("videos" if config.source.kind in LOOSE else "archives"), config.limits.max_deleted
        raise Problem(
            f"source.uri {config.source.uri}: {gone:,} of {known:,} published {what} are not there any more, and limits.max_deleted lets a run drop "
            f"{most:.0%} of them; check the source, or allow it with --limits.max-deleted 1"
        )
    return DeletedInputs(dropped=gone, dropped_clips=rows)


def shards_to_drop(config: RunConfig, corpus: Corpus) -> tuple[str, ...]:
    """Shards of which the output holds anything and the source nothing; none where deleted inputs are kept."""
    if config.source.deleted is Deleted.KEEP:
        return ()
    held = {shard for _, there in _places(config.output) for shard in there}
    return tuple(sorted(held - {shard.name for shard in corpus.shards}))


def drop_shards(output: str, shards: Iterable[str], guard: Callable[[], None]) -> None:
    """Delete everything that an output holds of some shards.

    Args:
        output: whose lease is held.
        shards: of no listing.
        guard: called right before anything is deleted; what it raises prevents that.
    """
    places = _places(output)

    def drop(shard: str) -> None:
        for delete, there in places:
            if shard in there:
                guard()
                delete(shard)
                crash_point(CrashPoint.DROPPED)

    with ThreadPoolExecutor(DROP_THREADS) as pool:
        list(pool.map(drop, shards))


def _places(output: str) -> list[tuple[Callable[[str], None], Set[str]]]:
    """How each thing that belongs to a shard is deleted, and which shards have it; in the order of deletion."""

    def table(folder: str) -> tuple[Callable[[str], None], Set[str]]:
        return lambda shard: storage.delete(path_of(output, folder, shard)), shards_in(output, folder)

    def media(folder: str) -> tuple[Callable[[str], None], Set[str]]:
        return lambda shard: storage.delete_tree(f"{folder}/{shard}"), set(storage.list_folders(folder))

    root = output.rstrip("/")
    staged = {shard for shard in staged_shards(output) if not shard.startswith("_")}  # an archive of replacements is no shard
    return [
        *(table(folder) for folder in (FAILURES_FOLDER, *(f"{name}/{part}" for name in MAKER for part in _versions(f"{root}/{name}")))),
        *(media(f"{root}/{MEDIA_FOLDER}/{part}") for part in _versions(f"{root}/{MEDIA_FOLDER}")),
        (lambda shard: storage.delete_tree(Staging(output, shard).root), staged),
        table("clips"),
    ]


def _versions(table: str) -> Iterator[str]:
    """`model=<name>/version=<v>` of everything in a table's folder."""
    for maker in storage.list_folders(table):
        yield from (f"{maker}/{version}" for version in storage.list_folders(f"{table}/{maker}"))
