"""P2: two vidmills on one output, as programs; and a driver that slept past its lease."""

import os
import signal
import time
from pathlib import Path

import pytest

from infra import lease as leases
from infra import storage
from infra.lease import Lease, LeaseLost, lease
from infra.problem import Problem
from tasks.verify import verify
from tests.corpus import clip, files, name_of, table, write_shards, write_tar
from tests.faults import here
from tests.faults.proxy import Proxy, refuse, without
from tests.flows.program import Program, program, until, vidmill
from tests.tasks.runs import settings

SHARDS, CLIPS = 2, 16
LONG_AGO_S = 3600


def arguments(corpus: Path) -> list[str]:
    source = ["--source.kind", "kinetics", "--source.uri", f"{corpus}/part_*.tar.gz"]
    return ["run", *source, "--output", "out", "--embed", "mobilenet-v2", "--cluster.cpus", "1"]


def stop_at_first_fragment(run: Program, output: Path) -> None:
    """Stop the driver in the middle of its run, before any shard is whole."""
    assert until(lambda: any(output.glob("_wip/**/embeddings/**/*.fragment")) or run.process.poll() is not None, timeout_s=90)
    os.kill(run.process.pid, signal.SIGSTOP)


def visible(output: Path) -> dict[str, tuple[tuple[int, int], bytes]]:
    """Every file of the tables: size, time of change, content."""
    found = files(output)
    return {name: (found[name], (output / name).read_bytes()) for name in found if name.endswith(".parquet")}


@pytest.mark.nightly  # three whole runs; of the lease's every edge: tests/infra/test_lease.py and below
def test_one_writes_one_is_turned_away_one_takes_over_and_the_first_wakes_too_late(tmp_path: Path) -> None:
    """P2, P3: without the lease the second program would write; without the takeover the last would be turned away too (of a killed one: test_kill).

    Without `guard` in tasks.publish and `Lease.confirm`, the first, stopped in the middle of its run and woken when it is over, would write again.
    """
    write_shards(tmp_path / "corpus", shards=SHARDS, clips=CLIPS)
    output, command = tmp_path / "out", arguments(tmp_path / "corpus")
    lease_path = output / "_wip" / "lease.json"
    with program(*command, cwd=tmp_path) as sleeper:
        stop_at_first_fragment(sleeper, output)
        code, out, err = vidmill(*command, cwd=tmp_path)
        assert (code, out) == (2, "")
        (line,) = [line for line in err.splitlines() if line.startswith("vidmill: error: ")]
        for part in (
            f"(host {os.uname().nodename}, pid {sleeper.process.pid}) is writing here since ",
            "run 20",
            "last heartbeat ",
            "wait for it, stop",
        ):
            assert part in line
        assert "Traceback" not in err
        os.utime(lease_path, (time.time() - LONG_AGO_S, time.time() - LONG_AGO_S))
        code, out, err = vidmill(*command, cwd=tmp_path)
        assert code == 0, err
        assert table(output, "embeddings").num_rows == SHARDS * CLIPS
        before = visible(output)
        os.kill(sleeper.process.pid, signal.SIGCONT)
        code, out, err = sleeper.end(60)
        assert (code, out) == (1, "")
        line = "another run took this output over, when this one had not renewed it for 60 s; run this one again"
        assert err.splitlines()[-1] == f"vidmill: error: out/_wip/lease.json: {line}"
        assert "Traceback" not in err
    assert visible(output) == before
    assert not verify(str(output)).faults


CHANGES = ["failures", "tags", "embeddings", "clips"]  # of a shard that is published again without its failure, in this order


@pytest.mark.parametrize("made", [0, 2, *(pytest.param(made, marks=pytest.mark.nightly) for made in range(len(CHANGES) + 1) if made not in (0, 2))])
def test_who_lost_its_lease_changes_nothing_from_then_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: int) -> None:
    """P2, P3: without `guard` before each visible change a publication that had begun would go on after the lease was taken."""
    here.without_ray(monkeypatch)
    archive, output = tmp_path / "corpus" / "part_0.tar.gz", tmp_path / "out"
    config = settings(tmp_path, {"kind": "kinetics", "uri": str(archive)}, tag=["grey"])
    write_tar(archive, {f"{name_of(0)}.mp4": b"damaged", f"{name_of(1)}.mp4": clip(1)})
    assert here.run(config).status == "done"
    before = visible(output)
    write_tar(archive, {f"{name_of(0)}.mp4": clip(0), f"{name_of(1)}.mp4": clip(1)})
    asked: list[Lease] = []

    def stolen_meanwhile(held: Lease) -> None:
        asked.append(held)
        if len(asked) > made:
            steal(f"{output}/_wip/lease.json")
        confirm(held)

    confirm = Lease.confirm
    monkeypatch.setattr(Lease, "confirm", stolen_meanwhile)
    with pytest.raises(LeaseLost, match="another run took this output over"):
        here.run(config)
    changed = {name for name in before if visible(output).get(name) != before[name]}
    assert {name.partition("/")[0] for name in changed} == set(CHANGES[:made])
    assert list(output.glob("_wip/shard=part_0/**/*.fragment")), "what is staged is the new holder's"


def steal(uri: str) -> None:
    there = storage.read_versioned(uri)
    storage.write_bytes(uri, there.data.replace(b'"token": "', b'"token": "x'))


@pytest.fixture
def deaf(proxy: Proxy) -> Proxy:
    """A store that knows no conditions."""
    proxy.breaks(without("If-Match", "If-None-Match"), times=None)
    return proxy


def test_where_conditions_are_ignored_a_visible_holder_still_turns_others_away(deaf: Proxy, bucket: str) -> None:
    """P2: without reading the lease first, the second would overwrite it and then find out that this was possible."""
    output = f"s3://{bucket}/out"
    with lease(output, run_id="first") as held:
        (notice,) = held.notices
        assert notice.startswith(f"{output}/_wip/lease.json: this store ignores conditions on writing")
        with pytest.raises(Problem, match="run first of "), lease(output, run_id="second"):
            pytest.fail("two at once")
        held.confirm()
    with lease(output, run_id="third"):
        pass


def test_where_conditions_are_ignored_a_holder_that_was_replaced_finds_out(deaf: Proxy, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """P2: without _is_ours in Lease._rewritten the heartbeat would overwrite the new holder's lease."""
    monkeypatch.setattr(leases, "HEARTBEAT_S", 0.05)
    uri = f"s3://{bucket}/out/_wip/lease.json"
    with lease(f"s3://{bucket}/out", run_id="first") as held:
        steal(uri)
        stolen = storage.read_bytes(uri)
        assert until(lambda: held.lost, timeout_s=20)
    assert storage.read_bytes(uri) == stolen


def test_a_process_that_could_not_delete_its_lease_may_take_it_again(proxy: Proxy, bucket: str) -> None:
    """P8: without _live in infra.lease a program that runs a corpus twice would be turned away by itself for a minute."""
    output = f"s3://{bucket}/out"
    with lease(output, run_id="first"):
        proxy.breaks(refuse(503, "SlowDown"), times=None)
    proxy.heal()
    assert storage.exists(f"{output}/_wip/lease.json")
    with lease(output, run_id="again"):
        pass
