"""The file for Ray's cluster launcher fits Ray's schema, its commands Ray's options, its machines what EC2 takes."""

import shlex
from pathlib import Path
from typing import Any

import botocore.session
import jsonschema
import pytest
from botocore.validate import ParamValidator
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start, stop
from ruamel.yaml import YAML

FILE = Path(__file__).parents[2] / "infra/deploy/autoscaler/cluster.yaml"
COMMANDS = {"start": start, "stop": stop}


@pytest.fixture
def config() -> dict[str, Any]:
    return dict(YAML(typ="safe").load(FILE))


def test_the_launcher_takes_it(config: dict[str, Any]) -> None:
    validate_config(prepare_config(config))
    with pytest.raises(jsonschema.ValidationError, match="'spot'"):
        validate_config(prepare_config(config | {"spot": True}))


def test_machines_are_what_ec2_takes(config: dict[str, Any]) -> None:
    asked = botocore.session.Session().get_service_model("ec2").operation_model("RunInstances").input_shape
    for kind in config["available_node_types"].values():
        request = {"MinCount": 1, "MaxCount": 1, **kind["node_config"]}
        assert not ParamValidator().validate(request, asked).has_errors()
        assert ParamValidator().validate(request | {"InstanceTypo": "g6"}, asked).has_errors()


def test_the_head_computes_nothing_and_the_others_come_and_go(config: dict[str, Any]) -> None:
    kinds = config["available_node_types"]
    assert kinds[config["head_node_type"]]["resources"] == {"CPU": 0}
    workers = {name: kind for name, kind in kinds.items() if name != config["head_node_type"]}
    assert [kind["resources"].get("GPU", 0) for kind in workers.values()] == [0, 1]
    for kind in workers.values():
        assert kind["min_workers"] < kind["max_workers"]
        assert kind["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert sum(kind["max_workers"] for kind in workers.values()) == config["max_workers"]


def test_every_node_asks_for_the_token(config: dict[str, Any]) -> None:
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert config["file_mounts"] == {"/home/vidmill/.ray/auth_token": "~/.ray/auth_token"}


@pytest.mark.parametrize("node", ["head", "worker"])
def test_ray_knows_the_options(config: dict[str, Any], node: str) -> None:
    for line in config[f"{node}_start_ray_commands"]:
        program, command, *options = shlex.split(line)
        assert program == "ray"
        COMMANDS[command].make_context(command, options)
