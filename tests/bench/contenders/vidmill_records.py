"""YouTube-8M's records by vidmill, each step alone on one core.

    python -m tests.bench.contenders.vidmill_records parse SHARD               read and parse, to arrays
                                                     means SHARD               the same, and the means over them
                                                     parquet SHARD OUT         a whole run in this process: read, parse, stage, publish
                                                     export OUT TO             and back
                                                     digest OUT                every value in Parquet, by record
                                                     tagger NETWORK            a tagger's scores; its weights are random, which costs the same

The last line of its output is a JSON object.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tests.bench.contenders.tensorflow_records import WIDTHS, digest, repeated, timed

MODELS = {"rgb": "yt8m-inception3", "audio": "yt8m-vggish"}
SEQUENCES, FRAMES, CLASSES, BATCH = 64, 300, 3862, 16


def parse(path: str, *, means: bool = False) -> dict[str, Any]:
    """Every record as arrays; the first pass is not counted, as elsewhere."""
    from infra import storage
    from tasks.tfrecord import Record, records
    from tasks.youtube8m import parse

    def once() -> int:
        count = 0
        with storage.open_stream(path) as stream:
            for item in records(stream, max_bytes=512 << 20):
                assert isinstance(item, Record)
                record = parse(item.data)
                assert not record.faults
                if means:
                    assert all(record.mean(feature) is not None for feature in WIDTHS)
                count += 1
        return count

    once()
    return repeated(path, once)


def parquet(shard: str, out: str) -> dict[str, Any]:
    """Shard to Parquet."""
    from tests.corpus import config_for
    from tests.tasks.runs import run

    config = config_for({"kind": "youtube8m", "uri": shard}, out)

    def once() -> int:
        summary = run(config)
        assert summary.status == "done", summary.problems
        return summary.clips

    cost = timed(shard, once)
    return cost | {"parquet_bytes": sum(path.stat().st_size for path in Path(out).rglob("*.parquet"))}


def export(out: str, to: str) -> dict[str, Any]:
    """Parquet to shard."""
    from tasks.export_youtube8m import Export
    from tasks.export_youtube8m import export as written

    (shard,) = Path(out, "clips").glob("*.parquet")
    Path(to).mkdir(parents=True)
    Path(to, "probe").write_bytes(b"")
    cost = timed(f"{to}/probe", lambda: written(Export(out, to)).records)
    return cost | {"bytes": Path(to, f"{shard.stem}.tfrecord").stat().st_size}


def digests(out: str) -> dict[str, str]:
    """As TensorFlow's, from the tables: frames where there are any, else the means."""
    (clips,) = Path(out, "clips").glob("*.parquet")
    labels = pq.ParquetFile(clips).read(columns=["clip_id", "label_ids"])
    found: dict[str, list[np.ndarray]] = {name: [] for name in labels["clip_id"].to_pylist()}
    for feature, width in WIDTHS.items():
        (path,) = Path(out, f"embeddings/model={MODELS[feature]}").glob("*/*.parquet")
        for batch in pq.ParquetFile(path, buffer_size=1 << 20).iter_batches(64, columns=["clip_id", "embedding", "frame_codes"]):
            for row in range(len(batch)):
                codes = batch["frame_codes"][row].values
                mean = np.array(batch["embedding"][row].as_py(), np.float32)
                frames = np.frombuffer(b"".join(codes.to_pylist()), np.uint8).reshape(-1, width)
                found[batch["clip_id"][row].as_py()].append(frames if len(frames) else mean)
    ids = dict(zip(labels["clip_id"].to_pylist(), labels["label_ids"].to_pylist(), strict=True))
    return {name: digest(ids[name], values) for name, values in found.items()}


def tagger(network: str) -> dict[str, Any]:
    """Sequences of five minutes, one core."""
    import torch
    from safetensors.torch import save_file

    from models.tagger import METADATA, Tagger, TaggerInput, TaggerShape, network_of

    torch.set_num_threads(1)
    torch.manual_seed(0)
    inputs = tuple(TaggerInput(model, WIDTHS[feature]) for feature, model in MODELS.items())
    shape = TaggerShape(network, inputs, tuple(map(str, range(CLASSES))))
    random = np.random.default_rng(0)
    sequences = [random.standard_normal((FRAMES, sum(WIDTHS.values())), np.float32) for _ in range(BATCH)]
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        save_file(network_of(shape).state_dict(), file.name, {METADATA: shape.encoded()})
        tool = Tagger(file.name, "cpu")

    def once(batches: Iterable[int]) -> int:
        return sum(len(tool.scores(sequences)) for _ in batches)

    once(range(1))
    return timed(os.devnull, lambda: once(range(SEQUENCES // BATCH)))


def main(mode: str, *words: str) -> dict[str, Any]:
    """One measurement."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    modes: dict[str, Callable[..., dict[str, Any]]] = {
        "parse": parse,
        "means": partial(parse, means=True),
        "parquet": parquet,
        "export": export,
        "digest": digests,
        "tagger": tagger,
    }
    return modes[mode](*words)


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
