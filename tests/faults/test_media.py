"""Restored videos and their rows, one to one, whatever is killed, changed, lost or put beside them.

The networks are stand-ins (tests/tasks/restorers.py); reading, staging, publication, planning and verification are those of every run.
"""

import json
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import get_ident
from typing import Any

import pyarrow.parquet as pq
import pytest

from infra import storage
from infra.crash_point import VARIABLE, CrashPoint
from infra.settings import RunConfig
from tasks.media import media_name
from tasks.verify import verify
from tests.corpus import bad_clips, clip, files, name_of, spoil, table, write_tar
from tests.faults.zygote import Zygote
from tests.flows.program import program, until
from tests.tasks import runs
from tests.tasks.networks import DARK, LIGHT, MEDIUM, grey
from tests.tasks.runs import planned, run, settings

SPENT = ("elapsed_s", "gpu_s", "uri")  # of one run, or of one place
GOOD, SHARDS = 3, 2
TIMEOUT_S = 500  # of networks on a busy machine
EDGES = {
    "a clip was read": (CrashPoint.PARCEL, 1),
    "a video is staged, its row is not": (CrashPoint.MEDIA_STAGED, 3),
    "a clip is staged by one recipe": (CrashPoint.STAGED, 4),
    "everything is staged": (CrashPoint.COMPLETE, 2),
    "no video is in its place": (CrashPoint.FAILURES, 2),
    "some videos are in their places": (CrashPoint.MEDIA, 1),
    "all videos of a recipe are in their places": (CrashPoint.MEDIA, 2),
    "the rows of one recipe are published": (CrashPoint.NAMED, 0),
    "one recipe is published": (CrashPoint.FEATURE, 0),
    "two recipes are published": (CrashPoint.FEATURE, 1),
    "the fragments are gone": (CrashPoint.CLEARED, 2),
}
RARE = {"a clip was read", "a clip is staged by one recipe", "everything is staged", "no video is in its place", "the fragments are gone"}
RARE_IN_S3 = ("a video is staged, its row is not", "some videos are in their places", "two recipes are published")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of real clips; the first has one that cannot be decoded and one that no recipe can take."""
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@cache
def corrupt() -> bytes:
    return bad_clips()["CORRUPT"]


def write_corpus(folder: Path, **changed: bytes) -> Path:
    for shard in range(SHARDS):
        clips = {f"{name_of(10 * shard + k)}.mp4": grey((MEDIUM, LIGHT)[k % 2], seconds=1 + k) for k in range(GOOD)}
        bad = {f"{name_of(98)}.mp4": corrupt(), f"{name_of(99)}.mp4": grey(DARK)} if not shard else {}
        write_tar(folder / f"part_{shard}.tar.gz", {name: changed.get(name, data) for name, data in (clips | bad).items()})
    return folder


def config_for(corpus: Path, folder: Path, output: str | None = None, **more: Any) -> RunConfig:
    folder.mkdir(exist_ok=True)
    values = {"embed": [], "enhance": ["denoise", "upscale-x2"], **more}
    config = settings(folder, {"kind": "kinetics", "uri": f"{corpus}/part_*.tar.gz"}, **values)
    return config.model_copy(update={"output": output}) if output else config


def restored(output: object) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows by recipe and clip, without what tells runs apart."""
    found = {}
    for recipe in ("denoise", "upscale-x2"):
        for row in table(output, f"enhanced/recipe={recipe}").to_pylist():
            found[recipe, row["clip_id"]] = {name: value for name, value in row.items() if name not in SPENT}
    return found


def media(output: object) -> dict[str, int]:
    """Every file of media, and its size."""
    return {storage.relative(found.uri, str(output)): found.size_bytes for found in storage.walk(f"{output}/media")}


def check_one_to_one(output: object) -> None:
    """Every row names a file with its size, every file is named by a row, nothing is staged any more."""
    rows = table(output, "enhanced").to_pylist()
    assert media(output) == {storage.relative(row["uri"], str(output)): row["size_bytes"] for row in rows}
    assert [found.uri for found in storage.walk(f"{output}/_wip")] == []
    assert verify(str(output)).faults == []


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    summary = run(config_for(corpus, folder))
    assert (summary.status, summary.clips, summary.enhanced) == ("done", 2 * GOOD + 2, 2 * GOOD + 1)
    check_one_to_one(folder / "out")
    return folder / "out"


