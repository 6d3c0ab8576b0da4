"""SIGKILL while taggers run over stored embeddings: the next run goes on, reads no record again, and nothing is lost, double or half there."""

import shutil
import signal
from pathlib import Path

import pytest

from infra.crash_point import VARIABLE, CrashPoint
from infra.settings import RunConfig
from tasks.plan import plan_run
from tasks.tfrecord import framed
from tasks.verify import verify
from tests.corpus import config_for, spoil, table
from tests.faults.checker import check_disturbed, finished_clips, visible
from tests.faults.zygote import Zygote
from tests.tasks.runs import run
from tests.tasks.taggers import RECORDS, entry, tagger
from tests.tasks.test_record_runs import arrays, packed
from tests.tasks.test_youtube8m import codes, frame_level

CLIPS = 6
EDGES = {
    "tags are staged": (CrashPoint.STAGED, 0),
    "everything is staged": (CrashPoint.COMPLETE, 0),
    "tags are written, not visible": (CrashPoint.WRITTEN, 3),
    "tags are published": (CrashPoint.FEATURE, 0),
}


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """An output of two shards whose tags are still to come; the shards can be read no more."""
    folder = tmp_path_factory.mktemp("embedded")
    (folder / "shards").mkdir()
    for shard in range(2):
        lame = framed(frame_level({"rgb": codes(3, 1024)}, name=f"{shard}-lame").SerializeToString())
        (folder / "shards" / f"train{shard}.tfrecord").write_bytes(b"".join(packed(arrays([f"{shard}-{k}" for k in range(CLIPS)]))) + lame)
    models = [entry(tagger(folder / "tagger.safetensors", *RECORDS))]
    config = config_for({"kind": "youtube8m", "uri": f"{folder}/shards/"}, folder / "out", tag=["mine"], models=models)
    assert run(config.model_copy(update={"tag": []})).status == "done"
    for path in (folder / "shards").iterdir():
        spoil(path)
    return config


def copied(config: RunConfig, folder: Path) -> RunConfig:
    shutil.copytree(config.output, folder)
    return config.model_copy(update={"output": str(folder)})


@pytest.fixture(scope="module")
def undisturbed(embedded: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    summary = run(copied(embedded, output))
    assert (summary.status, summary.tagged) == ("done", 2 * CLIPS), summary.problems
    return output


@pytest.mark.parametrize("edge", EDGES)
def test_a_run_killed_while_it_tags_is_continued(forks: Zygote, embedded: RunConfig, undisturbed: Path, tmp_path: Path, edge: str) -> None:
    """P1, P2, P3, P4: without known_keys in tasks.tag_workers._clips what is staged would be scored again."""
    config = copied(embedded, tmp_path / "out")
    output, (point, passes) = Path(config.output), EDGES[edge]
    (tmp_path / "fuse").write_bytes(b"." * passes)
    assert forks.run(config, {VARIABLE: f"{point}={tmp_path / 'fuse'}"}) == -signal.SIGKILL, "the run never came to this edge"
    check_disturbed(output, undisturbed)
    tagged = finished_clips(output) - lame(output)
    summary = run(config)
    assert (summary.status, summary.clips, summary.tagged) == ("done", 0, 2 * CLIPS - len(tagged)), summary.problems
    assert tagged, "something was finished before the kill"
    assert visible(output) == visible(undisturbed)
    assert verify(str(output)).faults == []
    assert (plan_run(config).work, run(config).status) == ((), "nothing to do")


def lame(output: Path) -> set[str]:
    """Members that have no audio."""
    return {row["member"] for row in table(output, "failures").to_pylist()}
