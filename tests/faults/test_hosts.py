"""A cluster of several hosts under one run, one of which dies on the way: all rows, once, and those that are left do its share."""

import json
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra import storage
from tasks.verify import verify
from tests.corpus import bad_clips, clip, config_for, contents, name_of, table, write_tar
from tests.faults import here
from tests.faults.clusters import HostCluster, Nodes, await_nodes, hosts_allowed, on_hosts, on_raylets
from tests.faults.paced import PACE
from tests.flows.program import VIDMILL, until
from tests.tasks.networks import entry

SHARDS, CLIPS = 4, 24
PACE_S = 0.1  # of one clip: a parcel is 8 of them
RUN_S = 150


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of real clips, each with one that is broken."""
    folder = tmp_path_factory.mktemp("corpus")
    for shard in range(SHARDS):
        numbers = range(CLIPS * shard, CLIPS * (shard + 1))
        members = {f"{name_of(number)}.mp4": clip(number % 8) for number in numbers}
        write_tar(folder / f"part_{shard}.tar.gz", members | {f"{name_of(numbers[0])}.mp4": bad_clips()["TRUNCATED"]})
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A user's model, its weights on disk."""
    found = entry(tmp_path_factory.mktemp("model"), factory="tests.faults.paced:Paced", name="paced", task=["embed"], resize=128, crop=112)
    return {key: value for key, value in found.items() if key != "labels"}


