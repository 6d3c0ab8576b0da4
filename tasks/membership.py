"""Which shard a loose video belongs to, once and for all: read from what is published, or from an unfinished run's note.

    published clips and failures    the truth
    OUT/_wip/shards.json            videos of shards that are not published yet; without it they are grouped anew

Knows storage and the tables; lists no source.
"""

import json
from collections.abc import Iterator

from infra import storage
from tasks.published import FAILURES_FOLDER, known_files
from tasks.source import Corpus, Membership
from tasks.staging import wip


def read_members(output: str, root: str, *, corpus: str) -> dict[str, Membership]:
    """Shard and etag of every video that has one, by name relative to the source's root.

    Args:
        output: what is published there is believed.
        root: of the source.
        corpus: its identity; a note of another one is not heeded, so an unfinished run on a wrong source leaves no trace.
    """
    found = _noted(output, corpus)
    for folder in (FAILURES_FOLDER, "clips"):
        for member in _published(output, folder):
            found[storage.relative(member.uri, root)] = member
    return found


def note_members(output: str, corpus: Corpus) -> None:
    """Write down who belongs where before work starts, so that a killed run continues with the same shards."""
    members = {file.name: {"shard": shard.name, "uri": file.uri, "etag": file.etag} for shard in corpus.shards for file in shard.files}
    storage.write_bytes(_note(output), json.dumps({"corpus": corpus.identity, "members": members}).encode())


def _published(output: str, folder: str) -> Iterator[Membership]:
    for shard, known in known_files(output, folder).items():
        yield from (Membership(shard, uri, etag, rows if folder == "clips" else 0) for uri, etag, rows in known.videos)


def _noted(output: str, corpus: str) -> dict[str, Membership]:
    try:
        noted = json.loads(storage.read_bytes(_note(output)))
    except (storage.NotFound, ValueError):
        return {}
    return {name: Membership(**member, published=False) for name, member in noted["members"].items()} if noted["corpus"] == corpus else {}


def _note(output: str) -> str:
    return f"{wip(output)}/shards.json"
