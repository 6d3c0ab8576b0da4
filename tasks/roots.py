"""Where loose videos may lie: a list of videos is a stranger's word, and the machine's other files are none of its business.

    source.allow              the folders and s3:// prefixes it names
    none, a manifest          any s3:// address, and the manifest's own folder on this machine
    none, files               whatever the folder holds, wherever its links lead

Knows addresses and where links lead; opens nothing.
"""

from dataclasses import dataclass

from infra import storage
from infra.problem import Problem
from infra.settings import SourceConfig, SourceKind
from infra.storage import StorageError

ANY_S3 = "s3://"


@dataclass(frozen=True, slots=True)
class Roots:
    """The beginnings that a video's address may have; None for any."""

    allowed: tuple[str, ...] | None

    def refusal(self, uri: str) -> str | None:
        """Why a video at this address, as `storage.normal` writes it, may not be opened; None where it may."""
        if self.allowed is None:
            return None
        real = storage.real(uri)
        if any(_inside(real, root) for root in self.allowed):
            return None
        led = f" (it leads to {real})" if real != uri else ""
        return f"lies outside {' and '.join(self.allowed)}{led}; move it there, or name its folder in source.allow"


def roots_of(source: SourceConfig) -> Roots:
    """Where the videos of a source may lie.

    Raises:
        Problem: `source.allow` names what is no folder or prefix.
    """
    if source.allow:
        return Roots(tuple(_root(entry) for entry in source.allow))
    if source.kind is not SourceKind.MANIFEST:
        return Roots(None)
    own = storage.root_of(source.uri)
    return Roots((ANY_S3,) if own.startswith(ANY_S3) else (ANY_S3, _root(own)))


def _root(entry: str) -> str:
    try:
        return entry if entry == ANY_S3 else storage.real(entry).rstrip("/") + "/"
    except StorageError as error:
        raise Problem(f"source.allow: {error}") from error


def _inside(address: str, root: str) -> bool:
    """S3 takes `..` for a name, and a store on a file system may not: where a prefix counts, it is inside of nothing."""
    return address.startswith(root) and (root == ANY_S3 or not {".", ".."} & set(address.split("/")))
