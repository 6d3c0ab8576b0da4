"""What `vidmill show` prints of one clip.

Plain data comes in, so `--json` prints the same thing.
"""

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from flows.console import one_line
from tasks.dossier import Dossier, RestoredVideo

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
    for video in found.enhanced:
        yield "enhanced", f"{_model(video.folder)}: {', '.join((_shape(video), *_quality(video)))}, in {video.elapsed_s:.1f} s"
        yield "media", video.uri
    for failure in found.failures:
        tries = "1 try" if failure["attempts"] == 1 else f"{failure['attempts']} tries"
        yield "failure", f"{failure['stage']} {failure['kind']}: {failure['message']} ({tries}, {failure['failed_at']:%Y-%m-%d %H:%M} UTC)"
    for file in found.files:
        yield "file", file


def _shape(video: RestoredVideo) -> str:
    return f"{video.width}x{video.height}, {video.frames} frames, {video.duration_s:.4g} s, {video.codec}, {video.size_bytes:,} bytes"


def _quality(video: RestoredVideo) -> Iterator[str]:
    if video.noise_before is not None and video.noise_after is not None:
        yield f"noise {video.noise_before:.3g} -> {video.noise_after:.3g}"
    if video.flicker_before is not None and video.flicker_after is not None:
        yield f"flicker {video.flicker_before:.3g} -> {video.flicker_after:.3g}"
    if video.psnr_down_db is not None:
        yield f"{video.psnr_down_db:.1f} dB against the input"


def _model(folder: str) -> str:
    """`embeddings/model=m/version=v` as m@v, `enhanced/recipe=r/version=v` as r@v."""
    _, *partitions = folder.split("/")
    return "@".join(part.partition("=")[2] for part in partitions)
