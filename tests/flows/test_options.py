"""Every field is a flag, only what was given is passed on, and the starter file loads back to the same configuration."""

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from flows.config_file import fields, flag, load
from flows.options import ConfigCommand, config_options, starter_yaml
from infra.problem import Problem
from infra.settings import RunConfig, SourceConfig, SourceKind, UserModel

REQUIRED = {"source.kind": "files", "source.uri": "/videos", "output": "/out"}
MODEL = {"name": "mine", "factory": "a.b:c", "weights": "file:/w", "sha256": "0" * 64, "mean": [1.0, 2.0, 3.0]}


@click.command(cls=ConfigCommand)
@click.argument("config", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@config_options
def command(config: Path | None, as_json: bool, overrides: dict[str, Any]) -> None:
    """Run it."""
    click.echo(json.dumps({"config": config and str(config), "json": as_json, "overrides": overrides}))


def called(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(command, arguments)


def overrides_of(*arguments: str) -> Any:
    result = called(*arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.output)["overrides"]


def test_only_what_was_given_is_passed_on() -> None:
    assert overrides_of() == {}
    assert overrides_of("--source.uri", "s3://a", "--limits.max-pixels=9") == {"source.uri": "s3://a", "limits.max_pixels": "9"}


def test_the_commands_own_parameters_arrive_beside_the_overrides() -> None:
    result = json.loads(called("k400.yaml", "--json", "--name", "n").output)
    assert result == {"config": "k400.yaml", "json": True, "overrides": {"name": "n"}}


@pytest.mark.parametrize(
    ("arguments", "overrides"),
    [
        (["--embed", "a,b", "--embed", "c"], {"embed": ["a", "b", "c"]}),
        (["--embed="], {"embed": []}),
        (["--enhance", "denoise, upscale-x2"], {"enhance": ["denoise", "upscale-x2"]}),
        (["--enhance", '{"recipe": "denoise", "crf": 20}', "--enhance", "upscale-x2"], {"enhance": [{"recipe": "denoise", "crf": 20}, "upscale-x2"]}),
        (["--enhance="], {"enhance": []}),
        (["--frame-embeddings"], {"frame_embeddings": True}),
        (["--no-frame-embeddings"], {"frame_embeddings": False}),
        (["--source.no-recursive"], {"source.recursive": False}),
        (["--cluster.address="], {"cluster.address": None}),
        (["--models", json.dumps([MODEL])], {"models": [MODEL]}),
        (["--source.kind", "kinetic"], {"source.kind": "kinetic"}),
    ],
)
def test_values_of_each_sort(arguments: list[str], overrides: dict[str, Any]) -> None:
    assert overrides_of(*arguments) == overrides


def test_every_field_can_be_set_by_its_flag() -> None:
    values = {
        "models": json.dumps([MODEL]),
        "source.kind": "manifest",
        "cluster.gpus": "0",
        "cluster.code": "upload",
        "enhance": "denoise",
        "source.deleted": "drop",
        "limits.max_deleted": "1",
    }
    given = {name: values.get(name, "7") for name, info in fields() if info.annotation is not bool}
    config = load(None, overrides_of(*(part for name, value in given.items() for part in (flag(name), value))))
    assert config.limits.max_failed == config.decode.fps == config.cluster.cpus == 7
    assert (config.source.kind, config.cluster.gpus, config.embed) == (SourceKind.MANIFEST, 0, ["7"])
    assert config.models[0].mean == (1.0, 2.0, 3.0)


def test_json_that_is_none_is_a_problem_with_its_place() -> None:
    problem = called("--models", "[{name: a}]").exception
    assert isinstance(problem, Problem)
    assert str(problem).startswith("--models: is not JSON (Expecting property name enclosed in double quotes: line 1 column 3")


def test_an_unknown_flag_names_the_one_that_was_meant() -> None:
    for wrong, meant in (("--source.urii", "--source.uri"), ("--max-pixels", "--limits.max-pixels"), ("--source-kind", "--source.kind")):
        result = called(wrong, "x")
        assert result.exit_code == 2
        assert f"'{meant}'" in result.output


def test_the_help_is_grouped_by_section_and_shows_choices_and_defaults() -> None:
    text = called("--help").output
    headings = re.findall(r"^(\w+)(?: - [\w .]+)?:", text, re.MULTILINE)
    assert headings == ["Usage", "Options", "Run", "Source", "Decode", "Limits", "Cluster"]
    assert max(map(len, text.splitlines())) <= 80
    limits = text[text.index("\nLimits") : text.index("\nCluster")]
    assert re.findall(r"--([a-z]+)\.", limits) == ["limits"] * 8
    words = " ".join(text.split())
    assert "--source.kind [kinetics|webdataset|files|manifest|youtube8m]" in words
    assert "how many videos form one shard [default: 64]" in words
    assert "receives the Parquet files [required]" in words
    assert all(flag(name) in text and str(info.description) in words for name, info in fields())


def written(folder: Path, text: str) -> RunConfig:
    file = folder / "vidmill.yaml"
    file.write_text(text, encoding="utf-8")
    return load(file, {})


def test_the_starter_file_loads_back_to_the_same_configuration(tmp_path: Path) -> None:
    values = REQUIRED | {
        "name": "my run: 2 #x",
        "decode.fps": 0.5,
        "tag": ["a", "yes"],
        "models": [UserModel.model_validate(MODEL)],
        "cluster.gpus": 0,
    }
    assert written(tmp_path, starter_yaml(values)) == load(None, values)


def test_the_defaults_it_shows_are_the_defaults(tmp_path: Path) -> None:
    text = starter_yaml(REQUIRED)
    uncommented, count = re.subn(r"^( *)#(?=[a-z])", r"\1", text, flags=re.MULTILINE)
    assert count == len(list(fields())) - len(REQUIRED)
    assert written(tmp_path, uncommented) == load(None, REQUIRED)
    assert all(str(info.description) in " ".join(text.replace("# ", "").split()) for _, info in fields())


def test_a_required_field_left_empty_is_pointed_at(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"source\.uri: has no value; write one"):
        written(tmp_path, starter_yaml({"source.kind": SourceKind.FILES, "output": "/out"}))


@given(text=st.text(min_size=1))
def test_any_text_survives_the_starter_file(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    config = written(tmp_path_factory.mktemp("starter"), starter_yaml(REQUIRED | {"source.uri": text}))
    assert config.source == SourceConfig(kind=SourceKind.FILES, uri=text)
