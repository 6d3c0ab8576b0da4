"""SIGKILL of everything a run is made of, by plan and by chance; whatever is left, the same command goes on and ends as an undisturbed run.

driver   reader (task)   worker (actor)   decoder   raylet   a whole node
"""

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flows.process_corpus import process_corpus
from infra.crash_point import VARIABLE, CrashPoint
from infra.settings import RunConfig
from tests.corpus import bad_clips, config_for, name_of, write_tar
from tests.faults.checker import check_disturbed, check_finished, finished_clips
from tests.flows.program import Program, program, until, vidmill
from tests.media import kinetics_like

SHARDS, CLIPS = 3, 12
TIMEOUT_S = 120
SEEDS = range(20)
VICTIMS = ("driver", "raylet", "gcs_server", "ray::MapWorker", "ray::", "tasks.decoder")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards of real clips, each with one that is broken."""
    folder = tmp_path_factory.mktemp("corpus")
    real = [kinetics_like(seconds=seconds, rate=25, name=name) for name in ("bikes.mp4", "bigbuckbunny.mp4") for seconds in (1, 2, 3)]
    for shard in range(SHARDS):
        names = [name_of(CLIPS * shard + k) for k in range(CLIPS)]
        clips = [*(real[k % len(real)] for k in range(CLIPS - 1)), bad_clips()["TRUNCATED"]]
        write_tar(folder / f"part_{shard}.tar.gz", {f"{name}.mp4": data for name, data in zip(names, clips, strict=True)})
    return folder


def settings(corpus: Path, output: Path) -> RunConfig:
    return config_for({"kind": "kinetics", "uri": f"{corpus}/*.tar.gz"}, output, tag=["efficientnet-lite0"])


def arguments(corpus: Path, output: Path) -> list[object]:
    return ["run", "--source.kind", "kinetics", "--source.uri", f"{corpus}/*.tar.gz", "--output", output, "--tag", "efficientnet-lite0"]


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory, ray_here: None) -> Path:
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    assert process_corpus.fn(settings(corpus, output)).status == "done"
    return output


def staged(output: Path) -> bool:
    return any(output.glob("_wip/*/tags/**/*.fragment"))


def test_a_run_whose_driver_is_killed_is_continued(corpus: Path, undisturbed: Path, tmp_path: Path) -> None:
    """P1, P2, P4: without the lease's check of its holder's process (infra.lease._dead) the next run would be turned away."""
    output = tmp_path / "out"
    with program(*arguments(corpus, output), cwd=tmp_path) as started:
        assert until(lambda: staged(output), timeout_s=TIMEOUT_S)
        started.process.kill()
    finished = finished_clips(output)
    code, out, err = vidmill(*arguments(corpus, output), "--json", cwd=tmp_path)
    assert code == 0, err
    assert json.loads(out)["clips"] == SHARDS * CLIPS - len(finished), "only clips that were in flight are computed again"
    check_finished(output, undisturbed)


@pytest.mark.nightly
@pytest.mark.parametrize("point", [CrashPoint.PARCEL, CrashPoint.STAGED])
def test_a_run_survives_the_death_of_a_reader_and_of_a_worker(corpus: Path, undisturbed: Path, tmp_path: Path, point: CrashPoint) -> None:
    """P1, P2: both are run again, and send and stage the same clips; see also tests/tasks/test_workers.py of a reader that is run again."""
    output, fuse = tmp_path / "out", tmp_path / "fuse"
    fuse.write_bytes(b".")
    code, out, err = vidmill(*arguments(corpus, output), "--json", cwd=tmp_path, **{VARIABLE: f"{point}={fuse}"})
    assert (code, fuse.exists()) == (0, False), err
    assert json.loads(out)["clips"] == SHARDS * CLIPS
    check_finished(output, undisturbed)


@pytest.mark.nightly
def test_a_run_survives_the_loss_of_a_node(corpus: Path, undisturbed: Path, tmp_path: Path) -> None:
    """P1, P2, P6: without restarts (tasks.stage.RESTARTS) the first lost node would end the run."""
    output, config = tmp_path / "out", tmp_path / "config.json"
    config.write_text(settings(corpus, output).model_dump_json())
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.two_nodes", str(config)], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert "node lost" in done.stderr, done.stderr[-2000:]
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["status"], summary["problems"], summary["clips"]) == ("done", [], SHARDS * CLIPS)
    check_finished(output, undisturbed)


@pytest.mark.nightly
def test_a_run_whose_raylet_is_killed_ends_with_one_line_and_is_continued(corpus: Path, undisturbed: Path, tmp_path: Path) -> None:
    """P1, P11: the loss of Ray itself is no success; without flows.cli's last except it would be a traceback."""
    output = tmp_path / "out"
    with program(*arguments(corpus, output), cwd=tmp_path) as started:
        assert until(lambda: staged(output), timeout_s=TIMEOUT_S)
        kill_one(started, "raylet")
        code, _, err = started.end(TIMEOUT_S)
        assert until(lambda: not started.family(), timeout_s=30), "nothing of it is left"
    assert (code, "Traceback" in err, "run the same command again" in err) == (1, False, True), err
    check_disturbed(output, undisturbed)
    assert vidmill(*arguments(corpus, output), cwd=tmp_path)[0] == 0
    check_finished(output, undisturbed)


def kill_one(started: Program, victim: str, which: int = 0) -> bool:
    """Kill one process of a run; whether there was one."""
    found = [process for process in started.family() if victim in name_of_process(process)]
    if not found:
        return False
    found[which % len(found)].kill()
    return True


def name_of_process(process: psutil.Process) -> str:
    try:
        return f"{process.name()} {' '.join(process.cmdline()[:5])}"
    except psutil.Error:
        return ""


def schedule(seed: int) -> Iterator[tuple[float, str, int]]:
    """When after the last death who dies next: three deaths."""
    chance = random.Random(seed)
    for _ in range(3):
        yield chance.choice((0.0, 0.5, 1.0, 2.0, 4.0)) * chance.random(), chance.choice(VICTIMS), chance.randrange(8)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", SEEDS)
def test_random_deaths_change_nothing(corpus: Path, undisturbed: Path, tmp_path: Path, seed: int) -> None:
    """P1, P2, P3, P4: without fragments (tasks.staging) every death would cost the whole run, without their deduplication rows would come twice."""
    output, deaths = tmp_path / "out", list(schedule(seed))
    codes = []
    while deaths:
        with program(*arguments(corpus, output), cwd=tmp_path) as started:
            until(lambda: started.process.poll() is not None or (output / "_wip").exists(), timeout_s=TIMEOUT_S)
            while deaths and started.process.poll() is None:
                wait_s, victim, which = deaths.pop(0)
                time.sleep(wait_s)
                if victim == "driver":
                    started.process.kill()
                elif not until(lambda: kill_one(started, victim, which) or started.process.poll() is not None, timeout_s=20):  # noqa: B023
                    continue
            codes.append(started.end(TIMEOUT_S)[0])
        check_disturbed(output, undisturbed)
    assert set(codes) <= {0, 1, -9}, codes
    code, _, err = vidmill(*arguments(corpus, output), cwd=tmp_path)
    assert code == 0, err
    check_finished(output, undisturbed)
