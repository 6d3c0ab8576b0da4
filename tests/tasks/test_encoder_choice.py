"""Every encoding that the plan lets pass opens an encoder, for every format of pictures."""

from fractions import Fraction
from itertools import product

import pytest
from av.codec import Codec, CodecContext

from models.picture import PictureFormat
from tasks import encoder_choice
from tasks.encoder_choice import Encoder, encoder_for
from tasks.encoding import PRESETS, Encoding

FORM = PictureFormat(64, 64, 8, "420", "bt709", False)


def opens(encoder: Encoder, form: PictureFormat) -> bool:
    context = CodecContext.create(encoder.name, "w")
    context.width, context.height, context.pix_fmt, context.time_base = form.width, form.height, encoder.pixel_format, Fraction(1, 25)
    context.options = dict(encoder.options)
    context.thread_count, context.thread_type = encoder.threads, "FRAME"
    context.open()
    return context.options == {}


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_every_preset_and_quality_opens_an_encoder_that_knows_every_option(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVT_LOG", "0")
    words = (*PRESETS, *(("0", "13") if codec == "av1" else ()))
    for preset, crf in [*((word, 20) for word in words), ("medium", 0), ("medium", 63 if codec == "av1" else 51)]:
        encoder = encoder_for(Encoding(codec, crf, preset), FORM)
        assert opens(encoder, FORM), (preset, crf)


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_every_format_has_a_layout_the_encoder_takes(codec: str) -> None:
    for bits, chroma, width, height in product((8, 10), ("420", "422", "444"), (160, 161), (120, 121)):
        form = PictureFormat(width, height, bits, chroma, "bt709", False)
        encoder = encoder_for(Encoding(codec, 20, "medium"), form)
        assert encoder.pixel_format in {layout.name for layout in Codec(encoder.name, "w").video_formats or ()}
        assert encoder.pixel_format.endswith("10le") == (bits == 10)
        kept = codec != "av1" and width % 2 == height % 2 == 0
        assert f"yuv{chroma}p" in encoder.pixel_format or not kept


def test_large_pictures_are_looked_at_less_far_ahead() -> None:
    """40 pictures of 8K would be 4 GB."""
    medium, ultrafast = Encoding("h264", 18, "medium"), Encoding("h264", 18, "ultrafast")
    large = PictureFormat(7680, 4320, 8, "420", "bt709", False)
    assert encoder_for(medium, large).options["rc-lookahead"] == "10"
    assert "rc-lookahead" not in encoder_for(medium, FORM).options
    assert "rc-lookahead" not in encoder_for(ultrafast, large).options


def test_nvenc_is_used_where_it_opens_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a machine with NVENC only the answer to the trial is made up."""
    tried: list[tuple[str, str]] = []
    monkeypatch.setattr(encoder_choice, "_opens", lambda *what: bool(tried.append(what)) or True)
    found = encoder_for(Encoding("hevc", 21, "slow"), PictureFormat(640, 480, 10, "420", "bt709", False))
    assert (found.name, found.pixel_format, found.options["cq"], found.options["preset"]) == ("hevc_nvenc", "p010le", "21", "p5")
    assert encoder_for(Encoding("h264", 21, "slow"), PictureFormat(640, 480, 10, "420", "bt709", False)).name == "libx264"
    assert encoder_for(Encoding("h264", 21, "slow"), PictureFormat(641, 480, 8, "420", "bt709", False)).name == "libx264"
    assert tried == [("hevc_nvenc", "p010le")]


def test_an_encoder_that_is_missing_or_has_no_device_is_not_used() -> None:
    assert not encoder_choice._opens("no_such_encoder", "yuv420p")
    assert not encoder_choice._opens("h264_nvenc", "no_such_layout")
