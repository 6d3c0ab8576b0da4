"""What a night without change costs: `python -m tests.bench.nothing_to_do [--shards 10000] [--endpoint http://127.0.0.1:5000]`.

    an output of many small shards, without its index and with it  ->  a run that has nothing to do: seconds, and what it asked of the storage

The archives are a few bytes that nobody opens; the tables have the footers of a run's. With an endpoint of an S3 server (such as `moto_server`, with
its credentials in the environment) corpus and output lie in a bucket there.
"""

import argparse
import io
import json
import os
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq

from flows.process_corpus import process_corpus
from infra import disk, s3_request, storage
from infra.settings import RunConfig
from tasks.feature import features_of
from tasks.labels import labels_etag
from tasks.plan import RunPlan, plan_run
from tasks.published import FAILURES_FOLDER, Footer, index_files, path_of
from tasks.record import write_record
from tasks.rows import failure_rows
from tasks.schema import CLIPS, FAILURES
from tests.corpus import config_for
from tests.tasks.shards import failure

THREADS = 16


def config_in(root: str) -> RunConfig:
    """A nightly run: two tables beside the clips."""
    return config_for({"kind": "kinetics", "uri": f"{root}/corpus/"}, f"{root}/out", tag=["efficientnet-lite0"], limits={"max_failed": 1_000_000})


def fill(config: RunConfig, shards: int) -> None:
    """The corpus, and the output of a run over it; every fourth shard has a failure."""
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda number: _put(f"{config.source.uri}part_{number:06d}.tar", b"x"), range(shards)))
        plan = plan_run(config)
        list(pool.map(lambda number: _publish(plan, number), range(shards)))
    write_record(plan, "20260101T000000000-aaaaaa", "done")


def _publish(plan: RunPlan, number: int) -> None:
    shard, failed = plan.corpus.shards[number], number % 4 == 0
    common = {"corpus": plan.corpus.identity, "source_etag": shard.etag, "run_id": "20260101T000000000-aaaaaa", "planned": int(failed)}
    for feature in plan.features:
        labels = labels_etag(plan.corpus, shard) if feature.table == "clips" else ""
        footer = Footer(model=feature.model or "", version=feature.version, labels_etag=labels, failed=int(failed), clipless=int(failed), **common)
        _put(path_of(plan.config.output, feature.folder, shard.name), _parquet(CLIPS.empty_table(), footer))
    if failed:
        rows = failure_rows([failure(f"{shard.name}-bad")], shard=shard.name, run_id="r")
        footer = Footer(model="", version="", labels_etag="", failed=1, clipless=1, **common)
        _put(path_of(plan.config.output, FAILURES_FOLDER, shard.name), _parquet(rows.cast(FAILURES), footer))


def _parquet(rows: pa.Table, footer: Footer) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(rows.replace_schema_metadata(footer.metadata()), buffer)
    return buffer.getvalue()


def _put(uri: str, data: bytes) -> None:
    """Without the fsync that would be most of the work."""
    if uri.startswith("s3://"):
        storage.write_bytes(uri, data)
        return
    Path(uri).parent.mkdir(parents=True, exist_ok=True)
    Path(uri).write_bytes(data)


@contextmanager
def asked() -> Iterator[Counter[str]]:
    """Requests by kind, and files opened."""
    counts: Counter[str] = Counter()
    open_seekable, read_versioned, once = disk.open_seekable, disk.read_versioned, s3_request._once

    def opened(found: storage.ObjectInfo) -> Any:
        counts["files opened"] += 1
        return open_seekable(found)

    def read(path: str) -> Any:
        counts["files opened"] += 1
        return read_versioned(path)

    def requested(client: Any, method: str, arguments: dict[str, Any]) -> Any:
        counts[method] += 1
        return once(client, method, arguments)

    with patch.object(disk, "open_seekable", opened), patch.object(disk, "read_versioned", read), patch.object(s3_request, "_once", requested):
        yield counts


@dataclass(frozen=True, slots=True)
class Night:
    """What one run with nothing to do cost."""

    seconds: float
    requests: dict[str, int]
    per_shard: float  # requests


def night(config: RunConfig, shards: int) -> Night:
    """One run with nothing to do."""
    with asked() as counts:
        started_s = time.monotonic()
        summary = process_corpus.fn(config)
        elapsed_s = time.monotonic() - started_s
    assert summary.status == "nothing to do", summary
    return Night(round(elapsed_s, 2), dict(counts), round(sum(counts.values()) / shards, 4))


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill, and run twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--endpoint", help="of an S3 server; none uses a temporary folder")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="vidmill-bench-") as folder:
        root = folder
        if given.endpoint:
            os.environ["AWS_ENDPOINT_URL"], root = given.endpoint, f"s3://bench-{uuid.uuid4().hex}"
            s3_request.request(root, "create_bucket", Bucket=root.removeprefix("s3://"))
        config = config_in(root)
        fill(config, given.shards)
        results = {"shards": given.shards, "tables": len(features_of(config)), "without index": asdict(night(config, given.shards))}
        for place in (FAILURES_FOLDER, *(feature.folder for feature in features_of(config))):
            index_files(config.output, place)
        results["with index"] = asdict(night(config, given.shards))
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
