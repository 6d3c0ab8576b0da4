"""The files of a training corpus: listed, told apart by content, split into those that are learned from and those that judge.

Nothing depends on where the files lie: their order, the split and the corpus's digest follow from names and contents. Knows storage, opens
no media.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from infra import storage
from infra.problem import Problem
from infra.storage import ObjectInfo
from tasks.footage import is_photograph
from tasks.source import is_video

MOST_HASHED_BYTES = 256 << 30  # of a corpus; a larger one is told apart by the store's etags
READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Material:
    """One photograph or video."""

    name: str  # last part of the address
    content: str  # SHA-256, or `etag:` and the store's word
    found: ObjectInfo


@dataclass(frozen=True, slots=True)
class Split:
    """The files that are learned from, and those that judge."""

    learned: tuple[Material, ...]
    held_out: tuple[Material, ...]

    @property
    def digest(self) -> str:
        """Hex SHA-256 of every file's name, content and side of the split."""
        lines = [f"{side}\0{file.name}\0{file.content}" for side in ("learned", "held_out") for file in getattr(self, side)]
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    @property
    def listed(self) -> tuple[tuple[str, str, str], ...]:
        """Address, etag and content of every file."""
        return tuple((file.found.uri, file.found.etag, file.content) for file in (*self.learned, *self.held_out))


def material_of(corpus: Sequence[str], known: Mapping[tuple[str, str], str]) -> tuple[Material, ...]:
    """Photographs and videos of folders (at any depth), globs, files and s3:// prefixes, each content once, in the order of names and contents.

    Args:
        known: contents found earlier, by address and etag.

    Raises:
        Problem: there is none, or an address leads nowhere.
    """
    listed = {found.uri: found for uri in corpus for found in storage.list_objects(uri)}
    kept = [found for uri, found in listed.items() if is_photograph(uri) or is_video(uri)]
    if not kept:
        raise Problem(f"corpus {', '.join(corpus)}: no photograph or video in it; name a folder that has some")
    by_content = sum(found.size_bytes for found in kept) <= MOST_HASHED_BYTES
    files = (Material(PurePosixPath(found.uri).name, _content(found, known) if by_content else f"etag:{found.etag}", found) for found in kept)
    once: dict[str, Material] = {}
    for file in sorted(files, key=lambda file: (file.name, file.content, file.found.uri)):
        once.setdefault(file.content, file)
    return tuple(once.values())


def split_of(files: Sequence[Material], share: float) -> Split:
    """Held out are those whose name's digest lies in the first `share` of all digests, so a file's side does not change with the others.

    One is taken where that leaves none, and one is left to learn from where that takes all.

    Raises:
        Problem: there is only one file.
    """
    if len(files) < 2:
        raise Problem(f"corpus: {files[0].found.uri} is all there is; add a second file, for one is kept back to judge the result by")
    places = sorted(_place(file) for file in files)
    count = min(max(sum(place[0] < share for place in places), 1), len(files) - 1)
    judging = set(places[:count])
    return Split(
        tuple(file for file in files if _place(file) not in judging),
        tuple(file for file in files if _place(file) in judging),
    )


def _place(file: Material) -> tuple[float, str]:
    """Where a file's name falls between 0 and 1, and what tells it from others of that name."""
    digest = hashlib.sha256(file.name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:6]) / 2**48, file.content


def _content(found: ObjectInfo, known: Mapping[tuple[str, str], str]) -> str:
    return known.get((found.uri, found.etag)) or _sha256(found)


def _sha256(found: ObjectInfo) -> str:
    digest = hashlib.sha256()
    with storage.open_stream(found) as opened:
        while data := opened.read(READ_BYTES):
            digest.update(data)
    return digest.hexdigest()
