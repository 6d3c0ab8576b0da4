"""A spec's digest moves with everything that can change a value, and with nothing else."""

import re
from dataclasses import replace

import pytest

from models.catalog import resolve
from models.spec import FrameInput, Geometry

LITE = resolve("efficientnet-lite0")


def test_the_digest_is_stable_hex():
    assert re.fullmatch("[0-9a-f]{64}", LITE.digest())
    assert replace(LITE).digest() == LITE.digest()


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "0" * 64},
        {"factory": "models.mobilenet_v2:mobilenet_v2"},
        {"labels": tuple(reversed(LITE.labels))},
        {"input": replace(LITE.input, geometry=Geometry(256, 192))},
        {"input": replace(LITE.input, geometry=Geometry(240, 224))},
        {"input": replace(LITE.input, mean=(127.0, 127.0, 128.0))},
        {"input": replace(LITE.input, std=(128.0, 128.0, 127.0))},
    ],
)
def test_what_changes_values_changes_the_digest(change):
    assert replace(LITE, **change).digest() != LITE.digest()


def test_a_raised_code_version_changes_the_digest(monkeypatch):
    before = LITE.digest()
    monkeypatch.setattr("models.spec.NUMERICS", 2_000_000)
    assert LITE.digest() != before


@pytest.mark.parametrize("change", [{"name": "other"}, {"licence": "other"}, {"trained_on": "other"}, {"weights": "file:/moved.pth"}])
def test_what_changes_no_value_keeps_the_digest(change):
    assert replace(LITE, **change).digest() == LITE.digest()


def test_impossible_specs_are_refused():
    with pytest.raises(ValueError, match="crop lies inside"):
        Geometry(resize=200, crop=224)
    with pytest.raises(ValueError, match="std divides"):
        FrameInput(Geometry(256, 224), mean=(0.0, 0.0, 0.0), std=(1.0, 0.0, 1.0))
    with pytest.raises(ValueError, match="tagging model has labels"):
        replace(LITE, labels=())
