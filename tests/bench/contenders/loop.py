"""The limit: one process per core, one thread each, PyAV -> network -> one Parquet file per process.

    python -m tests.bench.contenders.loop every|sampled SHARDS OUT

Knows processes; nothing of Ray, no vidmill code.
"""

import multiprocessing
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.bench.contenders.byhand import Embedder, Sampler, clips_of, every_frame, sampled_frames

SAMPLERS: dict[str, Sampler] = {"every": every_frame, "sampled": sampled_frames}


def work(shards: "multiprocessing.Queue[Path | None]", sampler: str, target: Path) -> None:
    """Take shards until there are none, then write what was found."""
    embed, sample = Embedder(), SAMPLERS[sampler]
    ids: list[str] = []
    vectors: list[np.ndarray] = []
    while (shard := shards.get()) is not None:
        for clip_id, data in clips_of(shard):
            ids.append(clip_id)
            vectors.append(embed(sample(data)))
    if ids:
        pq.write_table(pa.table({"clip_id": ids, "embedding": list(vectors)}), target, compression="zstd")


def main(sampler: str, source: str, out: str) -> None:
    """Start the processes and wait."""
    Path(out).mkdir(parents=True)
    context = multiprocessing.get_context("fork")
    count = len(os.sched_getaffinity(0))
    shards: multiprocessing.Queue[Path | None] = context.Queue()
    for shard in [*sorted(Path(source).glob("*.tar.gz")), *[None] * count]:
        shards.put(shard)
    workers = [context.Process(target=work, args=(shards, sampler, Path(out) / f"{index}.parquet")) for index in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    sys.exit(any(worker.exitcode for worker in workers))


if __name__ == "__main__":
    main(*sys.argv[1:])