def kill_at(forks: Zygote, config: RunConfig, edge: str, fuse: Path) -> None:
    point, passes = EDGES[edge]
    fuse.write_bytes(b"." * passes)
    assert forks.run(config, {VARIABLE: f"{point}={fuse}"}) == -signal.SIGKILL, "the run never came to this edge"


def finished(output: Path) -> set[tuple[str, str]]:
    """Clips and recipes that need no work any more: a fragment whose video is staged, a published row, a failure."""
    done = set()
    for path in [*output.glob("_wip/*/enhanced/**/*.fragment"), *output.glob("enhanced/**/*.parquet")]:
        recipe = path.parts[-3].removeprefix("recipe=")
        done |= {(recipe, clip_id) for clip_id in pq.ParquetFile(path).read(["clip_id"])["clip_id"].to_pylist()}
    for path in [*output.glob("_wip/*/failures/*.fragment"), *output.glob("failures/*.parquet")]:
        rows = pq.ParquetFile(path).read(["clip_id", "stage"]).to_pylist()
        done |= {(recipe, row["clip_id"]) for row in rows for recipe in ("denoise", "upscale-x2") if row["stage"] in (recipe, "decode")}
    return done


@pytest.mark.parametrize("edge", [pytest.param(edge, marks=pytest.mark.nightly) if edge in RARE else edge for edge in EDGES])
def test_a_run_killed_at_any_edge_of_enhancement_is_continued(forks: Zygote, corpus: Path, undisturbed: Path, tmp_path: Path, edge: str) -> None:
    """P1, P2, P4: without the staged video in tasks.shardwork a row would come whose file is gone, without tasks.media.delete_unnamed the reverse."""
    config = config_for(corpus, tmp_path)
    output = Path(config.output)
    kill_at(forks, config, edge, tmp_path / "fuse")
    done, videos = finished(output), files(output / "media")
    summary = run(config)
    assert (summary.status, summary.problems) == ("done", ())
    check_one_to_one(output)
    assert restored(output) == restored(undisturbed)
    clips = {clip_id for _, clip_id in restored(undisturbed)} | {name_of(99)}
    assert summary.enhanced == sum(not {("denoise", clip), ("upscale-x2", clip)} <= done for clip in clips), "only what was in flight again"
    assert {name: state for name, state in files(output / "media").items() if name in videos} == videos, "what is in its place stays as it is"
    state = files(output)
    assert (planned(config).work, run(config).status) == ((), "nothing to do")
    assert files(output) == state


@pytest.mark.parametrize("edge", ["the rows of one recipe are published", *(pytest.param(edge, marks=pytest.mark.nightly) for edge in RARE_IN_S3)])
def test_the_same_in_a_bucket(forks: Zygote, corpus: Path, undisturbed: Path, tmp_path: Path, bucket: str, edge: str) -> None:
    """P1, P2: the store copies a video to its place."""
    config = config_for(corpus, tmp_path, f"s3://{bucket}/out")
    kill_at(forks, config, edge, tmp_path / "fuse")
    assert run(config).status == "done"
    check_one_to_one(config.output)
    assert restored(config.output) == restored(undisturbed)
    assert planned(config).work == ()


def test_a_staged_row_whose_video_is_gone_does_not_count(forks: Zygote, corpus: Path, undisturbed: Path, tmp_path: Path) -> None:
    """P1: somebody tidied `_wip`, or a store lost an object."""
    config = config_for(corpus, tmp_path)
    kill_at(forks, config, "everything is staged", tmp_path / "fuse")
    gone = sorted(Path(config.output).glob("_wip/*/media/recipe=denoise/*/*.mp4"))
    gone[0].unlink()
    gone[1].write_bytes(b"cut")
    assert run(config).enhanced == 2 + GOOD, "two of this shard, and the other shard"
    check_one_to_one(config.output)
    assert restored(config.output) == restored(undisturbed)


@pytest.fixture
def published(tmp_path: Path) -> RunConfig:
    """A corpus of its own, published."""
    write_corpus(tmp_path / "corpus")
    config = config_for(tmp_path / "corpus", tmp_path)
    assert run(config).status == "done"
    return config


def place(config: RunConfig, clip_id: str, recipe: str = "denoise") -> Path:
    return next(Path(config.output).glob(f"media/recipe={recipe}/*/*/{media_name(clip_id)}"))


