"""What cannot be encoded is said before anything runs, in one line."""

import pytest

from infra.problem import Problem
from infra.settings import EnhanceConfig
from tasks.encoding import PRESETS, Encoding, check_encoding


def test_an_entry_of_the_configuration_says_how_to_encode() -> None:
    config = EnhanceConfig(recipe="denoise", codec="av1", crf=30, preset="8")
    assert Encoding.of(config) == Encoding("av1", 30, "8")


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
@pytest.mark.parametrize("preset", PRESETS)
def test_every_codec_knows_the_same_words_for_speed(codec: str, preset: str) -> None:
    check_encoding(Encoding(codec, 18, preset))


REFUSED = {
    "crf": (Encoding("h264", 60, "medium"), "enhance: crf 60 is beyond what h264 knows; choose 0 (best) to 51"),
    "crf below 0": (Encoding("av1", -1, "medium"), "enhance: crf -1 is beyond what av1 knows; choose 0 (best) to 63"),
    "preset": (Encoding("hevc", 20, "quick"), "enhance: hevc knows no preset quick; choose one of ultrafast, superfast"),
    "number": (Encoding("h264", 20, "8"), "enhance: h264 knows no preset 8; choose one of ultrafast, superfast"),
    "number of AV1": (Encoding("av1", 20, "14"), "or SVT-AV1's 0 (best) to 13 (fastest)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_says_what_to_choose(name: str) -> None:
    encoding, message = REFUSED[name]
    with pytest.raises(Problem) as caught:
        check_encoding(encoding)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
