"""One clip on a screen of any width: a line per thing, a stranger's bytes escaped."""

import io
from datetime import UTC, datetime

from rich.console import Console

from flows.show_clip import print_clip
from tasks.dossier import Dossier, EmbeddingSummary, RestoredVideo, TagList

FAILURE = {"stage": "decode", "kind": "TIMEOUT", "message": "300 s\x1b[2J", "attempts": 2, "failed_at": datetime(2026, 1, 2, 3, 4, tzinfo=UTC)}


def shown(found: Dossier) -> list[str]:
    screen = Console(file=io.StringIO(), width=40)
    print_clip(found, screen)
    return screen.file.getvalue().splitlines()


def test_a_clip_with_everything() -> None:
    embedding = EmbeddingSummary("embeddings/model=m/version=e0", 1280, 12.345678, (0.5, -1.25), 10)
    tags = TagList("tags/model=m/version=a0", (("cat", 0.75),))
    measured = {"noise_before": 9.54321, "noise_after": 2.0, "psnr_down_db": 33.21, "flicker_before": None, "flicker_after": None}
    video = RestoredVideo("enhanced/recipe=r/version=b0", "/o/a.mp4", 64, 48, 25.0, 50, 2.0, 12345, "h264", elapsed_s=7.25, **measured)
    found = Dossier("a", ({"clip_id": "a", "fps": None, "width": 64},), (embedding,), (tags,), (video,), (), ("f",))
    assert shown(found) == [
        "clip_id       a",
        "width         64",
        "tags          m@a0: cat 0.750",
        "embedding     m@e0: 1280 numbers, norm 12.35, 10 frames: 0.5, -1.25, ...",
        "enhanced      r@b0: 64x48, 50 frames, 2 s, h264, 12,345 bytes, noise 9.54 -> 2, 33.2 dB against the input, in 7.2 s",
        "media         /o/a.mp4",
        "file          f",
    ]


def test_a_clip_that_failed() -> None:
    assert shown(Dossier("a", (), (), (), (), (FAILURE, {**FAILURE, "attempts": 1}), ())) == [
        "clip_id       a (no row in clips)",
        "failure       decode TIMEOUT: 300 s\\x1b[2J (2 tries, 2026-01-02 03:04 UTC)",
        "failure       decode TIMEOUT: 300 s\\x1b[2J (1 try, 2026-01-02 03:04 UTC)",
    ]
