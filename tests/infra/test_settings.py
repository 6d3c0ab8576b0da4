"""What settings let through: numbers are numbers, and a run asks for something."""

from typing import Any

import pytest
from pydantic import ValidationError

from infra.settings import ClusterConfig, DecodeConfig, LimitsConfig, RunConfig, UserModel

SOURCE = {"kind": "files", "uri": "/videos"}
MODEL = {"name": "m", "factory": "a.b:c", "weights": "file:/w", "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("section", "values"),
    [
        (DecodeConfig, {"fps": True}),
        (DecodeConfig, {"fps": float("inf")}),
        (DecodeConfig, {"clip_s": float("nan")}),
        (DecodeConfig, {"fps": 0}),
        (LimitsConfig, {"max_pixels": True}),
        (LimitsConfig, {"max_failed": False}),
        (LimitsConfig, {"max_failed": "inf"}),
        (LimitsConfig, {"max_frames": 1.5}),
        (ClusterConfig, {"gpus": True}),
        (ClusterConfig, {"cpus": 0}),
        (UserModel, {**MODEL, "mean": [True, 1, 1]}),
        (UserModel, {**MODEL, "sha256": "F" * 64}),
        (UserModel, {**MODEL, "name": "../up"}),
        (UserModel, {**MODEL, "nmae": "m"}),
    ],
)
def test_slips_are_refused(section: type[Any], values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        section(**values)


def test_numbers_may_come_as_text_from_flags() -> None:
    assert DecodeConfig.model_validate({"fps": "2.5"}).fps == 2.5
    assert LimitsConfig.model_validate({"max_pixels": "100", "max_failed": "0"}) == LimitsConfig(max_pixels=100, max_failed=0)
    assert ClusterConfig.model_validate({"gpus": 0}).gpus == 0


def test_a_run_that_asks_for_no_model_is_refused() -> None:
    with pytest.raises(ValidationError, match="embed and tag are both empty"):
        RunConfig.model_validate({"source": SOURCE, "output": "o", "embed": []})
    assert RunConfig.model_validate({"source": SOURCE, "output": "o", "embed": [], "tag": ["efficientnet-lite0"]}).embed == []
