"""SIGKILL of everything at five moments; the rerun continues, and what is published equals an undisturbed run's."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from tasks.verify import verify
from tests.corpus import config_for, contents, files, write_shards
from tests.e2e.conftest import Run

SHARDS, CLIPS = 3, 24
TIMEOUT_S = 120


def published(output: Path, folder: str) -> bool:
    return any(output.glob(f"{folder}/**/*.parquet"))


MOMENTS: dict[str, Callable[[Path], bool]] = {
    "the lease is taken": lambda output: (output / "_wip" / "lease.json").exists(),
    "a fragment is staged": lambda output: any(output.glob("_wip/*/tags/**/*.fragment")),
    "a shard was read to its end": lambda output: any(output.glob("_wip/*/roster-*.fragment")),
    "a feature of a shard is visible": lambda output: published(output, "tags"),
    "a shard is published": lambda output: published(output, "clips"),
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_shards(folder, shards=SHARDS, clips=CLIPS)
    (folder / "part_9.tar.gz").write_bytes(b"")
    return folder


def settings(corpus: Path, output: Path):
    return config_for({"kind": "kinetics", "uri": f"{corpus}/part_*.tar.gz"}, output, tag=["efficientnet-lite0"])


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory, ray_here: None):
    from flows.process_corpus import process_corpus

    output = tmp_path_factory.mktemp("undisturbed") / "out"
    process_corpus.fn(settings(corpus, output))
    return contents(output)


def start(corpus: Path, output: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "flows.cli", "run", "--source.kind", "kinetics", "--source.uri", f"{corpus}/part_*.tar.gz"]
    command += ["--output", str(output), "--tag", "efficientnet-lite0"]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_when(moment: Callable[[Path], bool], process: "subprocess.Popen[bytes]", output: Path) -> None:
    """Kill the process group and whatever of it lives in groups of its own, as a machine's power cut would."""
    end_s = time.monotonic() + TIMEOUT_S
    while not moment(output):
        assert process.poll() is None, "the run ended before the moment came"
        assert time.monotonic() < end_s
        time.sleep(0.002)
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait(10)


def finished_clips(output: Path) -> set[str]:
    """Clips staged for every feature (tags are staged last) or published, and failures."""
    rows = [*output.glob("_wip/*/tags/**/*.fragment"), *output.glob("tags/**/*.parquet")]
    failures = [*output.glob("_wip/*/failures/*.fragment"), *output.glob("failures/*.parquet")]
    clips = {clip for path in rows for clip in pq.ParquetFile(path).read(["clip_id"])["clip_id"].to_pylist()}
    return clips | {member for path in failures for member in pq.ParquetFile(path).read(["member"])["member"].to_pylist()}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_continues_without_loss_or_duplicates(run: Run, corpus: Path, undisturbed: object, tmp_path: Path, moment: str) -> None:
    """P1, P2, P3, P4: without the atomic rename a half-written file would be visible; without the roster a hole could be published."""
    output = tmp_path / "out"
    kill_when(MOMENTS[moment], start(corpus, output), output)
    finished = finished_clips(output)
    seen = files(output)
    summary = run(settings(corpus, output))
    assert (summary.status, summary.problems) == ("done", ())
    assert summary.clips == SHARDS * CLIPS + 1 - len(finished), "only clips that were in flight are computed again"
    assert contents(output) == undisturbed
    assert not verify(str(output)).faults
    visible = {name: state for name, state in seen.items() if name.endswith(".parquet") and not name.startswith("_")}
    assert {name: files(output)[name] for name in visible} == visible
    after = files(output)
    assert run(settings(corpus, output)).status == "nothing to do"
    assert files(output) == after
