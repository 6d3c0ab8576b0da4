"""Canaries: a real video on disk and one behind a real HTTP server; whoever opens either is seen by the kernel and by the server.
And an egg that hatches in whoever unpickles it.

Knows Linux's inotify and HTTP; knows nothing of what might open them.
"""

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

IN_ACCESS, IN_OPEN = 0x1, 0x20
LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class Canary:
    """Things that must stay untouched, and who touched them."""

    path: Path  # a video that decodes; its name is also in `folder`, where the process stands
    url: str  # of the same video
    requests: list[str] = field(default_factory=list)
    watches: list[int] = field(default_factory=list)

    def touched(self) -> list[str]:
        """What was opened since the last call."""
        found = [*self.requests, *(f"opened {self.path.name}" for watch in self.watches if _events(watch))]
        self.requests.clear()
        return found


class Egg:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@contextmanager
def canary(video: bytes, *folders: Path) -> Iterator[Canary]:
    """A canary.mp4 in each folder and one on the network."""
    bird = Canary(folders[0] / "canary.mp4", "")
    for folder in folders:
        (folder / "canary.mp4").write_bytes(video)
        bird.watches.append(_watch(folder / "canary.mp4"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(bird.requests, video))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    bird.url = f"http://127.0.0.1:{server.server_port}/canary.mp4"
    try:
        yield bird
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        for watch in bird.watches:
            os.close(watch)


def _handler(requests: list[str], video: bytes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            requests.append(f"{self.command} {self.path}")
            self.send_response(200)
            self.send_header("Content-Type", "video/mp4")
            self.send_header("Content-Length", str(len(video)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(video)

        do_GET = do_HEAD = do_POST = do_PUT = _answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    return Handler


def _watch(path: Path) -> int:
    handle = LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if handle < 0 or LIBC.inotify_add_watch(handle, os.fsencode(path), IN_OPEN | IN_ACCESS) < 0:
        raise OSError(ctypes.get_errno(), "inotify")
    return int(handle)


def _events(watch: int) -> bool:
    try:
        return bool(os.read(watch, 1 << 16))
    except BlockingIOError:
        return False
