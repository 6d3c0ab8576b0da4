"""P9: the memory of a worker and of publication does not grow with a shard of YouTube-8M."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.corpus import config_for, table
from tests.faults.test_enhance_memory import watched
from tests.tasks.records import shard, write
from tests.tasks.runs import run

SMALL, LARGE = 290, 1740  # records of 345 KB: 100 MB, which is passes enough to fill every buffer, and 600 MB
MORE_BYTES = 60 << 20  # that the larger may take: clip ids, and pages that the allocator has not given back


def main(source: str, output: str) -> None:
    """Read, parse, stage and publish in this process; prints the largest PSS that it had."""
    with watched(0.05) as seen:
        assert run(config_for({"kind": "youtube8m", "uri": source}, output)).status == "done"
    print(json.dumps(max(seen)))


@pytest.mark.nightly
def test_six_times_the_shard_takes_no_more_memory(tmp_path: Path) -> None:
    """Without passes bounded by bytes (tasks.passes.BYTES) publication would hold the shard; with larger row groups, several times over."""
    peaks = []
    for count in (SMALL, LARGE):
        path = write(tmp_path / str(count) / "train0.tfrecord", shard(3, count, frames=300))
        command = [sys.executable, "-m", "tests.faults.test_record_memory", str(path.parent) + "/", str(tmp_path / f"out {count}")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        peaks.append(json.loads(done.stdout))
        assert table(tmp_path / f"out {count}", "clips").num_rows == count
        path.unlink()
    assert peaks[1] < peaks[0] + MORE_BYTES, peaks


if __name__ == "__main__":
    main(*sys.argv[1:])
