"""YouTube-8M's records by TensorFlow, and by Ray's reader, which needs it: writes the bench's shards, reads them, and what vidmill exported.

    python tensorflow_records.py make frame|video COUNT SEED OUT        seeded records, by tf.io.TFRecordWriter
                                 parse frame|batched|numpy|video SHARD  tf.data on one core, to uint8 or float arrays
                                 digest frame|video SHARD ...           every value, by record
                                 ray frame|video SHARD                  ray.data.read_tfrecords

Runs in an environment of its own, so it imports nothing of vidmill. The last line of its output is a JSON object.
"""

import hashlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

WIDTHS = {"rgb": 1024, "audio": 128}
BATCH = 64
PASSES = 5  # over a shard, timed together


def on_one_core() -> Any:
    """TensorFlow, in this process on one core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf


def make(tf: Any, level: str, count: int, seed: int, out: str) -> dict[str, Any]:
    """A shard: 160 to 300 frames of codes that are spread like quantised principal components, one to five labels."""
    random = np.random.default_rng(seed)
    with tf.io.TFRecordWriter(out) as writer:
        for number in range(count):
            writer.write((_frame_level if level == "frame" else _video_level)(tf, random, f"{number:04d}"))
    return {"records": count, "bytes": os.path.getsize(out)}


def _context(tf: Any, random: np.random.Generator, name: str) -> dict[str, Any]:
    labels = random.choice(3862, random.integers(1, 6), replace=False).tolist()
    return {"id": _bytes(tf, name.encode()), "labels": tf.train.Feature(int64_list=tf.train.Int64List(value=labels))}


def _bytes(tf: Any, value: bytes) -> Any:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _frame_level(tf: Any, random: np.random.Generator, name: str) -> bytes:
    frames = int(random.integers(160, 301))
    lists = {
        feature: tf.train.FeatureList(feature=[_bytes(tf, row.tobytes()) for row in _codes(random, frames, width)])
        for feature, width in WIDTHS.items()
    }
    context = tf.train.Features(feature=_context(tf, random, name))
    record: bytes = tf.train.SequenceExample(context=context, feature_lists=tf.train.FeatureLists(feature_list=lists)).SerializeToString()
    return record


def _codes(random: np.random.Generator, frames: int, width: int) -> np.ndarray:
    values: np.ndarray = np.clip(random.standard_normal((frames, width), np.float32) * 40 + 127, 0, 255).astype(np.uint8)
    return values


def _video_level(tf: Any, random: np.random.Generator, name: str) -> bytes:
    means = {
        f"mean_{feature}": tf.train.Feature(float_list=tf.train.FloatList(value=random.standard_normal(width).astype(np.float32)))
        for feature, width in WIDTHS.items()
    }
    record: bytes = tf.train.Example(features=tf.train.Features(feature=_context(tf, random, name) | means)).SerializeToString()
    return record


def dataset(tf: Any, kind: str, path: str) -> Any:
    """Parsed records; `batched` has TensorFlow parse many of them in one call."""
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    compression = "GZIP" if path.endswith(".gz") else ""
    records = tf.data.TFRecordDataset(path, compression_type=compression).with_options(options)
    context = {"id": tf.io.FixedLenFeature([], tf.string), "labels": tf.io.VarLenFeature(tf.int64)}
    if kind == "video":
        means = {f"mean_{feature}": tf.io.FixedLenFeature([width], tf.float32) for feature, width in WIDTHS.items()}
        return records.batch(BATCH).map(lambda batch: tf.io.parse_example(batch, context | means))
    if kind == "batched":
        ragged = {feature: tf.io.RaggedFeature(tf.string) for feature in WIDTHS}
        return records.batch(BATCH // 4).map(lambda batch: _decoded_batch(tf, *tf.io.parse_sequence_example(batch, context, ragged)[:2]))
    lists = {feature: tf.io.FixedLenSequenceFeature([], tf.string) for feature in WIDTHS}
    return records.map(lambda record: _decoded(tf, *tf.io.parse_single_sequence_example(record, context, lists)))


def _decoded(tf: Any, context: dict[str, Any], lists: dict[str, Any]) -> dict[str, Any]:
    return context | {feature: tf.reshape(tf.io.decode_raw(lists[feature], tf.uint8), [-1, width]) for feature, width in WIDTHS.items()}


def _decoded_batch(tf: Any, context: dict[str, Any], lists: dict[str, Any]) -> dict[str, Any]:
    return context | {feature: tf.reshape(tf.io.decode_raw(lists[feature].flat_values, tf.uint8), [-1, width]) for feature, width in WIDTHS.items()}


def parse(tf: Any, kind: str, path: str) -> dict[str, Any]:
    """Inside TensorFlow's graph, which sums up, so that every array is made and none leaves it; or, `numpy`, handed to Python one by one."""
    parsed = dataset(tf, "frame" if kind == "numpy" else kind, path)
    size = (lambda one: tf.shape(one["id"])[0]) if kind in ("video", "batched") else (lambda one: 1)
    bulk = (lambda one: tf.size(one["mean_rgb"])) if kind == "video" else (lambda one: tf.size(one["rgb"]))

    @tf.function  # type: ignore[untyped-decorator]
    def summed() -> Any:
        return parsed.reduce((0, 0), lambda state, one: (state[0] + size(one), state[1] + bulk(one)))

    def once() -> int:
        return sum(1 for _ in parsed.as_numpy_iterator()) if kind == "numpy" else int(summed()[0])

    once()  # builds the graph
    return repeated(path, once)


