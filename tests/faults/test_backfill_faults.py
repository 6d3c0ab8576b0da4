"""P1 to P5 of backfills: SIGKILL at the edges of a backfill and of a prune, on disk and in S3; the same command goes on, other features stay."""

import shutil
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from infra import storage
from infra.backfill import BackfillConfig
from infra.crash_point import VARIABLE, CrashPoint
from infra.settings import RunConfig
from tasks.prune import find_old
from tasks.verify import verify
from tests.corpus import bad_clips, clip, contents, name_of, table, write_tar
from tests.faults.checker import check_disturbed, check_finished, published_state
from tests.faults.zygote import Zygote
from tests.tasks.networks import DARK, MEDIUM, grey
from tests.tasks.runs import backfill, backfilled, run, settings
from tests.tasks.test_prune import prune

CLIPS = 9  # more than one parcel holds
EDGES = {
    "a parcel was read": (CrashPoint.PARCEL, 0),
    "the roster is written": (CrashPoint.ROSTER, 1),
    "everything is staged": (CrashPoint.COMPLETE, 1),
    "a published file is written, not visible": (CrashPoint.WRITTEN, 3),
    "the failures are published": (CrashPoint.FAILURES, 0),
    "the feature of a shard is published": (CrashPoint.FEATURE, 0),
    "its fragments are gone": (CrashPoint.CLEARED, 0),
}
OF_SOME = ("everything is staged", "a published file is written, not visible", "the failures are published", "the feature of a shard is published")
CASES = [*((edge, "all") for edge in EDGES), *((edge, "some") for edge in OF_SOME)]
SELECTIONS = {"all": (), "some": ("clip:*[05]_*", "shard:part_1,clip:*[13]_*")}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards with a run's output; the model that comes later fails on dark clips."""
    folder = tmp_path_factory.mktemp("corpus")
    for shard in range(2):
        clips = {f"{name_of(10 * shard + k)}.mp4": clip(k) if k else grey(DARK if shard else MEDIUM) for k in range(CLIPS)}
        write_tar(folder / "c" / f"part_{shard}.tar.gz", clips | ({f"{name_of(99)}.mp4": bad_clips()["CORRUPT"]} if not shard else {}))
    assert run(config_of(folder)).status == "done"
    return folder


def config_of(folder: Path) -> RunConfig:
    return settings(folder, {"kind": "kinetics", "uri": f"{folder}/c/part_*.tar.gz"})


def asked(output: object, selection: str) -> BackfillConfig:
    return BackfillConfig(output=str(output), embed=["picky"], select=[*SELECTIONS[selection]])


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {name: tmp_path_factory.mktemp(name) / "out" for name in SELECTIONS}
    for name, output in found.items():
        shutil.copytree(corpus / "out", output)
        assert backfilled(asked(output, name)).status == "done"
    return found


def finished(output: Path) -> set[str]:
    """Clips of the new feature that need no work any more."""
    rows = [*output.glob("_wip/*/embeddings/model=picky/**/*.fragment"), *output.glob("embeddings/model=picky/**/*.parquet")]
    failures = [*output.glob("_wip/*/failures/*.fragment"), *output.glob("failures/*.parquet")]
    clips = {name for path in rows for name in pq.ParquetFile(path).read(["clip_id"])["clip_id"].to_pylist()}
    failed = {row["clip_id"] for path in failures for row in pq.ParquetFile(path).read().to_pylist() if row["stage"] == "picky"}
    return clips | failed


def kill_at(forks: Zygote, config: BackfillConfig, edge: str, fuse: Path) -> None:
    point, passes = EDGES[edge]
    fuse.write_bytes(b"." * passes)
    assert forks.run(config, {VARIABLE: f"{point}={fuse}"}) == -signal.SIGKILL, "the backfill never came to this edge"


@pytest.mark.parametrize(("edge", "selection"), CASES)
def test_a_killed_backfill_is_continued(
    forks: Zygote, corpus: Path, undisturbed: dict[str, Path], tmp_path: Path, edge: str, selection: str
) -> None:  # fmt: skip
    """P1, P2, P3, P4, P5."""
    output, whole = tmp_path / "out", undisturbed[selection]
    shutil.copytree(corpus / "out", output)
    before = published_state(output)
    kill_at(forks, asked(output, selection), edge, tmp_path / "fuse")
    check_disturbed(output, whole)
    there, total = finished(output), finished(whole)
    summary = backfilled(asked(output, selection))
    assert summary.status in ("done", "nothing to do")
    assert summary.clips == len(total - there)
    check_finished(output, whole)
    after = published_state(output)
    kept = {name: state for name, state in before.items() if not name.startswith("failures/")}
    assert {name: after[name] for name in kept} == kept


def test_a_backfill_that_adds_to_a_part_leaves_the_old_file_or_the_new_one(
    forks: Zygote, corpus: Path, undisturbed: dict[str, Path], tmp_path: Path
) -> None:
    """P3: copy on write; what the first selection found stays there throughout."""
    output = tmp_path / "out"
    shutil.copytree(undisturbed["some"], output)
    old = {path.name: pq.read_table(path)["clip_id"].to_pylist() for path in output.glob("embeddings/model=picky/**/*.parquet")}
    kill_at(forks, asked(output, "all"), "the feature of a shard is published", tmp_path / "fuse")
    for path in output.glob("embeddings/model=picky/**/*.parquet"):
        assert set(old[path.name]) <= set(pq.read_table(path)["clip_id"].to_pylist())
    assert verify(str(output)).faults == []
    assert backfilled(asked(output, "all")).status == "done"
    assert contents(output) == contents(undisturbed["all"])
    assert verify(str(output)).faults == []


def test_in_s3_a_killed_backfill_is_continued(forks: Zygote, corpus: Path, undisturbed: dict[str, Path], bucket: str, tmp_path: Path) -> None:
    output = f"s3://{bucket}/backfill"
    run(config_of(corpus).model_copy(update={"output": output}))
    kill_at(forks, asked(output, "some"), "the feature of a shard is published", tmp_path / "fuse")
    assert backfilled(asked(output, "some")).status == "done"
    assert contents(output) == contents(undisturbed["some"])
    assert verify(output).faults == []


@pytest.mark.parametrize("passes", [0, 1])
def test_a_killed_prune_leaves_what_verify_accepts_and_the_next_one_finishes(forks: Zygote, corpus: Path, tmp_path: Path, passes: int) -> None:
    """P3: rows go before their media, and media that is left without rows is found again."""
    config = config_of(corpus).model_copy(update={"output": str(tmp_path / "out")})
    shutil.copytree(corpus / "out", tmp_path / "out")
    backfill(config, enhance=[{"recipe": "denoise", "crf": 30}])
    backfill(config, enhance=["denoise"])
    assert [version.label.partition("@")[0] for version in find_old(config.output).old] == ["enhanced denoise"]
    (tmp_path / "fuse").write_bytes(b"." * passes)
    assert forks.prune(config.output, {VARIABLE: f"{CrashPoint.PRUNED}={tmp_path / 'fuse'}"}) == -signal.SIGKILL
    found = verify(config.output)
    assert found.faults == []
    assert len(found.notes) == (not passes)
    left = find_old(config.output).old
    assert [version.why for version in left] == ["no row names this media: a prune was stopped in the middle"] * (not passes)
    prune(config.output)
    assert (find_old(config.output).old, verify(config.output).notes) == ((), [])
    assert len([*storage.walk(f"{config.output}/media")]) == table(config.output, "enhanced").num_rows > CLIPS
