"""A retry redoes what is selected and nothing else, and nothing that it does can lose a clip."""

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from infra import storage
from infra.settings import RunConfig
from tasks.encoded import Parcel
from tasks.plan import plan_run
from tasks.shardwork import ShardWork
from tasks.verify import verify
from tests.corpus import clip, contents, files, write_tar, write_videos
from tests.tasks import runs
from tests.tasks.broken import EMBED, file, source_of, two_shards
from tests.tasks.networks import LIGHT, MEDIUM, entry, grey
from tests.tasks.runs import run, settings

TIGHT = {"max_pixels": 10_000}  # two clips of part_0 have more


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Clips that were handed to the decoder, in order."""
    found: list[str] = []
    really = runs.read_parcels

    def spy(work: ShardWork, config: RunConfig) -> Iterator[Parcel]:
        for parcel in really(work, config):
            found.extend(clip.key for clip in parcel.clips)
            yield parcel

    monkeypatch.setattr(runs, "read_parcels", spy)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A corpus of two shards with its output: CORRUPT bad, MODEL c and d, TOO_LARGE l and m."""
    two_shards(tmp_path, limits=TIGHT)
    return tmp_path


def roomy(folder: Path, **more: Any) -> RunConfig:
    """The same run without the limit."""
    return settings(folder, source_of(folder), embed=EMBED, **more)


def failures(output: Path) -> dict[str, tuple[str, int]]:
    """Kind and attempts by clip."""
    rows = (row for path in sorted((output / "failures").glob("*.parquet")) for row in pq.read_table(path).to_pylist())
    return {row["clip_id"] or row["member"]: (row["kind"], row["attempts"]) for row in rows}


AS_THEY_WERE = {"bad_1_2": ("CORRUPT", 1), "c_1_2": ("MODEL", 1), "d_1_2": ("MODEL", 1), "l_1_2": ("TOO_LARGE", 1), "m_1_2": ("TOO_LARGE", 1)}
SELECTED = {
    "kind:TOO_LARGE": ["l_1_2", "m_1_2"],
    "kind:TOO_*,clip:m*": ["m_1_2"],
    "stage:picky": ["c_1_2", "d_1_2"],
    "stage:picky,shard:part_1": ["c_1_2"],
    "shard:part_1": ["c_1_2"],
    "clip:bad_1_2": ["bad_1_2"],
    "member:*part_0.tar!d_*": ["d_1_2"],
    "state:failed": ["bad_1_2", "c_1_2", "d_1_2", "l_1_2", "m_1_2"],
    "kind:TIMEOUT": [],
    "state:missing": [],
    "state:altered": [],
}


@pytest.mark.parametrize("selector", SELECTED)
def test_only_what_is_selected_is_computed(folder: Path, sent: list[str], selector: str) -> None:
    """P4: without the known keys of `tasks.shardwork.known_keys` a retry would compute its shards whole, and the other failures too."""
    before = files(folder / "out")
    run(roomy(folder), select=[selector])
    again = SELECTED[selector]
    assert sorted(sent) == again
    healed = {"l_1_2", "m_1_2"} & {*again}
    told = {name: (kind, tries + (name in again)) for name, (kind, tries) in AS_THEY_WERE.items() if name not in healed}
    assert failures(folder / "out") == told
    assert verify(str(folder / "out")).faults == []
    assert {path for path in before if "part_1" in path and before[path] == files(folder / "out")[path]} == {
        path for path in before if "part_1" in path and not ("c_1_2" in again and path.startswith("failures"))
    }


def test_several_selectors_mean_any_of_them(folder: Path, sent: list[str]) -> None:
    run(roomy(folder), select=["clip:l*", "shard:part_1"])
    assert sorted(sent) == ["c_1_2", "l_1_2"]


