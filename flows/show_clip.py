"""What `vidmill show` prints of one clip.

Plain data comes in, so `--json` prints the same thing.
"""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.console import one_line
from tasks.dossier import Dossier


def print_clip(found: Dossier, console: Console) -> None:
    """One line per thing that is known."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _lines(found):
        table.add_row(Text(one_line(name)), Text(one_line(value)))
    console.print(table)


def _lines(found: Dossier) -> Iterator[tuple[str, str]]:
    for row in found.clips:
        yield from ((name, str(value)) for name, value in row.items() if value is not None)
    if not found.clips:
        yield "clip_id", f"{found.clip_id} (no row in clips)"
    for tags in found.tags:
        yield tags.folder, ", ".join(f"{label} {score:.3f}" for label, score in tags.tags)
    for embedding in found.embeddings:
        first = ", ".join(f"{value:.4g}" for value in embedding.first)
        yield embedding.folder, f"{embedding.size} numbers of {embedding.frames} frames, norm {embedding.norm:.4g}: {first}, ..."
    for failure in found.failures:
        tries = "1 try" if failure["attempts"] == 1 else f"{failure['attempts']} tries"
        yield "failure", f"{failure['stage']} {failure['kind']}: {failure['message']} ({tries}, {failure['failed_at']:%Y-%m-%d %H:%M} UTC)"
    for file in found.files:
        yield "file", file
