"""The workers of enhancement hand on one clip at a time, and leave behind enough to go on from."""

import errno
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra import storage
from infra.settings import RunConfig
from infra.storage import Cause, StorageError
from models.prediction import ModelError, ModelMemoryError
from tasks.clip import ClipError, FailureKind
from tasks.encoded import Outcome, Parcel
from tasks.enhance_workers import EnhanceWorker, read_clips
from tasks.plan import enhancement
from tasks.restored import Enhances
from tasks.shardwork import ShardWork
from tasks.staging import Staging
from tests.corpus import bad_clips, write_tar, write_videos
from tests.tasks.networks import DARK, MEDIUM, grey
from tests.tasks.restorers import brighteners
from tests.tasks.runs import planned, run, settings

MEMBERS = {
    **{f"{name}_1_2.mp4": grey(MEDIUM) for name in "abc"},
    "bad_1_2.mp4": bad_clips()["CORRUPT"],
    "dark_1_2.mp4": grey(DARK),
    "holiday.mp4": b"x",
}


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """A shard whose clips are published, and nothing restored."""
    write_tar(tmp_path / "corpus" / "part_0.tar", MEMBERS, gz=False)
    found = settings(tmp_path, {"kind": "kinetics", "uri": f"{tmp_path}/corpus/part_0.tar"}, embed=["grey"])
    assert run(found).status == "done"
    return enhancing(found, "denoise", "upscale-x2")


def enhancing(config: RunConfig, *recipes: str) -> RunConfig:
    return RunConfig.model_validate({**config.model_dump(), "embed": [], "enhance": list(recipes)})


def work_in(config: RunConfig) -> ShardWork:
    (work,) = enhancement(planned(config)).work
    return work


def told(parcels: list[Parcel]) -> list[tuple[list[str], list[str | None]]]:
    return [([clip.key for clip in parcel.clips], [feature.model for feature in parcel.features]) for parcel in parcels]


def worker(config: RunConfig, tools: Callable[[RunConfig], Mapping[str, Enhances]] = brighteners) -> EnhanceWorker:
    return EnhanceWorker(config, "run 7", "try", tools_of=tools)


def test_clips_travel_alone_and_only_good_ones(config: RunConfig) -> None:
    """A parcel of minutes holds one clip; what could not be read or decoded is not tried again."""
    parcels = list(read_clips(work_in(config), config))
    both = ["denoise", "upscale-x2"]
    assert told(parcels) == [(["a_1_2"], both), (["b_1_2"], both), (["c_1_2"], both), (["dark_1_2"], both), ([], both)]
    assert parcels[-1].end is not None
    assert (parcels[-1].end.sent, parcels[-1].end.known) == (4, 0)


def test_a_clip_that_one_recipe_has_staged_is_sent_for_the_others(config: RunConfig) -> None:
    """P4: killed between two recipes of a clip, minutes of the first are not spent again."""
    first, *_ = read_clips(work_in(config), config)
    worker(config)(replace(first, features=first.features[:1]))
    again = list(read_clips(work_in(config), config))
    assert told(again)[:2] == [(["a_1_2"], ["upscale-x2"]), (["b_1_2"], ["denoise", "upscale-x2"])]


def test_a_reader_that_ray_runs_again_sends_the_same_parcels(config: RunConfig) -> None:
    """P1: as `read_parcels`; what its own try has staged, and failed, it does not see."""
    work = replace(work_in(config), try_id="try")
    parcels = list(read_clips(work, config))
    for parcel in parcels[2:4]:
        worker(config)(parcel)
    again = list(read_clips(work, config))
    assert (told(again), again[-1].end) == (told(parcels), parcels[-1].end)