def test_a_retry_under_another_limit_gives_what_a_run_under_it_would_have_given(folder: Path, tmp_path: Path) -> None:
    """P1: rows of the retried clips, in every table, equal to those of an undisturbed run."""
    summary = run(roomy(folder), select=["kind:TOO_LARGE"])
    assert (summary.status, summary.clips) == ("done", 2)
    undisturbed = roomy(folder).model_copy(update={"output": str(tmp_path / "calm")})
    run(undisturbed)
    assert contents(folder / "out") == contents(tmp_path / "calm")
    assert run(roomy(folder)).status == "nothing to do"


def test_tries_add_up(folder: Path) -> None:
    for tries in (2, 3):
        run(settings(folder, source_of(folder), embed=EMBED, limits=TIGHT), select=["clip:l_1_2"])
        assert failures(folder / "out")["l_1_2"] == ("TOO_LARGE", tries)


class Died(BaseException):
    """The process is gone."""


def dying(monkeypatch: pytest.MonkeyPatch, after: int) -> list[str]:
    """The storage of a process that dies before one more change of the output than `after`; what it changed."""
    changes: list[str] = []

    def guarded(really: Callable[..., Any]) -> Callable[..., Any]:
        def change(uri: str, *arguments: Any) -> Any:
            if len(changes) == after:
                raise Died
            changes.append(uri)
            return really(uri, *arguments)

        return change

    for name in ("publish", "delete", "delete_tree"):
        monkeypatch.setattr(storage, name, guarded(getattr(storage, name)))
    return changes


