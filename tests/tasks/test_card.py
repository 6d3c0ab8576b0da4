"""A card says what was learned from what, with the code's own numbers, and what it is worth."""

import json
from pathlib import Path

import pytest

from infra.training import RestorerTask
from tasks import card as cards
from tasks import degrade
from tasks.card import Training, card, metadata, scores_in
from tasks.learn import DEFAULTS
from tasks.material import material_of, split_of
from tasks.scores import Score
from tests.footage import write_photographs

SCORES = [Score("sigma 25", 20.17, 29.5, must_win=True), Score("clean", float("inf"), 41.2, must_win=False)]


def training(folder: Path, task: RestorerTask = RestorerTask.DENOISE, **more: object) -> Training:
    split = split_of(material_of([str(write_photographs(folder, 4))], {}), 0.3)
    usual = {
        "digest": "d" * 64, "held_out_share": 0.3, "start": None, "licences": {"photograph-1.png": "CC0", "*.png": "CC-BY-4.0"},
        "command": "vidmill train restorer --corpus x", "elapsed_s": 7200.0, "machines": ["a CPU", "a GPU"], "scores": SCORES,
    }  # fmt: skip
    return Training(recipe=DEFAULTS[task], split=split, **{**usual, **more})  # type: ignore[arg-type]


def test_a_card_has_what_making_it_again_needs(tmp_path: Path) -> None:
    found = training(tmp_path)
    text = card(found, weights_sha256="e" * 64, weights_bytes=1234)
    for file in (*found.split.learned, *found.split.held_out):
        licence = "CC0" if file.name == "photograph-1.png" else "CC-BY-4.0"
        side = "learned from" if file in found.split.learned else "held out"
        assert f"| {file.name} | {side} | {file.content} | {licence} |" in text
    wanted = ("e" * 64, "1,234 bytes", "d" * 64, "| sigma 25 | 20.17 | 29.50 | +9.33 |", "| clean | exact | 41.20 |  |", "a CPU; then a GPU",
              "2.00 h", "```sh\nvidmill train restorer --corpus x\n```", f"{found.recipe.steps:,}", "denoiser-1", "| seed | 1 |")  # fmt: skip
    for words in wanted:
        assert words in text


def test_the_degradations_are_the_codes_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(degrade, "CRF", (1, 77))
    monkeypatch.setattr(degrade, "BLUR_SIGMA", (0.25, 9.5))
    noises, reductions = (card(training(tmp_path, task), weights_sha256="", weights_bytes=0) for task in RestorerTask)
    assert "crf 1 to 77" in noises
    assert "| 0.58 | gaussian | sigma 0 to 60 |" in noises
    assert "sigma 0.25 to 9.5 pixels" in reductions
    assert "x264" not in reductions


def test_a_licence_nobody_named_is_told(tmp_path: Path) -> None:
    assert "| not stated |" in card(training(tmp_path, licences={}), weights_sha256="", weights_bytes=0)


def test_remarks_and_the_weights_it_began_with_are_told(tmp_path: Path) -> None:
    text = card(training(tmp_path, start="w.safetensors, SHA-256 00", remarks=["Only a trial."]), weights_sha256="", weights_bytes=0)
    assert "Only a trial." in text
    assert "| begun with | w.safetensors, SHA-256 00 |" in text


def test_a_name_cannot_break_the_table(tmp_path: Path) -> None:
    (tmp_path / "a | b\n| c.png").write_bytes(b"x")
    text = card(training(tmp_path), weights_sha256="", weights_bytes=0)
    assert "| a \\| b?\\| c.png |" in text


def test_a_long_list_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "MOST_FILES", 3)
    assert "and 1 more" in card(training(tmp_path), weights_sha256="", weights_bytes=0)


def test_the_weights_say_what_they_are(tmp_path: Path) -> None:
    found = metadata(training(tmp_path), 60_000)
    assert found["task"] == "denoise"
    assert found["recipe_sha256"] == "d" * 64
    assert scores_in(found) == SCORES
    assert all(isinstance(value, str) for value in found.values())
    assert json.loads(found["scores"])
