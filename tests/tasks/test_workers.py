"""Workers read, compute and stage; what they leave behind is enough to go on from, wherever they are stopped."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra import storage
from infra.settings import RunConfig
from infra.storage import Cause, StorageError
from tasks import workers as module
from tasks.encoded import Outcome, Parcel
from tasks.feature import features_of, model_specs
from tasks.infer import DecodedClip
from tasks.plan import plan_run
from tasks.shardwork import ShardWork, known_keys, roster_of
from tasks.staging import Roster, Staging
from tasks.workers import ClipWorker, DecodeWorker, InferWorker, read_parcels
from tests.corpus import bad_clips, spoil, write_tar
from tests.tasks.networks import DARK, MEDIUM, Grey, entry, grey
from tests.tasks.runs import failures_told, run, settings

MEMBERS = {
    **{f"{name}_1_2.mp4": grey(MEDIUM) for name in "abcde"},
    "dark_1_2.mp4": grey(DARK),
    "bad_1_2.mp4": bad_clips()["CORRUPT"],
    "holiday.mp4": b"x",
    "list.txt": b"x",
}
GOOD = {f"{name}_1_2" for name in ("a", "b", "c", "d", "e", "dark")}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    monkeypatch.setattr(module, "PARCEL_CLIPS", 3)
    write_tar(tmp_path / "corpus" / "part_0.tar", MEMBERS, gz=False)
    return settings(tmp_path, {"kind": "kinetics", "uri": f"{tmp_path}/corpus/part_0.tar"}, embed=["grey", "picky"])


def work_in(config: RunConfig) -> ShardWork:
    return plan_run(config).work[0]


def keys(parcels: list[Parcel]) -> list[list[str]]:
    return [[clip.key.rpartition("!")[2] for clip in parcel.clips] for parcel in parcels]


def test_a_shard_travels_in_parcels_and_its_end_says_how_many_clips_it_had(config: RunConfig) -> None:
    parcels = list(read_parcels(work_in(config), config))
    assert keys(parcels) == [["a_1_2", "b_1_2", "c_1_2"], ["d_1_2", "e_1_2", "dark_1_2"], ["bad_1_2", "holiday.mp4"]]
    assert [parcel.end and (parcel.end.sent, parcel.end.known, parcel.end.problem) for parcel in parcels] == [None, None, (8, 0, None)]
    roster = roster_of(config.output, work_in(config))
    assert roster is not None
    assert (len(roster.members), roster.ignored) == (8, 1)


def test_parcels_are_bounded_by_bytes_too(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PARCEL_BYTES", len(grey(MEDIUM)) + 1)
    parcels = list(read_parcels(work_in(config), config))
    assert keys(parcels)[:2] == [["a_1_2", "b_1_2"], ["c_1_2", "d_1_2"]]
    assert sum(len(parcel.clips) for parcel in parcels) == 8
    for parcel in parcels:
        assert sum(len(clip.data or b"") for clip in parcel.clips[:-1]) < module.PARCEL_BYTES


def test_the_roster_comes_only_with_the_shards_end(config: RunConfig) -> None:
    """P11: a roster of what was read so far would let a shard be published with a hole."""
    reading = read_parcels(work_in(config), config)
    next(reading)
    next(reading)
    assert roster_of(config.output, work_in(config)) is None


def test_what_is_staged_is_not_sent_again_and_its_archive_not_opened(config: RunConfig, tmp_path: Path) -> None:
    """P4: a rerun redoes at most what was in flight."""
    work, worker = work_in(config), ClipWorker(config, model_specs(config), "run", "try")
    first, *_ = parcels = list(read_parcels(work, config))
    worker(first)
    again = list(read_parcels(work, config))
    assert keys(again) == [["d_1_2", "e_1_2", "dark_1_2"], ["bad_1_2", "holiday.mp4"]]
    assert again[-1].end is not None
    assert (again[-1].end.sent, again[-1].end.known) == (5, 3)
    for parcel in parcels[1:]:
        worker(parcel)
    spoil(tmp_path / "corpus" / "part_0.tar")
    (last,) = read_parcels(work, config)
    assert last.end is not None
    assert (last.clips, last.end.sent, last.end.known) == ((), 0, 8)


def test_a_reader_that_ray_runs_again_sends_the_same_parcels(config: RunConfig) -> None:
    """P1: without `try_id` in tasks.staging it would leave out what its own try has staged, and Ray takes what it lost by its place in the row."""
    mine, others = replace(work_in(config), try_id="mine"), replace(work_in(config), try_id="other")
    first, *_ = parcels = list(read_parcels(mine, config))
    ClipWorker(config, model_specs(config), "run", "mine")(first)
    again = list(read_parcels(mine, config))
    assert (keys(again), again[-1].end) == (keys(parcels), parcels[-1].end)
    assert keys(list(read_parcels(others, config))) == keys(parcels)[1:]


def test_a_lost_store_ends_the_shard_with_a_problem_and_no_roster(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    work = work_in(config)

    def lost(_: object) -> object:
        raise StorageError("s3://b/part_0.tar", Cause.BUSY)

    monkeypatch.setattr(storage, "open_stream", lost)
    (parcel,) = read_parcels(work, config)
    assert parcel.end is not None
    assert parcel.end.problem
    assert "part_0: s3://b/part_0.tar: the store kept failing" in parcel.end.problem
    assert roster_of(config.output, work) is None


def test_a_worker_stages_rows_and_failures_and_reports_them(config: RunConfig) -> None:
    work, worker = work_in(config), ClipWorker(config, model_specs(config), "run 7", "try")
    outcomes: list[Outcome] = [worker(parcel) for parcel in read_parcels(work, config)]
    assert [outcome.clips for outcome in outcomes] == [3, 3, 2]
    told = failures_told([failure for outcome in outcomes for failure in outcome.failures])
    assert told == [("dark_1_2", "picky", "MODEL"), ("bad_1_2", "decode", "CORRUPT"), (None, "read", "BAD_NAME")]
    staging = Staging(config.output, "part_0")
    rows = {
        feature.label.partition("@")[0]: {row["clip_id"] for table in staging.tables(feature.folder) for row in table.to_pylist()}
        for feature in work.features
    }
    assert rows == {"clips": GOOD, "embeddings grey": GOOD, "embeddings picky": GOOD - {"dark_1_2"}}
    failures = [row for table in staging.tables("failures") for row in table.to_pylist()]
    assert {(row["shard"], row["run_id"]) for row in failures} == {("part_0", "run 7")}
    assert len(known_keys(config.output, work)) == 8


def test_only_the_wanted_features_are_computed(config: RunConfig) -> None:
    work, worker = work_in(config), ClipWorker(config, model_specs(config), "run", "try")
    wanted = ShardWork(work.shard, work.features[:2], frozenset(), listed=False, unchanged=False)
    outcomes = [worker(parcel) for parcel in read_parcels(wanted, config)]
    assert ("dark_1_2", "picky", "MODEL") not in failures_told([f for outcome in outcomes for f in outcome.failures])
    assert list(Staging(config.output, "part_0").tables(work.features[2].folder)) == []


def test_decode_and_infer_may_be_apart(config: RunConfig) -> None:
    decoder, inferrer = DecodeWorker(config, model_specs(config)), InferWorker(config, model_specs(config), "run", "try")
    (first, *_) = read_parcels(work_in(config), config)
    decoded = decoder(first)
    assert {clip.clip.data for clip in decoded.clips} == {None}
    assert inferrer(decoded) == ClipWorker(config, model_specs(config), "run", "try")(first)


def test_trouble_with_the_store_is_reported_and_nothing_is_staged_for_the_clip(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def trouble(clip: Any, *_: object, **__: object) -> Any:
        return DecodedClip(clip, None, problem="the store kept failing")

    (first, *_) = read_parcels(work_in(config), config)
    worker = ClipWorker(config, model_specs(config), "run", "try")
    monkeypatch.setattr(module, "decode", trouble)
    outcome = worker(first)
    assert (outcome.clips, outcome.failures, outcome.problem) == (3, (), "the store kept failing")
    assert known_keys(config.output, work_in(config)) == set()


@pytest.mark.parametrize(
    ("factory", "told"),
    [("tests.tasks.networks:gone", "has no gone"), ("tests.tasks.test_workers:stubborn", "RuntimeError: never")],
)
def test_a_model_that_cannot_be_built_is_fatal_with_its_reason(config: RunConfig, tmp_path: Path, factory: str, told: str) -> None:
    """Raising in an actor's constructor would make Ray start it again and again."""
    own = [entry(tmp_path, name="broken", factory=factory)]
    broken = settings(tmp_path, {"kind": "kinetics", "uri": config.source.uri}, embed=["broken"], models=own)
    work = ShardWork(work_in(config).shard, features_of(broken), frozenset(), listed=False, unchanged=False)
    (first, *_) = read_parcels(work, broken)
    outcome = ClipWorker(broken, model_specs(broken), "run", "try")(first)
    assert outcome.fatal is not None
    assert told in outcome.fatal
    assert [path.name.partition("-")[0] for path in Path(config.output).rglob("*.fragment")] == ["roster"]


def stubborn() -> object:
    """A network that never runs."""

    class Stubborn(Grey):
        def forward(self, x: object) -> Any:
            raise RuntimeError("never")

    return Stubborn()


def test_an_empty_archive_of_other_files_is_a_shard_without_clips(tmp_path: Path) -> None:
    write_tar(tmp_path / "part_0.tar", {"a.txt": b"x"}, gz=False)
    config = settings(tmp_path, {"kind": "kinetics", "uri": f"{tmp_path}/part_0.tar"})
    (parcel,) = read_parcels(work_in(config), config)
    assert parcel.end is not None
    assert (parcel.clips, parcel.end.sent) == ((), 0)
    assert roster_of(config.output, work_in(config)) == Roster({}, 1)
    assert run(config).status == "done"
    assert plan_run(config).work == ()