def test_a_deleted_video_is_missed_and_exactly_that_is_made_again(published: RunConfig) -> None:
    """DESIGN section 5: delete a file and exactly that is recomputed; P5: one listing tells, no video is opened for it."""
    before, gone = restored(published.output), place(published, name_of(0))
    others = {name: state for name, state in files(Path(published.output) / "media").items() if gone.name not in name or "upscale" in name}
    gone.unlink()
    (fault,) = verify(published.output).faults
    assert (fault.file, fault.cause) == (str(gone), f"is missing, and the row of {name_of(0)} names it")
    (work,) = planned(published).work
    assert ([feature.model for feature in work.features], work.shard.name) == (["denoise"], "part_0")
    summary = run(published)
    assert (summary.status, summary.clips, summary.enhanced) == ("done", 0, 1)
    check_one_to_one(published.output)
    assert restored(published.output) == before
    assert {name: state for name, state in files(Path(published.output) / "media").items() if name in others} == others


def test_a_retry_makes_what_verify_finds_missing_or_altered(published: RunConfig) -> None:
    """P11: an altered video is found by its digest, though name and size are right."""
    before, gone, altered = restored(published.output), place(published, name_of(0)), place(published, name_of(11), "upscale-x2")
    gone.unlink()
    spoil(altered)
    faults = {Path(fault.file): fault for fault in verify(published.output).faults}
    assert faults.keys() == {gone, altered}
    assert "its bytes do not give its row's digest" in faults[altered].cause
    assert [fault.fix.partition("--select ")[2] for fault in faults.values()] == ["state:missing", "state:altered"]
    assert run(published, select=["state:missing,shard:part_0"]).enhanced == 1
    assert run(published, select=["state:altered"]).enhanced == 1
    check_one_to_one(published.output)
    assert restored(published.output) == before


def test_a_video_that_no_row_names_is_told_and_goes_with_the_next_run(published: RunConfig) -> None:
    """P2: left by whoever; also where no plan looks, verify sees it."""
    folder = place(published, name_of(0)).parent
    (folder / "stray.mp4").write_bytes(b"x")
    high = folder.parents[2] / "high.mp4"
    high.write_bytes(b"x")
    faults = verify(published.output).faults
    assert [(fault.file, fault.cause, fault.fix) for fault in faults] == [
        (str(path), "no row names this file", f"rm {path}") for path in (high, folder / "stray.mp4")
    ]
    high.unlink()
    summary = run(published)
    assert (summary.status, summary.enhanced) == ("done", 0)
    check_one_to_one(published.output)


def test_a_changed_clip_changes_its_video_alone(published: RunConfig, tmp_path: Path) -> None:
    """P5: copy on write of the rows, and not of the videos of others."""
    before, state = restored(published.output), files(Path(published.output) / "media")
    write_corpus(tmp_path / "corpus", **{f"{name_of(0)}.mp4": grey(LIGHT, seconds=4)})
    summary = run(published)
    assert (summary.status, summary.clips, summary.enhanced) == ("done", 1, 1)
    check_one_to_one(published.output)
    after = restored(published.output)
    assert {key for key in before if before[key] != after[key]} == {("denoise", name_of(0)), ("upscale-x2", name_of(0))}
    assert after["denoise", name_of(0)]["duration_s"] == 4
    changed = {name for name, found in files(Path(published.output) / "media").items() if state[name] != found}
    assert {Path(name).name for name in changed} == {media_name(name_of(0))}


@pytest.mark.parametrize(("into", "stage"), [("CORRUPT", "decode"), ("DARK", "denoise")])
def test_a_clip_that_becomes_a_failure_leaves_no_video(published: RunConfig, tmp_path: Path, into: str, stage: str) -> None:
    """P1, P2: whether the first part of the run finds it bad, or the second."""
    data = corrupt() if into == "CORRUPT" else grey(DARK, seconds=2)
    write_corpus(tmp_path / "corpus", **{f"{name_of(11)}.mp4": data})
    assert run(published).status == "done"
    check_one_to_one(published.output)
    assert {recipe for recipe, clip in restored(published.output) if clip == name_of(11)} == set()
    failures = [row for row in table(published.output, "failures").to_pylist() if row["clip_id"] == name_of(11)]
    assert stage in {row["stage"] for row in failures}


def test_a_shard_of_which_nothing_can_be_restored_any_more_keeps_no_video(published: RunConfig, tmp_path: Path) -> None:
    """P2: its table is no file; what a killed run left of its media is missed all the same."""
    dark = {f"{name_of(10 + k)}.mp4": grey(DARK, seconds=1 + k) for k in range(GOOD)}
    write_corpus(tmp_path / "corpus", **dark)
    left = place(published, name_of(11))
    data = left.read_bytes()
    assert run(published).status == "done"
    check_one_to_one(published.output)
    assert not list(Path(published.output).glob("enhanced/*/*/part_1.parquet"))
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(data)
    assert [work.shard.name for work in planned(published).work] == ["part_1"]
    assert (run(published).status, left.exists()) == ("done", False)


