"""What is written plays in a browser: Debian's Chromium, a real page, from the first picture to the last."""

import io
from fractions import Fraction

import pytest

from infra.settings import LimitsConfig
from tasks.clip import Window
from tasks.encoding import Encoding
from tasks.enhance import Enhancer
from tests.browser import played
from tests.film import TURNED, Film, make
from tests.media import real_video
from tests.tasks.restorations import Count, Doubled, Identity

MEDIUM = Encoding("h264", 20, "medium")
SHORT = tuple(range(24))
ODD = Film(container="webm", codec="libvpx-vp9", width=161, height=121, pts=SHORT, options=(("deadline", "realtime"),))

FILMS = {  # name: (film, restoration, encoding, size shown)
    "plain.mp4": (Film(sound="aac", pts=SHORT), Identity(), MEDIUM, (160, 120)),
    "upscaled.mp4": (Film(container="matroska", sound="vorbis", pts=SHORT), Doubled(), MEDIUM, (320, 240)),
    "odd.mp4": (ODD, Identity(), MEDIUM, (161, 121)),
    "turned.mp4": (Film(display_matrix=TURNED["90"], pts=SHORT), Identity(), MEDIUM, (120, 160)),
    "wide-pixels.mp4": (Film(aspect=Fraction(4, 3), pts=SHORT), Identity(), MEDIUM, (213, 120)),
    "10-bit.mp4": (Film(codec="libx265", pix_fmt="yuv420p10le", colour=(1, 9, 9, 16), pts=SHORT), Identity(), MEDIUM, (160, 120)),
    "4:2:2.mp4": (Film(pix_fmt="yuv422p", pts=SHORT), Identity(), MEDIUM, (160, 120)),
    "av1.mp4": (ODD, Identity(), Encoding("av1", 30, "12"), (161, 121)),
    "late.mp4": (Film(container="matroska", pts=tuple(range(30, 54)), sound="aac", sound_start_s=Fraction(-1, 5)), Identity(), MEDIUM, (160, 120)),
}


@pytest.fixture(scope="module")
def seen() -> dict[str, dict[str, object]]:
    """What Chromium says of each, in one go: it takes longer to start than to play them."""
    enhancer = Enhancer(LimitsConfig())
    videos = {name: written(enhancer, make(film), restoration, encoding) for name, (film, restoration, encoding, _) in FILMS.items()}
    videos["window.mp4"] = written(enhancer, real_video("bigbuckbunny.mp4").read_bytes(), Identity(), Encoding("h264", 30, "ultrafast"), Window(2, 3))
    return played(videos)


def written(enhancer: Enhancer, data: bytes, restoration: Identity, encoding: Encoding, window: Window | None = None) -> bytes:
    sink = io.BytesIO()
    enhancer.enhance(io.BytesIO(data), window=window, restoration=restoration, encoding=encoding, meter=lambda a, b: Count(a, b), sink=sink)
    return sink.getvalue()


@pytest.mark.parametrize("name", FILMS)
def test_it_plays_in_chromium(seen: dict[str, dict[str, object]], name: str) -> None:
    film, _, _, size = FILMS[name]
    found = seen[name]
    assert "error" not in found
    assert (found["width"], found["height"]) == size
    assert found["time"] == found["duration"] == pytest.approx(1.0 if film.sound_start_s else 0.8, abs=0.05)
    assert found["frames"] == len(film.pts)
    assert bool(found["audio_bytes"]) == (film.sound is not None)


def test_a_window_of_a_real_film_plays_with_its_sound(seen: dict[str, dict[str, object]]) -> None:
    found = seen["window.mp4"]
    assert (found["width"], found["height"], found["frames"]) == (1280, 720, 25)
    assert found["time"] == found["duration"] == pytest.approx(1.0, abs=0.001)
    assert found["audio_bytes"]
