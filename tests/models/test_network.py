"""A factory and a weights file become a network, or one line that says which of them is wrong."""

from dataclasses import replace

import pytest
import torch

from infra.problem import Problem
from models.catalog import resolve
from models.network import build
from models.weights import fetch, load_state
from tests.models.own import own_model


def test_every_parameter_comes_from_the_file(tmp_path):
    spec = resolve("mine", [own_model(tmp_path)])
    network = build(spec)
    state = load_state(fetch(spec.weights, spec.sha256))
    assert network.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(
    ("factory", "says"),
    [
        ("no_such_module:net", "cannot import no_such_module"),
        ("tests.models.user_networks:NoSuchNetwork", "tests.models.user_networks has no NoSuchNetwork"),
        ("tests.models.user_networks:constant", "is a int; it must be a callable"),
        ("tests.models.user_networks:number", "returned int; it must return a torch.nn.Module"),
        ("tests.models.user_networks:broken", "failed: RuntimeError: no such layer"),
        ("tests.models.user_networks:Both", r"does not fit tests.models.user_networks:Both.*Missing key.*head\.weight"),
        ("models.mobilenet_v2:mobilenet_v2", "does not fit"),
    ],
)
def test_a_wrong_factory_is_one_line(tmp_path, factory, says):
    spec = replace(resolve("mine", [own_model(tmp_path)]), factory=factory)
    with pytest.raises(Problem, match=says) as caught:
        build(spec)
    assert "\n" not in str(caught.value)
