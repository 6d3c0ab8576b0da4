"""What a training learns, from what: written into its output before it begins, so that nobody goes on with something else.

Knows that there are recipes and files, nothing of what is in them.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from infra import storage
from infra.problem import Problem

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

R = TypeVar("R", bound="DataclassInstance")


@dataclass(frozen=True, slots=True)
class Manifest(Generic[R]):
    """Everything that the weights follow from."""

    recipe: R
    corpus: str  # digest of what is learned from and what judges
    held_out: float
    start: str | None  # what it began with
    version: int  # of the code that learns
    files: tuple[tuple[str, str, str], ...] = ()  # address, etag, content: what need not be read again

    @classmethod
    def read(cls, uri: str, recipe_in: Callable[[dict[str, Any]], R]) -> "Manifest[R] | None":
        """Of a training that began; None where none did.

        Args:
            recipe_in: makes a recipe out of its fields.

        Raises:
            Problem: there is something else.
        """
        try:
            found: dict[str, Any] = json.loads(storage.read_bytes(uri))
            recipe = recipe_in(found["recipe"])
            files = tuple((address, etag, content) for address, etag, content in found["files"])
            return cls(recipe, found["corpus"], found["held_out"], found["start"], found["version"], files)
        except storage.NotFound:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise Problem(f"{uri}: is no manifest of a training; remove it, or name another --output") from error

    def encoded(self) -> bytes:
        """As `read` takes it."""
        return (json.dumps(self._said() | {"files": self.files}, indent=1) + "\n").encode()

    @property
    def digest(self) -> str:
        """Hex SHA-256 of all but the addresses."""
        return hashlib.sha256(json.dumps(self._said(), sort_keys=True).encode()).hexdigest()

    def contents(self) -> Mapping[tuple[str, str], str]:
        """Contents of files by address and etag."""
        return {(address, etag): content for address, etag, content in self.files}

    def difference(self, other: "Manifest[R]") -> str | None:
        """What the training here has and the other has not, in words."""
        mine, others = self._flat(), other._flat()
        name = next((name for name, value in mine.items() if value != others[name]), None)
        match name:
            case None:
                return None
            case "corpus":
                return "other files in its corpus"
            case "version":
                return f"another version of the code ({self.version}, now {other.version})"
        return f"{name.replace('_', '-')} {mine[name] or 'none'} (asked for: {others[name] or 'none'})"

    def _said(self) -> dict[str, Any]:
        return {"recipe": asdict(self.recipe), "corpus": self.corpus, "held_out": self.held_out, "start": self.start, "version": self.version}

    def _flat(self) -> dict[str, Any]:
        said = self._said()
        return {**said.pop("recipe"), **{"held_out": said["held_out"], "start": said["start"], "version": said["version"], "corpus": said["corpus"]}}
