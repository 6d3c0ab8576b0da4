"""The same job as Ray Data's documentation teaches it: read_webdataset, map_batches with an actor class, write_parquet. No vidmill code.

    python -m tests.bench.contenders.ray_data SHARDS OUT

One thing is not in the documentation: fractions of a core. With its defaults two actors hold both cores of a small machine and nothing
reads or writes (ray-project/ray#44687).
"""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.data

from tests.bench.contenders.byhand import Embedder, every_frame

ACTOR_CPUS, OTHER_CPUS = 0.9, 0.1
BATCH = 8  # clips


class Embed:
    """Embeds a batch of clips."""

    def __init__(self) -> None:
        self.embed = Embedder()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """{"__key__", "mp4"} -> {"clip_id", "embedding"}."""
        embeddings = [self.embed(every_frame(data)) for data in batch["mp4"]]
        return {"clip_id": [Path(key).name for key in batch["__key__"]], "embedding": np.stack(embeddings)}


def main(source: str, out: str) -> None:
    """Read, embed, write."""
    ray.init(include_dashboard=False)
    shards = [str(path) for path in sorted(Path(source).glob("*.tar.gz"))]
    actors = ray.data.ActorPoolStrategy(size=len(os.sched_getaffinity(0)))
    clips = ray.data.read_webdataset(shards, decoder=None, file_extensions=None, num_cpus=OTHER_CPUS)
    rows = clips.map_batches(Embed, batch_size=BATCH, num_cpus=ACTOR_CPUS, compute=actors)
    rows.write_parquet(out, ray_remote_args={"num_cpus": OTHER_CPUS})


if __name__ == "__main__":
    main(*sys.argv[1:])