def test_a_failure_of_a_recipe_is_tried_again_alone_and_counts_its_tries(published: RunConfig) -> None:
    """P6: `attempts` of a retried failure add up; nothing else is computed."""
    videos = files(Path(published.output) / "media")
    summary = run(published, select=["stage:denoise"])
    assert (summary.status, summary.clips, summary.enhanced) == ("done", 0, 1)
    failures = {(row["clip_id"], row["stage"]): row["attempts"] for row in table(published.output, "failures").to_pylist()}
    assert failures == {(name_of(98), "decode"): 1, (name_of(99), "denoise"): 2, (name_of(99), "upscale-x2"): 1}
    assert files(Path(published.output) / "media") == videos
    check_one_to_one(published.output)


def test_a_clip_that_a_retry_mends_is_restored_too(tmp_path: Path) -> None:
    """P1: both parts of a run belong to its selection; the failure of a first part explains the second until then."""
    write_corpus(tmp_path / "corpus")
    config = config_for(tmp_path / "corpus", tmp_path, limits={"max_pixels": 64 * 63})
    assert run(config).enhanced == 0
    assert restored(config.output) == {}
    larger = config.model_copy(update={"limits": config.limits.model_copy(update={"max_pixels": 64 * 64})})
    summary = run(larger, select=["kind:TOO_LARGE"])
    assert (summary.status, summary.clips, summary.enhanced) == ("done", 2 * GOOD + 1, 2 * GOOD + 1)
    check_one_to_one(config.output)
    assert len(restored(config.output)) == 2 * 2 * GOOD


def test_other_recipes_and_versions_keep_what_they_have(published: RunConfig) -> None:
    """DESIGN section 4: a new feature is a new folder; nothing written before is touched."""
    before = files(Path(published.output))
    changed = published.model_validate({**published.model_dump(), "enhance": [{"recipe": "denoise", "crf": 30}]})
    summary = run(changed)
    assert (summary.status, summary.clips, summary.enhanced) == ("done", 0, 2 * GOOD + 1)
    after = files(Path(published.output))
    kept = {name for name in before if name.startswith(("media", "enhanced", "clips"))}
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert verify(published.output).faults == []


def test_models_and_recipes_share_a_run(tmp_path: Path) -> None:
    """P5: either part may be asked for first, and only what is new is computed."""
    write_corpus(tmp_path / "corpus")
    both = config_for(tmp_path / "corpus", tmp_path, embed=["grey"])
    assert run(both.model_copy(update={"enhance": []})).enhanced == 0
    clips = files(Path(both.output) / "clips")
    summary = run(both)
    assert (summary.status, summary.clips, summary.enhanced) == ("done", 0, 2 * GOOD + 1)
    assert files(Path(both.output) / "clips") == clips
    check_one_to_one(both.output)
    assert table(both.output, "embeddings").num_rows == 2 * GOOD + 1


def test_what_recipes_have_staged_outlives_the_publication_of_other_tables(forks: Zygote, corpus: Path, undisturbed: Path, tmp_path: Path) -> None:
    """P4: a clip takes minutes; a first part of a run, or a run that is about models alone, publishes the same shard and takes nothing away."""
    config = config_for(corpus, tmp_path)
    kill_at(forks, config, "everything is staged", tmp_path / "fuse")
    assert run(config.model_copy(update={"tag": ["grey"], "enhance": []})).enhanced == 0
    assert run(config).enhanced == GOOD, "all of the other shard"
    check_one_to_one(config.output)
    assert restored(config.output) == restored(undisturbed)


def test_what_explains_another_table_stays_when_recipes_are_published(published: RunConfig, tmp_path: Path) -> None:
    """P1: frames that only an embedding looks at are too many; the second part of a run knows nothing of that, and publishes after it."""
    several = published.model_copy(
        update={
            "embed": ["grey"],
            "decode": published.decode.model_copy(update={"fps": 10.0}),
            "limits": published.limits.model_copy(update={"max_frames": 15}),
        }
    )
    assert run(several).status == "done"
    long = {name_of(k) for k in (1, 2, 11, 12)}
    assert {row["clip_id"] for row in table(published.output, "failures").to_pylist() if row["kind"] == "TOO_LARGE"} == long
    write_corpus(tmp_path / "corpus", **{f"{name_of(0)}.mp4": grey(LIGHT)})
    summary = run(several)
    assert (summary.status, summary.problems, summary.enhanced) == ("done", (), 1)
    assert {row["clip_id"] for row in table(published.output, "failures").to_pylist() if row["kind"] == "TOO_LARGE"} == long
    check_one_to_one(published.output)
    assert planned(several).work == ()