def repeated(path: str, once: Callable[[], int]) -> dict[str, Any]:
    """What one of several passes over a shard cost."""
    cost = timed(path, lambda: max(once() for _ in range(PASSES)))
    return cost | {clock: cost[clock] / PASSES for clock in ("wall_s", "cpu_s")}


def timed(path: str, work: Callable[[], int]) -> dict[str, Any]:
    """What some work on a shard cost."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    count = work()
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"records": count, "bytes": os.path.getsize(path), "wall_s": wall_s, "cpu_s": cpu_s, "peak_mb": peak_mb}


def digests(tf: Any, kind: str, paths: list[str]) -> dict[str, str]:
    """A digest of every value of every record, by id."""
    return {name: digest(labels, values) for path in paths for name, labels, values in values_of(tf, kind, path)}


def digest(labels: list[int], values: list[np.ndarray]) -> str:
    """Of labels, and of rgb and audio."""
    return hashlib.sha256(b"".join([repr(sorted(labels)).encode(), *(np.ascontiguousarray(value).tobytes() for value in values)])).hexdigest()


def values_of(tf: Any, kind: str, path: str) -> Iterator[tuple[str, list[int], list[np.ndarray]]]:
    """Each record's id, labels and arrays."""
    if kind == "frame":
        for one in dataset(tf, "frame", path):
            yield one["id"].numpy().decode(), one["labels"].values.numpy().tolist(), [one[feature].numpy() for feature in WIDTHS]
        return
    for batch in dataset(tf, "video", path):
        labels = tf.RaggedTensor.from_sparse(batch["labels"]).to_list()
        for row, name in enumerate(batch["id"].numpy()):
            yield name.decode(), labels[row], [batch[f"mean_{feature}"][row].numpy() for feature in WIDTHS]


def by_ray(level: str, path: str) -> dict[str, Any]:
    """Ray's reader with one core, told the features' types; what it started before is not counted."""
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error", configure_logging=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    refusal = _refusal(path)
    found: list[Any] = []

    def read() -> int:
        found.append(ray.data.read_tfrecords(path, tf_schema=_types(level)).materialize())
        return int(found[0].count())

    cost = timed(path, read)
    columns = sorted(found[0].columns())
    held = {row["id"][0].decode(): ray_digest(row) for row in found[0].iter_rows()} if "mean_rgb" in columns else {}
    return cost | {"cpu_s": None, "peak_mb": None, "columns": columns, "digests": held, "refusal": refusal}


def _refusal(path: str) -> str:
    """What Ray says of the shard when it is told no types; empty where it reads it."""
    import ray

    try:
        ray.data.read_tfrecords(path).materialize()
    except Exception as error:
        words = " ".join(str(error).split())
        return words[max(0, words.find("Field ")) :].partition(" The above")[0][:200]
    return ""


def _types(level: str) -> Any:
    from tensorflow_metadata.proto.v0 import schema_pb2

    types = {"id": schema_pb2.BYTES, "labels": schema_pb2.INT} | ({f"mean_{name}": schema_pb2.FLOAT for name in WIDTHS} if level == "video" else {})
    return schema_pb2.Schema(feature=[schema_pb2.Feature(name=name, type=kind) for name, kind in types.items()])


def ray_digest(row: dict[str, Any]) -> str:
    """As `digest`, of a row of Ray's."""
    return digest(list(row["labels"]), [np.array(row[f"mean_{feature}"], np.float32) for feature in WIDTHS])


def main(mode: str, *words: str) -> dict[str, Any]:
    """One measurement."""
    if mode == "ray":
        return by_ray(*words)
    tf = on_one_core()
    if mode == "make":
        return make(tf, words[0], int(words[1]), int(words[2]), words[3])
    if mode == "parse":
        return parse(tf, *words)
    return digests(tf, words[0], list(words[1:]))


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
