"""What a corpus consists of: `source` settings in, shards out. Lists and stats; opens no media.

    kinetics, webdataset    one archive          -> one shard, named after it
    youtube8m               one TFRecord file    -> one shard, named after it
    files, manifest         N loose videos       -> one numbered shard; a video never changes its shard

Knows storage listings and settings, nothing of what is inside a video or already published.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from infra import storage
from infra.problem import Problem
from infra.settings import Deleted, RunConfig, SourceConfig, SourceKind
from tasks import manifest
from tasks.clip import FailureKind
from tasks.manifest import Refusal
from tasks.roots import Roots, roots_of

ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar")
RECORD_SUFFIXES = (".tfrecord.gz", ".tfrecord")
VIDEO_SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".ts", ".m2ts", ".mts", ".ogv", ".ogg", ".flv", ".wmv", ".asf")
)
LOOSE = (SourceKind.FILES, SourceKind.MANIFEST)
NUMBERED = "shard-"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One object of the source: an archive or a loose video."""

    name: str  # relative to the source's root; names the clips of a loose video
    uri: str
    etag: str  # empty: the manifest names it and it is not there
    size_bytes: int
    columns: tuple[tuple[str, object], ...] = ()  # the manifest's other columns
    refused: Refusal | None = None  # it is listed and may not be opened


@dataclass(frozen=True, slots=True)
class Shard:
    """The unit of work and of publication: one file per feature."""

    name: str
    files: tuple[SourceFile, ...]
    etag: str  # changes when anything that the shard is made of changes

    @property
    def size_bytes(self) -> int:
        """Bytes of all files of the shard."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True, slots=True)
class Corpus:
    """Everything `source` names."""

    identity: str  # kind and root: two corpora never share an output
    shards: tuple[Shard, ...]
    annotations: SourceFile | None
    replacements: Shard | None
    vocabulary: SourceFile | None = None
    deleted: tuple["Membership", ...] = ()  # published loose videos that are listed no more


@dataclass(frozen=True, slots=True)
class Membership:
    """A loose video's shard and the etag its published rows were made from."""

    shard: str
    uri: str
    etag: str
    clips: int = field(default=0, compare=False)  # rows of `clips`
    published: bool = field(default=True, compare=False)  # else only noted by a run that did not come to its end


def list_corpus(config: RunConfig, members: Mapping[str, Membership]) -> Corpus:
    """List the source.

    Args:
        config: the run.
        members: for loose videos, by name, the shards they already belong to.

    Raises:
        Problem: nothing there, nothing that fits, or two archives of one name.
    """
    source = config.source
    identity = identity_of(source)
    if source.kind in LOOSE:
        files = _loose_files(source)
        listed = {file.name for file in files}
        deleted = {name: member for name, member in members.items() if name not in listed}
        gone = tuple(member for member in deleted.values() if member.published)
        forgotten = {name for name, member in deleted.items() if source.deleted is Deleted.DROP or not member.published}
        return Corpus(identity, _loose_shards(files, members, source.shard_files, forgotten), None, None, deleted=gone)
    replacements = _single(source.replacements, "source.replacements")
    annotations = _single(source.annotations, "source.annotations")
    overlay = Shard(f"_{shard_name(replacements.name)}", (replacements,), replacements.etag) if replacements else None  # no shard begins with `_`
    return Corpus(identity, _archive_shards(source, replacements), annotations, overlay, _single(source.vocabulary, "source.vocabulary"))


def identity_of(source: SourceConfig) -> str:
    """Kind and root of the corpus."""
    return f"{source.kind} {storage.root_of(source.uri)}"


def shard_name(name: str) -> str:
    """Name of an archive's shard: its path without suffix; readers skip names that begin with `_` or `.`."""
    for suffix in (*ARCHIVE_SUFFIXES, *RECORD_SUFFIXES):
        name = name.removesuffix(suffix)
    flat = name.replace("/", "--")
    return f"shard{flat}" if not flat or flat.startswith(("_", ".")) else flat


def is_video(name: str) -> bool:
    """Whether the suffix is one of a video container."""
    return PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES


