"""What `vidmill show` prints of one clip.

Plain data comes in, so `--json` prints the same thing.
"""

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from flows.console import one_line
from tasks.dossier import Dossier

NAME_COLUMNS = 14


def print_clip(found: Dossier, console: Console) -> None:
    """One line per thing that is known."""
    for name, value in _lines(found):
        console.print(Text(f"{one_line(name):<{NAME_COLUMNS}}{one_line(value)}"), soft_wrap=True)


def _lines(found: Dossier) -> Iterator[tuple[str, str]]:
    for row in found.clips:
        yield from ((name, str(value)) for name, value in row.items() if value is not None)
    if not found.clips:
        yield "clip_id", f"{found.clip_id} (no row in clips)"
    for tags in found.tags:
        yield "tags", f"{_model(tags.folder)}: {', '.join(f'{label} {score:.3f}' for label, score in tags.tags)}"
    for embedding in found.embeddings:
        first = ", ".join(f"{value:.4g}" for value in embedding.first)
        more = ", ..." if embedding.size > len(embedding.first) else ""
        yield (
            "embedding",
            f"{_model(embedding.folder)}: {embedding.size} numbers, norm {embedding.norm:.4g}, {embedding.frames} frames: {first}{more}",
        )
    for failure in found.failures:
        tries = "1 try" if failure["attempts"] == 1 else f"{failure['attempts']} tries"
        yield "failure", f"{failure['stage']} {failure['kind']}: {failure['message']} ({tries}, {failure['failed_at']:%Y-%m-%d %H:%M} UTC)"
    for file in found.files:
        yield "file", file


def _model(folder: str) -> str:
    """`embeddings/model=m/version=v` as m@v."""
    _, model, version = folder.split("/")
    return f"{model.removeprefix('model=')}@{version.removeprefix('version=')}"