@pytest.fixture(scope="module")
def on_one_machine(corpus: Path, model: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the same run leaves on one machine, in one process."""
    output = tmp_path_factory.mktemp("one") / "out"
    config = config_for({"kind": "kinetics", "uri": f"{corpus}/*.tar.gz"}, output, models=[model], embed=["paced"])
    with pytest.MonkeyPatch.context() as patch:
        here.without_ray(patch)
        assert here.run(config).status == "done"
    return output


KINDS = ["hosts", pytest.param("raylets", marks=pytest.mark.nightly)]


@pytest.fixture(params=KINDS)
def cluster(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Nodes]:
    """A cluster, the head alone: of hosts where asked for and allowed, else of raylets. Says which."""
    refused = hosts_allowed() if request.param == "hosts" else None
    with on_hosts(tmp_path) if request.param == "hosts" and not refused else on_raylets(tmp_path, request) as nodes:
        with capsys.disabled():
            print(f"\n{request.node.name}: {nodes.kind}{f', as hosts are refused here: {refused}' if refused else ''}")
        nodes.environment[PACE] = str(PACE_S)
        for name in [name for name in nodes.environment if name.startswith("AWS_")]:
            monkeypatch.setenv(name, nodes.environment[name])
        yield nodes


@pytest.fixture
def hosts(cluster: Nodes) -> HostCluster:
    """A cluster of hosts; what needs wires to cut is not tried on others, and says so."""
    if not isinstance(cluster, HostCluster):
        pytest.skip("this machine allows no hosts, and raylets have no wires")
    return cluster


@pytest.fixture
def config(cluster: Nodes, corpus: Path, model: dict[str, Any], tmp_path: Path) -> Path:
    """Configuration of a run whose corpus, weights and output are in S3."""
    bucket = f"s3://hosts-{uuid.uuid4().hex}"
    urllib.request.urlopen(urllib.request.Request(f"{cluster.endpoint}/{bucket[5:]}", method="PUT"), timeout=10).close()
    weights = model["weights"].removeprefix("file:")
    for path in (*corpus.iterdir(), Path(weights)):
        storage.publish_file(f"{bucket}/{path.name}", str(path))
    source = {"kind": "kinetics", "uri": f"{bucket}/*.tar.gz"}
    models = [model | {"weights": f"{bucket}/{Path(weights).name}"}]
    written = {"source": source, "output": f"{bucket}/out", "models": models, "embed": ["paced"], "cluster": {"address": cluster.address}}
    (tmp_path / "config.yaml").write_text(json.dumps(written))
    return tmp_path / "config.yaml"


def disturbed(cluster: Nodes, config: Path, *, when: Callable[[], bool], disturb: Callable[[], None], heir: str) -> dict[str, Any]:
    """The summary of a run under which something happens; `heir` does what is left."""
    with cluster.program(VIDMILL, "run", config, "--json") as run:
        assert until(lambda: run.poll() is not None or when(), timeout_s=RUN_S)
        assert run.poll() is None, run.communicate()
        disturb()
        before = cluster.staged(heir)
        out, err = run.communicate(timeout=RUN_S)
    assert run.returncode == 0, err
    assert cluster.staged(heir) > before
    return dict(json.loads(out))


def check_finished(summary: dict[str, Any], expected: Path) -> None:
    """Every planned clip once, by plain listing, and equal to the run on one machine."""
    clips = table(summary["output"], "clips")["clip_id"].to_pylist()
    assert len(clips) == len(set(clips)) == SHARDS * (CLIPS - 1)
    assert summary["clips"] == SHARDS * CLIPS
    assert contents(summary["output"]) == contents(expected)
    assert not verify(summary["output"]).faults


def two(cluster: Nodes) -> Callable[[], bool]:
    """Start two hosts with a GPU; whether both have done work."""
    for name in ("left", "right"):
        cluster.add(name, cpus=1, gpus=1)
    await_nodes(cluster, 3)
    return lambda: bool(cluster.staged("left") and cluster.staged("right"))


def test_a_run_survives_the_death_of_a_host(cluster: Nodes, config: Path, on_one_machine: Path) -> None:
    """P1, P2, P6: two hosts share a run, one dies with what it holds; without restarts (tasks.stage) that would end the run."""
    summary = disturbed(cluster, config, when=two(cluster), disturb=lambda: cluster.lose("right"), heir="left")
    check_finished(summary, on_one_machine)


@pytest.mark.nightly
def test_a_host_that_joins_takes_the_place_of_one_that_died(cluster: Nodes, config: Path, on_one_machine: Path) -> None:
    """P1, P2: machines that come and go, as spot machines do; the new one has neither weights nor anything else of the run."""
    cluster.environment[PACE] = str(PACE_S * 8)

    def replace() -> None:
        cluster.lose("right")
        cluster.add("new", cpus=2, gpus=1)

    check_finished(disturbed(cluster, config, when=two(cluster), disturb=replace, heir="new"), on_one_machine)


@pytest.mark.nightly
def test_hosts_without_gpus_decode_and_may_die(cluster: Nodes, config: Path, on_one_machine: Path) -> None:
    """P1, P2, P6: frames that died with the host that decoded them are decoded again, by the host that infers if there is no other."""
    cluster.add("cores", cpus=2, gpus=0)
    cluster.add("gpu", cpus=1, gpus=1)
    await_nodes(cluster, 3)
    seen: set[str] = set()

    def decoded_and_inferred() -> bool:
        seen.update(name for name, met in (("cores", cluster.decodes("cores")), ("gpu", cluster.staged("gpu"))) if met)
        return len(seen) == 2

    summary = disturbed(cluster, config, when=decoded_and_inferred, disturb=lambda: cluster.lose("cores"), heir="gpu")
    assert not cluster.staged("cores"), "a host without a GPU infers nothing"
    check_finished(summary, on_one_machine)


@pytest.mark.nightly
def test_a_host_that_was_cut_off_changes_nothing_when_it_is_back(hosts: HostCluster, config: Path, on_one_machine: Path) -> None:
    """P2, P3: for the others it is dead, and it goes on; what it writes late is equal to what is there."""
    summary = disturbed(hosts, config, when=two(hosts), disturb=lambda: hosts.net.wire("right", "down"), heir="left")
    hosts.net.wire("right", "up")
    assert until(lambda: not hosts.net.hosts["right"].runs("raylet/raylet"), timeout_s=RUN_S), "Ray lets nobody back whom it took for dead"
    check_finished(summary, on_one_machine)
