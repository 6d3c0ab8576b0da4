"""What settings let through: numbers are numbers, and a run asks for something."""

from typing import Any

import pytest
from pydantic import ValidationError

from infra.settings import ClusterConfig, DecodeConfig, LimitsConfig, RunConfig, UserModel

SOURCE = {"kind": "files", "uri": "/videos"}
MINIMAL = {"source": SOURCE, "output": "/out"}
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
        (UserModel, {**MODEL, "tagger": "/t"}),
        (UserModel, {"name": "m", "tagger": "/t", "task": ["tag"]}),
        (UserModel, {"name": "m", "tagger": "/t", "sha256": "a1"}),
        (UserModel, {"name": "m"}),
    ],
)
def test_slips_are_refused(section: type[Any], values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        section(**values)


def test_numbers_may_come_as_text_from_flags() -> None:
    assert DecodeConfig.model_validate({"fps": "2.5"}).fps == 2.5
    assert LimitsConfig.model_validate({"max_pixels": "100", "max_failed": "0"}) == LimitsConfig(max_pixels=100, max_failed=0)
    assert ClusterConfig.model_validate({"gpus": 0}).gpus == 0


def test_a_trained_tagger_needs_its_name_and_address() -> None:
    assert UserModel.model_validate({"name": "m", "tagger": "/t"}).sha256 is None
    whole = UserModel.model_validate({"name": "m", "tagger": "s3://b/t", "sha256": "0" * 64, "licence": "MIT"})
    assert UserModel.model_validate(whole.model_dump(mode="json")) == whole, "as a run's record has it"


def test_a_run_that_asks_for_no_model_is_refused() -> None:
    with pytest.raises(ValidationError, match="embed, tag and enhance are all empty"):
        RunConfig.model_validate({"source": SOURCE, "output": "o", "embed": []})
    assert RunConfig.model_validate({"source": SOURCE, "output": "o", "embed": [], "tag": ["efficientnet-lite0"]}).embed == []


SECRETS = [
    "s3://AKIA:hunter2@bucket/x",
    "s3://AKIA:hun/ter2@bucket/x",
    "https://me:hunter2@host/x",
    "https://hunter2@host/x",
    "ray://me:hunter2@host:10001",
]
ADDRESSES = ["s3://bucket/a@b/x:y", "https://host:8443/x@y", "s3://arn:aws:s3:eu-west-1:1234:accesspoint/name/x", "/videos/a@b:c", "ray://host:10001"]


def with_address(field: str, address: str) -> RunConfig:
    values: dict[str, Any] = {"source": dict(SOURCE), "output": "o", "models": [dict(MODEL)], "cluster": {}}
    section, _, name = field.rpartition(".")
    target = values["models"][0] if section == "models" else values[section] if section else values
    if name == "tagger":
        target.clear()
        target["name"], target["sha256"] = "m", "0" * 64
    target[name] = [address] if name == "allow" else address
    return RunConfig.model_validate(values)


@pytest.mark.parametrize(
    "field",
    ["source.uri", "source.annotations", "source.replacements", "source.allow", "output", "models.weights", "models.tagger", "cluster.address"],
)
def test_credentials_in_an_address_are_refused(field: str) -> None:
    """P12: without `no_credentials` the configuration reaches Prefect's database and the run's record, password and all."""
    for address in SECRETS:
        with pytest.raises(ValidationError) as caught:
            with_address(field, address)
        (error,) = caught.value.errors()
        assert "credentials" in error["msg"]
        assert "hunter2" not in error["msg"]
        assert "hun/ter2" not in error["msg"]
    for address in ADDRESSES:
        with_address(field, address)


def test_a_run_over_records_embeds_nothing_and_its_record_says_so() -> None:
    config = RunConfig.model_validate({"source": {"kind": "youtube8m", "uri": "/s"}, "output": "o"})
    assert config.embed == []
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config, "what `vidmill retry OUT` does"
    with pytest.raises(ValidationError, match="embed: youtube8m records hold features and no video"):
        RunConfig.model_validate({"source": config.source, "output": "o", "embed": ["efficientnet-lite0"]})


def test_a_recipe_may_be_given_by_its_name_alone() -> None:
    config = RunConfig.model_validate({**MINIMAL, "enhance": ["denoise", {"recipe": "upscale-x2", "name": "big", "crf": 20}]})
    assert [(entry.recipe, entry.label, entry.crf) for entry in config.enhance] == [("denoise", "denoise", 18), ("upscale-x2", "big", 20)]
    assert RunConfig.model_validate({**MINIMAL, "embed": [], "enhance": ["denoise"]}).embed == []
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    "enhance",
    [["denoise", "denoise"], [{"recipe": "denoise", "name": "upscale-x2"}, "upscale-x2"], [{"recipe": "denoise", "name": "decode"}],
     [{"recipe": "denoise", "name": "efficientnet-lite0"}]],
)  # fmt: skip
def test_a_recipe_has_a_name_of_its_own(enhance: list[object]) -> None:
    """A failure names its stage, and nothing else tells whose it is."""
    with pytest.raises(ValidationError, match="is taken by a stage, a model or another recipe"):
        RunConfig.model_validate({**MINIMAL, "enhance": enhance})


def test_a_recorded_configuration_of_records_can_be_read_again() -> None:
    """`vidmill retry` takes the run's own record; a default that such a run refuses would make it unusable."""
    config = RunConfig.model_validate({"source": {"kind": "youtube8m", "uri": "/shards/"}, "output": "/out"})
    assert config.embed == []
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config
    with pytest.raises(ValueError, match="leave embed out"):
        RunConfig.model_validate({"source": {"kind": "youtube8m", "uri": "/shards/"}, "output": "/out", "embed": ["efficientnet-lite0"]})
