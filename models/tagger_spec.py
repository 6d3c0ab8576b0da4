"""What a trained tagger is to a run: where its file lies, which embeddings it reads, what a version of it means.

Knows specs and weights; torch only while it reads a file's header.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infra.problem import Problem
from models import weights
from models.prediction import ModelError

if TYPE_CHECKING:
    from infra.settings import UserModel

TAGGING = 1  # raised by hand whenever the tagger's code, or how frames are joined for it, gives other scores for the same weights
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


@dataclass(frozen=True, slots=True)
class TaggerSpec:
    """One trained tagger, by name; complete in itself, so it can travel to any node."""

    name: str
    weights: str  # file:, s3:, https:
    sha256: str  # of the file, which holds shape and labels too
    inputs: tuple[str, ...]  # models whose embeddings it reads

    def digest(self) -> str:
        """Sha256, 64 hex digits, of all of its own that can change its scores: weights, shape, labels, `TAGGING`."""
        return hashlib.sha256(json.dumps([TAGGING, self.sha256]).encode()).hexdigest()


def tagger_spec(entry: "UserModel") -> TaggerSpec:
    """The tagger of one entry of `models`; one that lies elsewhere is fetched, for its own header says what it reads.

    Raises:
        Problem: it is not there, of another digest, or no tagger.
    """
    assert entry.tagger is not None
    uri = weights.absolute(tagger_address(entry.tagger))
    sha256 = entry.sha256 or _sha256(entry.name, uri)
    path = weights.fetch(uri, sha256)
    return TaggerSpec(entry.name, uri, sha256, _inputs(entry.name, path))


def tagger_address(tagger: str) -> str:
    """As an address, also where a path was given."""
    return tagger if ADDRESS.match(tagger) else f"file:{tagger}"


def _sha256(name: str, uri: str) -> str:
    if not uri.startswith("file:"):
        raise Problem(f"models: {name}: tagger {uri} is fetched, but no sha256 is given; set it to what sha256sum prints for the file")
    return weights.digest_of(uri)


def _inputs(name: str, path: Path) -> tuple[str, ...]:
    from models.tagger import read_shape  # torch, which only a run with a tagger need load

    try:
        return tuple(source.model for source in read_shape(path).inputs)
    except ModelError as error:
        raise Problem(f"models: {name}: {error}") from error
