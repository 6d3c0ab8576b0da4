"""SIGKILL at every edge of the publication protocol, on disk and in S3: the next run goes on, and nothing is lost, double or half there."""

import signal
from pathlib import Path

import pytest

from infra.crash_point import VARIABLE, CrashPoint
from infra.settings import RunConfig
from tasks.plan import plan_run
from tasks.verify import verify
from tests.corpus import bad_clips, contents, files, name_of, write_tar
from tests.faults.checker import check_disturbed, check_finished, finished_clips, published_state
from tests.faults.zygote import Zygote
from tests.tasks.networks import DARK, LIGHT, MEDIUM, grey
from tests.tasks.runs import run, settings

CLIPS = 9  # more than one parcel holds
EDGES = {
    "a parcel was read": (CrashPoint.PARCEL, 0),
    "the shard was read": (CrashPoint.READ, 0),
    "the roster is written": (CrashPoint.ROSTER, 1),
    "some features of a parcel are staged": (CrashPoint.STAGED, 1),
    "everything is staged": (CrashPoint.COMPLETE, 1),
    "a fragment is written, not visible": (CrashPoint.WRITTEN, 2),
    "a published file is written, not visible": (CrashPoint.WRITTEN, 6),
    "a published file is visible": (CrashPoint.VISIBLE, 6),
    "the failures are published": (CrashPoint.FAILURES, 0),
    "one feature is published": (CrashPoint.FEATURE, 0),
    "two features are published": (CrashPoint.FEATURE, 1),
    "the clips are published": (CrashPoint.CLIPS, 1),
    "the fragments are gone": (CrashPoint.CLEARED, 0),
}
IN_S3 = ("a published file is written, not visible", "a published file is visible", "two features are published", "the clips are published")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards, the first with a clip that fails, and a third that is no archive at all."""
    folder = tmp_path_factory.mktemp("corpus")
    levels = (DARK, MEDIUM, LIGHT)
    for shard in range(2):
        clips = {f"{name_of(10 * shard + k)}.mp4": grey(levels[k % 3]) for k in range(CLIPS)}
        write_tar(folder / f"part_{shard}.tar.gz", clips | ({f"{name_of(99)}.mp4": bad_clips()["CORRUPT"]} if not shard else {}))
    (folder / "part_2.tar.gz").write_bytes(b"")
    return folder


def config_for(corpus: Path, folder: Path, output: str | None = None) -> RunConfig:
    folder.mkdir(exist_ok=True)
    config = settings(folder, {"kind": "kinetics", "uri": f"{corpus}/part_*.tar.gz"}, tag=["grey"])
    return config.model_copy(update={"output": output}) if output else config


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert run(config_for(corpus, folder)).status == "done"
    return folder / "out"


def kill_at(forks: Zygote, config: RunConfig, edge: str, fuse: Path) -> None:
    point, passes = EDGES[edge]
    fuse.write_bytes(b"." * passes)
    assert forks.run(config, {VARIABLE: f"{point}={fuse}"}) == -signal.SIGKILL, "the run never came to this edge"


@pytest.mark.parametrize("edge", EDGES)
def test_a_run_killed_at_any_edge_is_continued(forks: Zygote, corpus: Path, undisturbed: Path, tmp_path: Path, edge: str) -> None:
    """P1, P2, P3, P4, P5.

    P3 fails without the temporary file in infra.disk.publish, P1 without the roster that tasks.publish asks for, P2 and P4 without the known keys
    in tasks.workers, P5 without the comparison of etags in tasks.plan.
    """
    config = config_for(corpus, tmp_path)
    output = Path(config.output)
    kill_at(forks, config, edge, tmp_path / "fuse")
    check_disturbed(output, undisturbed)
    finished, published = finished_clips(output), published_state(output)
    summary = run(config)
    assert (summary.status, summary.problems) == ("done", ())
    check_finished(output, undisturbed)
    assert summary.clips == 2 * CLIPS + 2 - len(finished), "only what was in flight is computed again"
    assert {name: published_state(output)[name] for name in published} == published
    state = files(output)
    assert (plan_run(config).work, run(config).status) == ((), "nothing to do")
    assert files(output) == state


@pytest.mark.parametrize("edge", IN_S3)
def test_the_same_in_a_bucket(forks: Zygote, corpus: Path, undisturbed: Path, tmp_path: Path, bucket: str, edge: str) -> None:
    """P1, P2, P3: an upload that was not completed is not visible."""
    config = config_for(corpus, tmp_path, f"s3://{bucket}/out")
    kill_at(forks, config, edge, tmp_path / "fuse")
    assert run(config).status == "done"
    assert contents(config.output) == contents(undisturbed)
    assert not verify(config.output).faults
    assert plan_run(config).work == ()