def digest_of(parts: Iterable[str]) -> str:
    """16 hex digits of the SHA-256 over `parts`."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _archive_shards(source: SourceConfig, replacements: SourceFile | None) -> tuple[Shard, ...]:
    files = [file for file in _found(source) if replacements is None or file.uri != replacements.uri]
    if [file.uri for file in files] != [storage.normal(source.uri)]:
        suffixes = RECORD_SUFFIXES if source.kind is SourceKind.YOUTUBE8M else ARCHIVE_SUFFIXES
        fitting = [file for file in files if file.name.endswith(suffixes)]
        files = fitting if fitting else _nothing_fits(source, files, f"shard ({', '.join(reversed(suffixes))})")
    if misnamed := [file for file in files if not _is_text(file.name)]:
        raise Problem(f"source.uri {source.uri}: the name of {misnamed[0].name!a} is not UTF-8; rename it")
    named = Counter(shard_name(file.name) for file in files)
    for name, times in named.items():
        if times > 1:
            raise Problem(f"source.uri {source.uri}: {times} archives would give the shard {name!r}; name only one of them")
    overlay = () if replacements is None else (replacements.etag,)
    return tuple(Shard(shard_name(file.name), (file,), digest_of([file.etag, *overlay])) for file in files)


def _loose_files(source: SourceConfig) -> list[SourceFile]:
    roots = roots_of(source)
    if source.kind is SourceKind.MANIFEST:
        return [SourceFile(row.name, row.uri, row.etag, row.size_bytes, row.columns, row.refused) for row in manifest.read(source.uri, roots)]
    found = _found(source)
    videos = [_judged(file, roots) for file in found if is_video(file.name)]
    return videos if videos else _nothing_fits(source, found, "video (.mp4, .mkv, .webm, .mov, .avi, ...)")


def _judged(file: SourceFile, roots: Roots) -> SourceFile:
    """A video with the reason not to open it, if there is one; a name that is no text gets a spelling that is."""
    if not _is_text(file.uri):
        name, uri = (part.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for part in (file.name, file.uri))
        return SourceFile(name, uri, file.etag, file.size_bytes, refused=(FailureKind.BAD_NAME, "its name is not UTF-8; rename it"))
    reason = roots.refusal(file.uri)
    return replace(file, refused=(FailureKind.BAD_RECORD, reason)) if reason else file


def _is_text(name: str) -> bool:
    """Disks hold names of any bytes; Python gives those that are no UTF-8 as lone surrogates, which no table can hold."""
    return not any("\ud800" <= char <= "\udfff" for char in name)


def _found(source: SourceConfig) -> list[SourceFile]:
    root = storage.root_of(source.uri)
    objects = storage.list_objects(source.uri, recursive=source.recursive)
    if not objects:
        raise Problem(f"source.uri {source.uri}: nothing matches; check the path and the pattern (it is listed from {root})")
    return [SourceFile(storage.relative(found.uri, root), found.uri, found.etag, found.size_bytes) for found in objects]


def _nothing_fits(source: SourceConfig, found: list[SourceFile], wanted: str) -> list[SourceFile]:
    examples = ", ".join(file.name for file in found[:3])
    raise Problem(
        f"source.uri {source.uri}: none of {len(found)} objects is a {wanted} (there is {examples}); "
        f"check source.uri, or source.kind, which is {source.kind}"
    )


def _single(uri: str | None, field: str) -> SourceFile | None:
    if uri is None:
        return None
    objects = storage.list_objects(uri)
    if len(objects) != 1:
        raise Problem(f"{field} {uri}: {'not found' if not objects else 'names several objects'}; it must name one file")
    found = objects[0]
    return SourceFile(PurePosixPath(found.uri).name, found.uri, found.etag, found.size_bytes)


def _loose_shards(
    files: list[SourceFile], members: Mapping[str, Membership], shard_files: int, forgotten: Set[str] = frozenset()
) -> tuple[Shard, ...]:
    """Known videos stay in their shard, also when they were deleted since, but for those that are to be forgotten; new ones fill new shards."""
    listed = {file.name: file for file in files}
    shards: dict[str, list[SourceFile]] = {}
    for name, member in members.items():
        if name not in forgotten:
            kept = listed.pop(name, None) or SourceFile(name, member.uri, member.etag, 0)
            shards.setdefault(member.shard, []).append(kept)
    numbers = (member.shard.removeprefix(NUMBERED) for member in members.values())
    first = 1 + max((int(number) for number in numbers if number.isdecimal()), default=-1)
    fresh = sorted(listed.values(), key=lambda file: file.name)
    for index in range(0, len(fresh), shard_files):
        shards[f"{NUMBERED}{first + index // shard_files:05d}"] = fresh[index : index + shard_files]
    return tuple(_loose_shard(name, shards[name]) for name in sorted(shards))


def _loose_shard(name: str, files: list[SourceFile]) -> Shard:
    ordered = sorted(files, key=lambda file: file.name)
    return Shard(name, tuple(ordered), digest_of(part for file in ordered for part in (file.name, file.etag)))


def without_columns(shard: Shard) -> Shard:
    """The shard without the manifest's other columns, which only publication needs."""
    return replace(shard, files=tuple(replace(file, columns=()) for file in shard.files))
