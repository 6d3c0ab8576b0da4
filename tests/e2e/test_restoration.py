"""The three recipes with the weights that ship, as a person runs them: films of every kind in, faithful films and one row for each out."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tasks.verify import verify
from tests.corpus import bad_clips, files, table
from tests.film import TURNED, Film, make, read
from tests.flows.program import vidmill
from tests.media import Recipe, encode, real_video

SCALES = {"denoise": 1, "upscale-x2": 2, "denoise+upscale-x2": 2}
VFR = (0, 33, 70, 200, 201, 233, 300, 333, 400, 466)
TEN = tuple(range(10))
FILMS = {
    "vfr-with-sound.mkv": Film(container="matroska", width=96, height=64, pts=VFR, time_base=Fraction(1, 1000), sound="aac"),
    "phone.mp4": Film(width=96, height=64, pts=TEN, display_matrix=TURNED["phone"]),
    "portrait.mp4": Film(width=64, height=96, pts=TEN, aspect=Fraction(4, 3)),
    "odd.webm": Film(container="webm", codec="libvpx-vp9", width=97, height=65, pts=tuple(range(8)), options=(("deadline", "realtime"),)),
    "hdr.mp4": Film(codec="libx265", pix_fmt="yuv420p10le", width=96, height=64, pts=TEN, colour=(1, 9, 9, 16)),
}
SIGMA = 20  # of the noise, in 8-bit steps
REAL = {"noisy.mp4": SIGMA, "clean.mp4": 0}


def real(sigma: float) -> bytes:
    """Real pictures, small, with noise of a known strength, kept by a fine encoding."""
    random, wanted = np.random.default_rng(1), []
    with av.open(str(real_video())) as container:
        for frame, _ in zip(container.decode(video=0), TEN, strict=False):
            rgb = frame.reformat(160, 96, "rgb24").to_ndarray() + random.normal(0, sigma, (96, 160, 3))
            wanted.append(av.VideoFrame.from_ndarray(rgb.round().clip(0, 255).astype(np.uint8), "rgb24"))
    return encode(wanted, Recipe(options={"crf": "4"}))


@pytest.fixture(scope="module")
def restored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of one run over all films and one file that is no film."""
    folder = tmp_path_factory.mktemp("restored")
    videos = folder / "videos"
    videos.mkdir()
    made = {name: make(film) for name, film in FILMS.items()} | {name: real(sigma) for name, sigma in REAL.items()}
    for name, data in (made | {"corrupt.mp4": bad_clips()["CORRUPT"]}).items():
        (videos / name).write_bytes(data)
    assert told(folder)["enhanced"] == len(FILMS) + len(REAL)
    return folder


def told(folder: Path) -> Any:
    recipes = [word for recipe in SCALES for word in ("--enhance", recipe)]
    code, out, err = vidmill(
        *("run", "--source.kind", "files", "--source.uri", "videos", "--output", "out", "--decode.clip-s", 60, "--limits.max-failed", 1),
        *(*recipes, "--json"),
        cwd=folder,
        timeout_s=600,
    )
    assert code == 0, err
    return json.loads(out)


def row_of(folder: Path, recipe: str, name: str) -> dict[str, Any]:
    rows = table(folder / "out", "enhanced").to_pylist()
    (row,) = (row for row in rows if row["video_id"] == name and f"/recipe={recipe}/" in row["uri"])
    return row


@pytest.mark.parametrize("recipe", SCALES)
@pytest.mark.parametrize("name", FILMS)
def test_what_a_film_is_stays(restored: Path, recipe: str, name: str) -> None:
    row, scale = row_of(restored, recipe, name), SCALES[recipe]
    source, result = read((restored / "videos" / name).read_bytes()), read(Path(row["uri"]).read_bytes())
    assert (result.times, result.duration_s) == (source.times, source.duration_s)
    assert result.size == (scale * source.size[0], scale * source.size[1])
    assert ("10le" in result.pix_fmt) == ("10le" in source.pix_fmt)
    assert result.colour[1:] == source.colour[1:]
    assert (result.aspect or 1) == (source.aspect or 1)
    assert (result.display_matrix or ())[:6] == (FILMS[name].display_matrix or (65536, 0, 0, 0, 65536, 0))[:6]
    assert result.sounds == source.sounds
    assert (row["frames"], row["codec"], row["has_audio"]) == (len(source.times), "h264", bool(source.sounds))
    assert (row["width"], row["height"]) == (result.size[::-1] if name == "phone.mp4" else result.size)


@pytest.mark.parametrize("recipe", SCALES)
def test_noise_is_measured_and_only_a_denoiser_takes_it_away(restored: Path, recipe: str) -> None:
    noisy, texture = row_of(restored, recipe, "noisy.mp4"), row_of(restored, recipe, "clean.mp4")["noise_before"]
    assert 0.5 * SIGMA < noisy["noise_before"] < SIGMA
    left = (noisy["noise_after"] - texture) / (noisy["noise_before"] - texture)
    assert (left < 0.4) == recipe.startswith("denoise")


def test_clean_pictures_are_left_alone(restored: Path) -> None:
    assert row_of(restored, "denoise", "clean.mp4")["psnr_down_db"] > 40


def test_what_is_no_film_is_one_failure_and_every_video_has_its_row(restored: Path) -> None:
    (failure,) = table(restored / "out", "failures").to_pylist()
    assert (failure["kind"], Path(failure["member"]).name) == ("CORRUPT", "corrupt.mp4")
    named = {row["uri"] for row in table(restored / "out", "enhanced").to_pylist()}
    there = {str(path) for path in (restored / "out" / "media").rglob("*.mp4")}
    assert named == there
    assert len(there) == len(SCALES) * (len(FILMS) + len(REAL))
    assert verify(str(restored / "out")).faults == []


def test_the_second_run_does_nothing(restored: Path) -> None:
    before = files(restored / "out")
    assert told(restored)["enhanced"] == 0
    after = files(restored / "out")
    assert {name: stat for name, stat in after.items() if not name.startswith("_runs")} == {
        name: stat for name, stat in before.items() if not name.startswith("_runs")
    }