CASES: dict[str, tuple[dict[str, Any], str, set[str]]] = {
    "two of many failures heal": ({}, "kind:TOO_LARGE", {"bad_1_2", "c_1_2", "d_1_2"}),
    "they fail again": ({"limits": TIGHT}, "kind:TOO_LARGE", {*AS_THEY_WERE}),
    "a model's failures fail again": ({}, "stage:picky", {*AS_THEY_WERE}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_retry_that_is_killed_anywhere_loses_nothing(folder: Path, tmp_path: Path, case: str) -> None:
    """P1, P11: failures are changed last, so that until a row is visible its failure is; a run afterwards ends what was begun.

    With the failures first, as an ordinary publication has them, the clip would be neither at the third change.
    """
    more, selector, left = CASES[case]
    shutil.copytree(folder / "out", tmp_path / "before")
    config, after = roomy(folder, **more), 0
    while True:
        shutil.rmtree(folder / "out")
        shutil.copytree(tmp_path / "before", folder / "out")
        with pytest.MonkeyPatch.context() as patch:
            changes = dying(patch, after)
            try:
                run(config, select=[selector])
                break
            except Died:
                after += 1
        assert verify(str(folder / "out")).faults == [], changes
        assert {*failures(folder / "out")} <= {*AS_THEY_WERE}
        if after % 3 == 1:
            run(config)  # the ordinary run, with whatever is staged
            assert {*failures(folder / "out")} in ({*AS_THEY_WERE}, left), changes
        elif after % 3 == 2:
            run(config, select=["clip:d_1_2"])  # another retry, of the model whose file may be new already
            assert verify(str(folder / "out")).faults == [], changes
        run(config, select=[selector])
        assert verify(str(folder / "out")).faults == [], changes
        assert {*failures(folder / "out")} == left, changes
    assert after >= 5


def test_a_run_ends_a_retry_that_was_killed_before_it_changed_the_failures(folder: Path, sent: list[str]) -> None:
    """P1: rows and failures of two clips are both visible; without `behind` in the plan the failures would stay beside the rows."""
    really = storage.publish

    def publish(uri: str, write: Callable[[Any], object]) -> None:
        if uri.endswith("out/failures/part_0.parquet"):
            raise Died
        really(uri, write)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "publish", publish)
        with pytest.raises(Died):
            run(roomy(folder), select=["kind:TOO_LARGE"])
    assert failures(folder / "out") == AS_THEY_WERE
    assert len(contents(folder / "out")["clips"]) == 6
    sent.clear()
    assert run(roomy(folder)).status == "done"
    assert (sent, {*failures(folder / "out")}) == ([], {"bad_1_2", "c_1_2", "d_1_2"})
    assert run(roomy(folder)).status == "nothing to do"


def test_of_two_tries_the_later_one_tells(folder: Path) -> None:
    """A killed try staged its failure, and its fragment sorts last; without the order by time in `_Publication` its reason would be told."""
    names = (SimpleNamespace(hex=f"{number:032}") for number in range(999, 0, -1))
    for killed, pixels in ((True, 5_000), (False, 15_000)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(uuid, "uuid4", lambda: next(names))
            changes = dying(patch, 2 if killed else 99)
            with suppress(Died):
                run(settings(folder, source_of(folder), embed=EMBED, limits={"max_pixels": pixels}), select=["clip:l_1_2"])
            assert any("/_wip/shard=part_0/failures/" in change for change in changes)
    rows = {row["clip_id"]: row["message"] for row in pq.read_table(folder / "out" / "failures" / "part_0.parquet").to_pylist()}
    assert "limits.max_pixels is 15,000" in rows["l_1_2"]


def test_what_a_killed_try_staged_as_a_failure_is_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch, sent: list[str]) -> None:
    """P4: without the test of `work.retried` in `known_keys` the failure of the killed try, under the old limit, would be the last word."""
    with pytest.MonkeyPatch.context() as patch:
        changes = dying(patch, 2)  # the failure's fragment and the roster
        with pytest.raises(Died):
            run(settings(folder, source_of(folder), embed=EMBED, limits=TIGHT), select=["clip:l_1_2"])
    assert any("/failures/" in change for change in changes)
    sent.clear()
    run(roomy(folder), select=["clip:l_1_2"])
    assert sent == ["l_1_2"]
    assert "l_1_2" not in failures(folder / "out")


def test_clips_that_were_too_large_to_be_read_are_retried_one_by_one(tmp_path: Path, sent: list[str]) -> None:
    """P4: such a failure bears the archive's etag and the clip its own; without `held_etags` the other one would count as new."""
    write_tar(tmp_path / "c" / "part_0.tar", {"a_1_2.mp4": grey(MEDIUM), "l_1_2.mp4": clip(1), "m_1_2.mp4": clip(2)}, gz=False)
    source = {"kind": "kinetics", "uri": f"{tmp_path}/c/*.tar"}
    run(settings(tmp_path, source, limits={"max_bytes": len(grey(MEDIUM))}))
    assert failures(tmp_path / "out") == {"l_1_2": ("TOO_LARGE", 1), "m_1_2": ("TOO_LARGE", 1)}
    sent.clear()
    run(settings(tmp_path, source), select=["clip:l_1_2"])
    assert sent == ["l_1_2"]
    assert failures(tmp_path / "out") == {"m_1_2": ("TOO_LARGE", 1)}
    assert verify(str(tmp_path / "out")).faults == []


def test_a_loose_video_that_could_not_be_opened_brings_its_clips(tmp_path: Path, sent: list[str]) -> None:
    """P1: the failure was of the video, the rows are of its windows; the failed member goes, the clips come."""
    write_videos(tmp_path / "v", {"long.mp4": 5, "short.mp4": 2})
    source = {"kind": "files", "uri": str(tmp_path / "v")}
    run(settings(tmp_path, source, decode={"clip_s": 2}, limits={"max_duration_s": 3}))
    (member,) = failures(tmp_path / "out")
    assert member.endswith("long.mp4")
    sent.clear()
    run(settings(tmp_path, source, decode={"clip_s": 2}), select=[f"member:{member}"])
    assert sent == ["long.mp4#0", "long.mp4#2000", "long.mp4#4000"]
    assert failures(tmp_path / "out") == {}
    assert verify(str(tmp_path / "out")).faults == []
    assert run(settings(tmp_path, source, decode={"clip_s": 2})).status == "nothing to do"


def test_a_retry_of_a_loose_video_that_is_killed_anywhere_is_ended_by_a_run_or_undone(tmp_path: Path) -> None:
    """P1, P11: it finds clips where one failure was; without `planned` in `is_behind` the features that know them would not fit the clips."""
    write_videos(tmp_path / "v", {"long.mp4": 5, "short.mp4": 2})
    source, cut = {"kind": "files", "uri": str(tmp_path / "v")}, {"clip_s": 2}
    run(settings(tmp_path, source, decode=cut, limits={"max_duration_s": 3}))
    shutil.copytree(tmp_path / "out", tmp_path / "before")
    after, more = 0, settings(tmp_path, source, decode=cut, embed=["grey", "picky"])
    while True:
        shutil.rmtree(tmp_path / "out")
        shutil.copytree(tmp_path / "before", tmp_path / "out")
        with pytest.MonkeyPatch.context() as patch:
            changes = dying(patch, after)
            try:
                run(settings(tmp_path, source, decode=cut), select=["state:failed"])
                break
            except Died:
                after += 1
        run(more)
        assert verify(str(tmp_path / "out")).faults == [], changes
        run(more, select=["state:failed"])
        assert verify(str(tmp_path / "out")).faults == [], changes
        assert len(contents(tmp_path / "out")["embeddings"]) == 8, changes
        assert failures(tmp_path / "out") == {}
    assert after >= 5


def test_a_window_of_a_loose_video_is_retried_as_the_window_it_was(tmp_path: Path, sent: list[str]) -> None:
    """P5: the failures' table tells no window; without asking the video again the whole of it would be taken for the clip."""
    write_videos(tmp_path / "v", {"long.mp4": 5})
    source = {"kind": "files", "uri": str(tmp_path / "v")}
    calm = settings(tmp_path, source, decode={"clip_s": 2, "fps": 2}).model_copy(update={"output": str(tmp_path / "calm")})
    run(calm)
    run(settings(tmp_path, source, decode={"clip_s": 2, "fps": 2}, limits={"max_frames": 3}))
    assert {*failures(tmp_path / "out")} == {"long.mp4#0", "long.mp4#2000"}
    sent.clear()
    run(settings(tmp_path, source, decode={"clip_s": 2, "fps": 2}), select=["clip:long.mp4#2000"])
    assert sent == ["long.mp4#2000"]
    run(settings(tmp_path, source, decode={"clip_s": 2, "fps": 2}), select=["clip:long.mp4#0"])
    assert contents(tmp_path / "out") == contents(tmp_path / "calm")
    assert verify(str(tmp_path / "out")).faults == []


def test_a_replacement_that_failed_is_retried_from_the_archive_of_replacements(tmp_path: Path) -> None:
    write_tar(tmp_path / "c" / "part_0.tar", {"a_1_2.mp4": grey(MEDIUM), "l_1_2.mp4": grey(LIGHT)}, gz=False)
    write_tar(tmp_path / "r.tar", {"l_1_2.mp4": clip(1)}, gz=False)
    source = {"kind": "kinetics", "uri": f"{tmp_path}/c/*.tar", "replacements": f"{tmp_path}/r.tar"}
    run(settings(tmp_path, source, limits=TIGHT))
    assert failures(tmp_path / "out") == {"l_1_2": ("TOO_LARGE", 1)}
    run(settings(tmp_path, source), select=["clip:l_1_2"])
    assert failures(tmp_path / "out") == {}
    assert [row["width"] for row in pq.read_table(tmp_path / "out" / "clips" / "part_0.parquet").to_pylist()] == [64, 160]
    assert verify(str(tmp_path / "out")).faults == []


def test_features_of_models_that_are_not_asked_for_follow_when_they_are(folder: Path, sent: list[str]) -> None:
    """P1, P11: after the retry picky lacks clips that have rows; without `is_behind` in the plan that hole would stay for ever."""
    run(settings(folder, source_of(folder), embed=["grey"]), select=["kind:TOO_LARGE"])
    assert {"l_1_2", "m_1_2"}.isdisjoint(failures(folder / "out"))
    sent.clear()
    assert [[feature.model for feature in work.features] for work in plan_run(roomy(folder)).work] == [["picky"]]
    run(roomy(folder))
    assert sent == ["l_1_2", "m_1_2"]
    assert verify(str(folder / "out")).faults == []
    assert run(roomy(folder)).status == "nothing to do"


def test_a_model_without_any_file_follows_when_clips_have_come(tmp_path: Path, sent: list[str]) -> None:
    """P1: picky failed on every clip there was, and is remembered as empty; without `clipless` in that memory the new clip would be a hole."""
    write_tar(tmp_path / "c" / "part_0.tar", {"c_1_2.mp4": grey(LIGHT), "l_1_2.mp4": clip(1)}, gz=False)
    run(settings(tmp_path, source_of(tmp_path), embed=EMBED, limits=TIGHT))
    assert not list((tmp_path / "out").rglob("model=picky/*/*.parquet"))
    run(settings(tmp_path, source_of(tmp_path), embed=["grey"]), select=["clip:l_1_2"])
    sent.clear()
    run(settings(tmp_path, source_of(tmp_path), embed=EMBED))
    assert "l_1_2" in sent
    assert [row["clip_id"] for row in pq.read_table(file(tmp_path / "out", "embeddings/picky", "part_0")).to_pylist()] == ["l_1_2"]
    assert verify(str(tmp_path / "out")).faults == []


def test_a_model_that_failed_on_every_clip_is_retried_on_the_selected(tmp_path: Path, sent: list[str]) -> None:
    """P4: it has no file; without its folder among those that hold, all its failures would be tried again."""
    write_tar(tmp_path / "c" / "part_0.tar", {"c_1_2.mp4": grey(LIGHT), "k_1_2.mp4": grey(LIGHT, seconds=2)}, gz=False)
    config = settings(tmp_path, source_of(tmp_path), embed=EMBED)
    run(config)
    sent.clear()
    run(config, select=["clip:k_1_2"])
    assert sent == ["k_1_2"]
    assert failures(tmp_path / "out") == {"c_1_2": ("MODEL", 1), "k_1_2": ("MODEL", 2)}
    assert verify(str(tmp_path / "out")).faults == []


def test_what_is_missing_stays_so_unless_it_is_selected(folder: Path, sent: list[str]) -> None:
    """P11: a retry of failures that leaves a shard without its file does not call itself done."""
    file(folder / "out", "embeddings/grey", "part_1").unlink()
    summary = run(roomy(folder), select=["kind:TOO_LARGE"])
    assert (sent, summary.status) == (["l_1_2", "m_1_2"], "work left")
    assert not list((folder / "out").rglob("model=grey/*/part_1.parquet"))
    assert run(roomy(folder), select=["state:missing"]).status == "done"
    assert verify(str(folder / "out")).faults == []


def test_a_changed_archive_is_compared_as_a_run_would(folder: Path, sent: list[str]) -> None:
    """P5: the retried shard gained a clip meanwhile; publishing it needs all of it."""
    members = {"a_1_2.mp4": grey(MEDIUM), "bad_1_2.mp4": b"x", "l_1_2.mp4": clip(1), "n_1_2.mp4": grey(MEDIUM, seconds=2)}
    write_tar(folder / "c" / "part_0.tar", members, gz=False)
    run(roomy(folder), select=["clip:l_1_2"])
    assert sorted(sent) == ["l_1_2", "n_1_2"]
    assert {*failures(folder / "out")} == {"bad_1_2", "c_1_2"}
    assert verify(str(folder / "out")).faults == []


def test_a_retry_under_a_new_version_of_a_model_heals_the_clips_and_leaves_the_version_to_a_run(folder: Path) -> None:
    """P11: what the new version lacks is missing, not selected; the older version's files stay as they are."""
    other = [entry(folder, crop=16), entry(folder, "Picky")]
    summary = run(settings(folder, source_of(folder), embed=EMBED, models=other), select=["kind:TOO_LARGE"])
    assert summary.status == "work left"
    assert run(settings(folder, source_of(folder), embed=EMBED, models=other)).status == "done"
    assert verify(str(folder / "out")).faults == []
