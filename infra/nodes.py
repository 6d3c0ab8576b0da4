"""The nodes of an existing cluster: waited for until there are some, and asked whether they have this code.

Knows Ray's nodes and tasks; knows nothing of the work that follows.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from infra import code
from infra.problem import Problem

LOOK_S = 5.0
WAIT_S = 1800.0  # a node that the autoscaler buys comes in minutes
ANSWER_S = 120.0  # of a node that starts a process and imports torch


class NoNodes(Problem):
    """The cluster has not what the work needs, and none came."""

    @property
    def passing(self) -> bool:
        """Nothing is wrong with what was asked."""
        return True


def await_nodes(name: str, *, gpus: int, tell: Callable[[str], None]) -> None:
    """Wait until the cluster has a CPU, and a GPU if some are asked for; a task that needs one lets the autoscaler know.

    Args:
        name: of the cluster, in messages.
        gpus: that the work was told to use.
        tell: is told what is waited for.

    Raises:
        NoNodes: none came in half an hour.
    """
    for kind in ("CPU", "GPU") if gpus else ("CPU",):
        if not resources().get(kind):
            tell(f"{name}: no node with a {kind} yet; waiting for one to join or for the autoscaler to start it")
            _await(name, kind)


def resources() -> dict[str, float]:
    """What the cluster has now, by Ray's names."""
    import ray

    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return found


def _await(name: str, kind: str) -> None:
    import ray

    needs: dict[str, Any] = {"num_cpus": 1} if kind == "CPU" else {"num_cpus": 0, "num_gpus": 1}
    wish = ray.remote(max_retries=-1, **needs)(code.report).remote(())  # what it answers does not matter
    end_s = time.monotonic() + WAIT_S
    while time.monotonic() < end_s:
        if ray.wait([wish], timeout=LOOK_S)[0]:
            return
    ray.cancel(wish, force=True)
    raise NoNodes(f"{name}: no node with a {kind} in {WAIT_S / 60:.0f} min; start one, or look at `ray status` there, then run this again")


def check_code(name: str, modules: Sequence[str]) -> None:
    """See that every node with a CPU or GPU runs this very code, and can import the modules.

    Raises:
        Problem: one does not; the message names the node.
    """
    import ray
    from ray.exceptions import RayTaskError, RuntimeEnvSetupError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as Only

    ask = ray.remote(num_cpus=0, max_retries=0)(code.report)
    nodes = [node for node in ray.nodes() if node["Alive"] and {"CPU", "GPU"} & node["Resources"].keys()]  # type: ignore[no-untyped-call]
    asked = {ask.options(scheduling_strategy=Only(node["NodeID"], soft=False)).remote(modules): node["NodeManagerAddress"] for node in nodes}
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S)
    for answer in answered:
        try:
            found, cause = ray.get(answer)
        except (RayTaskError, RuntimeEnvSetupError) as error:
            raise Problem(_unfit(name, asked[answer], f"cannot import this vidmill ({_last_line(error)})")) from error
        except ray.exceptions.RayError as error:  # gone meanwhile; the work goes to others
            logging.getLogger(__name__).warning("node %s did not say which code it has: %s", asked[answer], error)
            continue
        if found != code.digest():
            raise Problem(_unfit(name, asked[answer], f"has another vidmill, code {found} where this is {code.digest()}"))
        if cause:
            raise Problem(_unfit(name, asked[answer], f"cannot import {cause}"))
    for answer in silent:
        logging.getLogger(__name__).warning("node %s did not say in %.0f s which code it has", asked[answer], ANSWER_S)


def _unfit(name: str, node: str, cause: str) -> str:
    return f"{name}: node {node} {cause}; install on the nodes what is here, or send it with --cluster.code upload"


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
