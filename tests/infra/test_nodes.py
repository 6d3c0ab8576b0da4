"""Nodes: waited for, and asked which code they have."""

import re
from typing import Any

import pytest

from infra import code, nodes
from infra.nodes import NoNodes, await_nodes, check_code
from infra.problem import Problem


def test_nodes_with_this_code_are_fit(ray_here: None) -> None:
    check_code("here", ["tasks.encoded", "tests.tasks.networks"])


@pytest.mark.parametrize(
    ("module", "cause"), [("nowhere.at_all", "cannot import nowhere.at_all: ModuleNotFoundError"), ("tests.tasks.broken_import", "")]
)
def test_a_module_that_a_node_lacks_is_one_line(ray_here: None, module: str, cause: str) -> None:
    told = rf"^here: node [\d.]+ {re.escape(cause)}.*; install on the nodes what is here, or send it with --cluster.code upload$"
    with pytest.raises(Problem, match=told):
        check_code("here", [module])


def test_another_code_is_one_line(ray_here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    there = code.digest()
    monkeypatch.setattr(code, "digest", lambda: "0badc0de")
    with pytest.raises(Problem, match=f"has another vidmill, code {there} where this is 0badc0de; install"):
        check_code("here", [])


def test_a_cluster_without_nodes_is_waited_for(ray_here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task that waits is what an autoscaler sees; here it finds its CPU at once."""
    told: list[str] = []
    monkeypatch.setattr(nodes, "resources", dict[str, Any])
    await_nodes("here", gpus=0, tell=told.append)
    assert told == ["here: no node with a CPU yet; waiting for one to join or for the autoscaler to start it"]


def test_nothing_is_waited_for_for_ever(ray_here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(nodes, "WAIT_S", 0.3)
    monkeypatch.setattr(nodes, "LOOK_S", 0.1)
    with pytest.raises(NoNodes, match=r"no node with a GPU in .* min; start one") as error:
        await_nodes("here", gpus=1, tell=told.append)
    assert (error.value.passing, len(told)) == (True, 1)
