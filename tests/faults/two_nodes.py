"""A run on a cluster of two nodes, one of which is lost on the way: `python -m tests.faults.two_nodes CONFIG.json`.

Prints the run's summary as JSON. The driver stands on the node that stays; the other is killed, raylet and workers, once both have staged rows.
"""

import json
import os
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_health_check_initial_delay_ms": "1000", "RAY_health_check_period_ms": "500"}

from ray.cluster_utils import Cluster

from flows.process_corpus import RunIncomplete, process_corpus
from infra.settings import RunConfig


def main() -> None:
    """Run, and lose a node."""
    config = RunConfig.model_validate_json(Path(sys.argv[1]).read_text())
    cluster = Cluster()
    try:
        cluster.add_node(num_cpus=1)
        lost = cluster.add_node(num_cpus=1)
        threading.Thread(target=lose, args=(cluster, lost, Path(config.output)), daemon=True).start()
        with_address = config.model_copy(update={"cluster": config.cluster.model_copy(update={"address": cluster.address, "insecure": True})})
        try:
            summary = process_corpus.fn(with_address)
        except RunIncomplete as incomplete:
            summary = incomplete.summary
        print(json.dumps(asdict(summary), default=str))
    finally:
        cluster.shutdown()


def lose(cluster: Cluster, node: object, output: Path) -> None:
    """Kill a node once some parcels are staged."""
    while len(list(output.glob("_wip/*/clips/*.fragment"))) < 2:
        time.sleep(0.02)
    cluster.remove_node(node, allow_graceful=False)
    print("node lost", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
