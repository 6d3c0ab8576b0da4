"""Raylets side by side, ordered by lines of JSON: `python -m tests.faults.raylets`. They end with the input.

{"order": "add", "name": "left", "num_cpus": 2, "env_vars": {...}}   -> address of the cluster
{"order": "runs", "name": "left", "what": "tasks.decoder"}           -> whether its processes include such a one
{"order": "lose", "name": "left"}                                    -> null, when nothing of it is left
"""

import json
import os
import sys
from typing import Any

import psutil
from ray.cluster_utils import Cluster


def main() -> None:
    """Obey until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever Ray prints is no answer
    cluster, nodes = Cluster(), {}
    try:
        for line in sys.stdin:
            answers.write(json.dumps(obey(cluster, nodes, **json.loads(line))) + "\n")
            answers.flush()
    finally:
        cluster.shutdown()


def obey(cluster: Cluster, nodes: dict[str, Any], *, order: str, name: str, what: str = "", **arguments: Any) -> Any:
    """Carry out one order; the answer."""
    if order == "add":
        nodes[name] = cluster.add_node(**arguments)
        return cluster.address
    if order == "runs":
        return any(what in " ".join(process.cmdline()) for process in raylet(nodes[name]).children(recursive=True))
    below = raylet(nodes[name]).children(recursive=True)
    cluster.remove_node(nodes[name], allow_graceful=False)
    psutil.wait_procs(below, 30)
    return None


def raylet(node: Any) -> psutil.Process:
    """The process all workers of a node descend from."""
    return psutil.Process(node.all_processes["raylet"][0].process.pid)


if __name__ == "__main__":
    main()
