"""Chromium, and a page in it that plays videos and says what became of them.

Debian's package is installed where it is missing; nothing is skipped for lack of it.
"""

import http.server
import json
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE_S = 120
FLAGS = (  # no screen, no sandbox for root, and no call home
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required"),
)
PAGE = """<!doctype html><body><script>
const play = name => new Promise(done => {
  const video = document.createElement('video');
  const tell = what => { video.remove(); done({...what, time: video.currentTime}); };
  const timer = setTimeout(() => tell({error: 'it did not end'}), 30000);
  video.onerror = () => { clearTimeout(timer); tell({error: video.error.message}); };
  video.onended = () => { clearTimeout(timer); tell({
    width: video.videoWidth, height: video.videoHeight, duration: video.duration,
    frames: video.getVideoPlaybackQuality().totalVideoFrames, audio_bytes: video.webkitAudioDecodedByteCount}); };
  video.muted = true; video.src = name; video.playbackRate = 4; document.body.append(video); video.play();
});
(async () => {
  const played = {};
  for (const name of NAMES) played[name] = await play(name);
  await fetch('played', {method: 'POST', body: JSON.stringify(played)});
})();
</script>"""


def played(videos: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """What Chromium says of each video after playing it to its end."""
    _install()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, _Server(videos) as server:
        command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={folder}", f"http://127.0.0.1:{server.server_port}/"]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            if not server.told.wait(PATIENCE_S):
                raise TimeoutError(f"Chromium said nothing in {PATIENCE_S} s")
            return server.answer
        finally:
            browser.terminate()
            browser.wait(30)


def _install() -> None:
    if CHROMIUM.exists():
        return
    if shutil.which("apt-get") is None:
        raise FileNotFoundError(f"{CHROMIUM} is missing and there is no apt-get; install Chromium")
    for command in (["apt-get", "update", "-q"], ["apt-get", "install", "-q", "-y", "--no-install-recommends", "chromium"]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise FileNotFoundError(f"{CHROMIUM} is missing and `{' '.join(command)}` failed: {done.stderr.strip()[-500:]}; install Chromium")


class _Server(http.server.ThreadingHTTPServer):
    """Serves the page and the videos, and takes what the page tells."""

    def __init__(self, videos: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = {"/": PAGE.replace("NAMES", json.dumps(list(videos))).encode()} | {f"/{name}": data for name, data in videos.items()}
        self.told = threading.Event()
        self.answer: dict[str, dict[str, Any]] = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        content = self.server.content.get(self.path)
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Type", "text/html" if self.path == "/" else "video/mp4")
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def do_POST(self) -> None:
        self.server.answer = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()
        self.server.told.set()

    def log_message(self, *_: object) -> None:
        """Not on the test's screen."""