def test_the_replacement_of_a_clip_is_restored_and_the_original_is_not(tmp_path: Path) -> None:
    """P1, P2: a clip of the archive of replacements; the second part of a run knows from the clips which of the two it is."""
    write_corpus(tmp_path / "corpus")
    write_tar(tmp_path / "better.tar", {f"{name_of(98)}.mp4": grey(MEDIUM, seconds=2), f"{name_of(0)}.mp4": grey(LIGHT, seconds=5)}, gz=False)
    source = {"kind": "kinetics", "uri": f"{tmp_path}/corpus/part_*.tar.gz", "replacements": f"{tmp_path}/better.tar"}
    config = settings(tmp_path, source, embed=[], enhance=["denoise"])
    summary = run(config)
    assert (summary.status, summary.enhanced) == ("done", 2 * GOOD + 2), "an original is not restored, what no recipe can take was tried"
    rows = {clip_id: row["duration_s"] for (_, clip_id), row in restored(config.output).items()}
    assert (len(rows), rows[name_of(98)], rows[name_of(0)]) == (2 * GOOD + 1, 2, 5)
    assert verify(config.output).faults == []
    assert (planned(config).work, run(config).status) == ((), "nothing to do")


def test_who_lost_its_lease_leaves_media_alone(published: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P2, P3: without `guard` before each video that comes or goes a publication would go on after its lease was taken."""
    events: list[tuple[int, str, str]] = []
    monkeypatch.setattr(runs, "GUARD", lambda: events.append((get_ident(), "guard", "")))
    for change in ("copy", "delete"):
        monkeypatch.setattr(storage, change, noted(change, getattr(storage, change), events))
    write_corpus(
        tmp_path / "corpus",
        **{f"{name_of(0)}.mp4": grey(LIGHT, seconds=4), f"{name_of(11)}.mp4": grey(DARK), f"{name_of(12)}.mp4": grey(DARK, seconds=2)},
    )
    assert run(published).status == "done"
    changes = [number for number, (_, what, uri) in enumerate(events) if "/media/recipe=" in uri]
    assert sorted(events[number][1] for number in changes) == ["copy"] * 2 + ["delete"] * 4
    for number in changes:
        before = [what for thread, what, _ in events[:number] if thread == events[number][0]]
        assert before[-1] == "guard"


def noted(what: str, change: Callable[..., None], events: list[tuple[int, str, str]]) -> Callable[..., None]:
    """The change, told."""

    def tell(*uris: str) -> None:
        events.append((get_ident(), what, uris[-1]))
        change(*uris)

    return tell


@pytest.mark.nightly
def test_a_run_killed_in_the_middle_of_an_upscale_is_continued(tmp_path: Path) -> None:
    """P1, P2, P4: the program itself, with Ray, the networks and the codecs that it ships."""
    write_tar(tmp_path / "part_0.tar.gz", {f"{name_of(k)}.mp4": clip(k) for k in range(4)} | {f"{name_of(98)}.mp4": corrupt()})
    output = tmp_path / "out"
    arguments = ["run", "--source.kind", "kinetics", "--source.uri", "part_0.tar.gz", "--output", output, "--embed=", "--enhance", "upscale-x2"]
    with program(*arguments, cwd=tmp_path) as started:
        assert until(lambda: any(output.glob("_wip/*/enhanced/**/*.fragment")), timeout_s=TIMEOUT_S)
        started.process.kill()
    done = len(list(output.glob("_wip/*/enhanced/**/*.fragment")))
    with program(*arguments, "--json", cwd=tmp_path) as again:
        code, out, err = again.end(TIMEOUT_S)
    assert code == 0, err
    assert json.loads(out)["enhanced"] == 4 - done, "only what was in flight again"
    check_one_to_one(output)
    assert {clip_id for _, clip_id in restored(output)} == {name_of(k) for k in range(4)}
    assert "data:image/jpeg" in Path(json.loads(out)["report"]).read_text(encoding="utf-8")