def test_an_archive_that_needs_nothing_is_not_opened(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    work = work_in(config)
    for parcel in read_clips(work, config):
        worker(config)(parcel)
    monkeypatch.setattr(storage, "open_stream", None)
    (last,) = read_clips(work, config)
    assert last.end is not None
    assert (last.clips, last.end.sent, last.end.known) == ((), 0, 4)


def test_a_clip_that_the_source_does_not_give_again_is_a_failure_and_no_hole(config: RunConfig) -> None:
    """P1: smaller limits than those of the run that published the clips."""
    smaller = config.model_copy(update={"limits": config.limits.model_copy(update={"max_bytes": 100})})
    (work,) = enhancement(planned(smaller)).work
    outcomes = [worker(smaller)(parcel) for parcel in read_clips(work, smaller)]
    assert {(failure.clip_id, str(failure.kind)) for outcome in outcomes for failure in outcome.failures} == {
        (clip, "MISSING") for clip in ("a_1_2", "b_1_2", "c_1_2", "dark_1_2")
    }
    assert run(smaller).status == "done"


def test_windows_of_loose_videos_are_restored_and_the_videos_not_probed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_videos(tmp_path / "videos", {"x/a b.mp4": 5})
    config = settings(tmp_path, {"kind": "files", "uri": f"{tmp_path}/videos"}, embed=[], enhance=["denoise"], decode={"clip_s": 2})
    assert run(config.model_copy(update={"enhance": [], "tag": ["grey"]})).status == "done"
    monkeypatch.setattr("tasks.read.Decoder", lambda _: None)
    parcels = list(read_clips(work_in(config), config))
    assert [parcel.clips[0].key for parcel in parcels[:-1]] == ["x/a b.mp4#0", "x/a b.mp4#2000", "x/a b.mp4#4000"]
    for parcel in parcels:
        assert worker(config)(parcel).failures == ()
    staged = [row for rows in Staging(config.output, "shard-00000").tables(work_in(config).features[0].folder) for row in rows.to_pylist()]
    assert sorted((row["start_s"], row["end_s"], row["duration_s"]) for row in staged) == [(0, 2, 2), (2, 4, 2), (4, 5, 1)]


class Failing:
    """Raises what it is told to."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def enhance(self, *_: object, **__: object) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ClipError(FailureKind.TIMEOUT, "too slow", 3), "TIMEOUT", "too slow"),
        (ModelError("not for me"), "MODEL", "not for me"),
        (ModelMemoryError("too large"), "OOM", "too large"),
        (ZeroDivisionError("user's own"), "MODEL", "recipe denoise: ZeroDivisionError: user's own; correct its weights, or leave it out"),
        (StorageError("/corpus/x", Cause.DENIED), "STORAGE", "permission denied"),
    ],
)
def test_what_goes_wrong_with_a_clip_is_a_failure_of_the_recipe_and_nothing_is_staged(
    config: RunConfig, error: Exception, kind: str, words: str
) -> None:
    work = work_in(config)
    first, *_ = read_clips(work, config)
    outcome = worker(config, lambda _: {"denoise": Failing(error), **{"upscale-x2": brighteners(config)["upscale-x2"]}})(first)
    (failure,) = outcome.failures
    assert (failure.clip_id, failure.stage, str(failure.kind), outcome.problem) == ("a_1_2", "denoise", kind, None)
    assert words in failure.message
    assert failure.attempts == getattr(error, "attempts", 1)
    staging = Staging(config.output, "part_0")
    assert [list(staging.tables(feature.folder)) != [] for feature in work.features] == [False, True]
    assert [name.startswith("try-") for name in storage.list_names(staging.media(work.features[1]))] == [True]


@pytest.mark.parametrize("error", [StorageError("s3://b/x", Cause.BUSY), OSError(errno.ENOSPC, "No space left on device")])
def test_trouble_of_the_store_or_of_this_disk_is_no_fault_of_the_clip(config: RunConfig, error: Exception) -> None:
    """P8: neither row nor failure; the shard is left for another run."""
    first, *_ = read_clips(work_in(config), config)
    outcome: Outcome = worker(config, lambda _: dict.fromkeys(("denoise", "upscale-x2"), Failing(error)))(first)
    assert (outcome.clips, outcome.failures) == (1, ())
    assert outcome.problem == str(error)


def test_a_recipe_that_cannot_be_run_is_fatal_with_its_reason(config: RunConfig) -> None:
    def broken(_: RunConfig) -> Mapping[str, Enhances]:
        raise ModelError("no such weights")

    first, *_ = read_clips(work_in(config), config)
    assert worker(config, broken)(first).fatal == "no such weights"


def test_a_lost_store_ends_the_shard_with_a_problem(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    work = work_in(config)

    def lost(_: object) -> object:
        raise StorageError("s3://b/part_0.tar", Cause.BUSY)

    monkeypatch.setattr(storage, "open_stream", lost)
    (parcel,) = read_clips(work, config)
    assert parcel.end is not None
    assert parcel.end.problem
    assert "part_0: s3://b/part_0.tar: the store kept failing" in parcel.end.problem
