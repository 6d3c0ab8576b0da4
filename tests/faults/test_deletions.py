"""SIGKILL while a deleted archive is dropped: the next run drops the rest, `verify` finds nothing wrong; who lost the lease drops nothing."""

import signal
from pathlib import Path

import pytest

from infra import storage
from infra.crash_point import VARIABLE, CrashPoint
from infra.lease import LeaseLost
from infra.settings import RunConfig
from tasks.deleted import drop_shards
from tasks.plan import RunPlan
from tasks.record import last_record
from tasks.verify import verify
from tests.corpus import bad_clips, name_of, write_tar
from tests.faults.zygote import Zygote
from tests.tasks.networks import LIGHT, MEDIUM, grey
from tests.tasks.runs import planned, run, settings

PLACES = 7  # failures, embeddings, two restored tables, two folders of media, clips


def config_for(folder: Path, output: str) -> RunConfig:
    source = {"kind": "kinetics", "uri": f"{folder}/corpus/", "deleted": "drop"}
    return settings(folder, source, enhance=["denoise", "upscale-x2"]).model_copy(update={"output": output})


def publish(folder: Path, output: str) -> RunConfig:
    """Two archives, and then only one."""
    for shard in range(2):
        clips = {f"{name_of(10 * shard + k)}.mp4": grey((MEDIUM, LIGHT)[k]) for k in range(2)}
        write_tar(folder / "corpus" / f"part_{shard}.tar.gz", {**clips, f"{name_of(99)}.mp4": bad_clips()["CORRUPT"]} if shard else clips)
    config = config_for(folder, output)
    assert run(config).status == "done"
    (folder / "corpus" / "part_1.tar.gz").unlink()
    return config


def held(output: str) -> list[str]:
    """Everything that is left of the deleted archive."""
    return [found.uri for found in storage.walk(output) if "part_1" in found.uri]


def check_killed(forks: Zygote, config: RunConfig, fuse: Path, done: int) -> None:
    before = held(config.output)
    fuse.write_bytes(b"." * done)
    assert forks.run(config, {VARIABLE: f"{CrashPoint.DROPPED}={fuse}"}) == -signal.SIGKILL, "the run never came to this edge"
    left = held(config.output)
    assert len(left) < len(before)
    assert bool(left) is (done < PLACES - 1)
    assert verify(config.output).faults == []
    summary = run(config)
    assert (summary.status, held(config.output)) == ("done" if left else "nothing to do", [])
    assert (run(config).status, verify(config.output).faults) == ("nothing to do", [])
    record = last_record(config.output)
    assert record is not None
    assert record["shards"] == ["part_0"]


@pytest.mark.parametrize("done", [0, 3, 5, *(pytest.param(done, marks=pytest.mark.nightly) for done in (1, 2, 4, 6))])
def test_a_run_killed_while_it_drops_is_continued(forks: Zygote, tmp_path: Path, done: int) -> None:
    """P2, P11: without `dropped` in the record, verify would take restored videos whose rows are gone for strays."""
    check_killed(forks, publish(tmp_path, str(tmp_path / "out")), tmp_path / "fuse", done)


@pytest.mark.nightly
@pytest.mark.parametrize("done", [0, 4, 6])
def test_the_same_in_a_bucket(forks: Zygote, tmp_path: Path, bucket: str, done: int) -> None:
    check_killed(forks, publish(tmp_path, f"s3://{bucket}/out"), tmp_path / "fuse", done)


def test_who_lost_the_lease_drops_nothing(tmp_path: Path) -> None:
    """P2: a zombie of last night must not delete what this night published."""
    config = publish(tmp_path, str(tmp_path / "out"))
    plan: RunPlan = planned(config)
    before = held(config.output)

    def lost() -> None:
        raise LeaseLost("taken over")

    assert plan.dropped == ("part_1",)
    with pytest.raises(LeaseLost):
        drop_shards(config.output, plan.dropped, lost)
    assert held(config.output) == before
