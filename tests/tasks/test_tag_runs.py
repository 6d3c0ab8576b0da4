"""A trained tagger through whole runs: tags out of stored embeddings, no media and no TFRecord opened for them."""

from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from infra.problem import Problem
from infra.settings import RunConfig
from models.tagger import Tagger
from tasks.feature import tagger_specs
from tasks.plan import plan_run
from tasks.tag_workers import TagWorker, read_stored
from tasks.tfrecord import framed
from tasks.verify import verify
from tasks.youtube8m import LOWEST, STEP
from tests.corpus import config_for, files, spoil, table, write_tar
from tests.tasks.networks import DARK, LIGHT, MEDIUM, Grey, grey
from tests.tasks.runs import run, settings
from tests.tasks.taggers import RECORDS, entry, tagger
from tests.tasks.test_record_runs import arrays, packed
from tests.tasks.test_youtube8m import codes, frame_level


def records_config(folder: Path, *inputs: tuple[str, int], seed: int = 0, **more: Any) -> RunConfig:
    path = tagger(folder / f"tagger-{seed}.safetensors", *(inputs or RECORDS), seed=seed)
    return config_for({"kind": "youtube8m", "uri": f"{folder}/shards/"}, folder / "out", tag=["mine"], models=[entry(path)], **more)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    (tmp_path / "shards").mkdir()
    return tmp_path / "shards"


def tags_of(output: object, model: str = "mine") -> dict[str, list[tuple[str, float]]]:
    return {row["clip_id"]: [(tag["label"], tag["score"]) for tag in row["tags"]] for row in table(output, f"tags/model={model}").to_pylist()}


def best(path: Path, frames: np.ndarray) -> list[tuple[str, float]]:
    """What the tagger itself says of a sequence."""
    found = Tagger(path)
    (scores,) = found.scores([frames])
    return [(found.shape.labels[k], pytest.approx(float(scores[k]), abs=1e-6)) for k in np.argsort(-scores)[:5]]


def test_records_are_tagged_in_the_run_that_reads_them(tmp_path: Path, shards: Path) -> None:
    records = arrays(["a", "-b", "c"])
    (shards / "train00.tfrecord").write_bytes(b"".join(packed(records)))
    config = records_config(tmp_path)
    summary = run(config)
    assert (summary.status, summary.clips, summary.tagged) == ("done", 3, 3), summary.problems
    for name, found in tags_of(config.output).items():
        values = np.concatenate([(records[name][feature] * STEP + LOWEST).astype(np.float32) for feature in ("rgb", "audio")], axis=1)
        assert found == best(tmp_path / "tagger-0.safetensors", values)
    assert tags_of(config.output).keys() == records.keys()
    assert verify(config.output).faults == []
    state = files(tmp_path / "out")
    assert (plan_run(config).work, run(config).status) == ((), "nothing to do")
    assert files(tmp_path / "out") == state


def test_a_tagger_that_is_new_on_a_finished_output_opens_no_record(tmp_path: Path, shards: Path) -> None:
    shard = shards / "train00.tfrecord"
    shard.write_bytes(b"".join(packed(arrays(["a", "b"]))))
    config = records_config(tmp_path)
    run(config.model_copy(update={"tag": []}))
    before = {name: state for name, state in files(tmp_path / "out").items() if not name.startswith("_")}
    spoil(shard)
    (work,) = plan_run(config).work
    assert [feature.label.partition("@")[0] for feature in work.features] == ["tags mine"]
    summary = run(config)
    assert (summary.status, summary.clips, summary.tagged) == ("done", 0, 2), summary.problems
    assert before.items() <= files(tmp_path / "out").items(), "nothing that was there is touched"
    again = records_config(tmp_path, seed=1)
    assert (run(again).status, len(list((tmp_path / "out/tags/model=mine").iterdir()))) == ("done", 2)
    assert verify(config.output).faults == []


def test_a_record_without_audio_is_explained_by_its_own_failure(tmp_path: Path, shards: Path) -> None:
    lame = frame_level({"rgb": codes(5, 1024)}, name="lame").SerializeToString()
    (shards / "train00.tfrecord").write_bytes(b"".join(packed(arrays(["a", "b"]))) + framed(lame) + framed(b"no record"))
    config = records_config(tmp_path)
    assert run(config).status == "done"
    assert tags_of(config.output).keys() == {"a", "b"}
    failures = table(config.output, "failures").to_pylist()
    assert sorted((row["clip_id"] or "", row["stage"]) for row in failures) == [("", "read"), ("lame", "yt8m-vggish")]
    assert verify(config.output).faults == []
    picture = records_config(tmp_path, RECORDS[0], seed=1)
    assert run(picture).status == "done"
    assert tags_of(tmp_path / "out", f"mine/version={plan_run(picture).features[-1].version}").keys() == {"a", "b", "lame"}
    assert (verify(config.output).faults, plan_run(picture).work) == ([], ())


def test_means_alone_are_one_frame(tmp_path: Path) -> None:
    """Embeddings of loose videos, without and with one per frame."""
    (tmp_path / "videos").mkdir()
    for number, level in enumerate((MEDIUM, LIGHT)):
        (tmp_path / "videos" / f"{number}.mp4").write_bytes(grey(level, seconds=3))
    path = tagger(tmp_path / "tagger.safetensors", ("grey", 3))
    source = {"kind": "files", "uri": f"{tmp_path}/videos/"}
    for per_frame, frames in ((False, 1), (True, 3)):
        config = settings(tmp_path, source, frame_embeddings=per_frame)
        config = RunConfig.model_validate(
            {**config.model_dump(), "tag": ["mine"], "models": [*config.model_dump(exclude_unset=True)["models"], entry(path)]}
        )
        assert run(config).status == "done"
        (tags,) = (feature for feature in plan_run(config).features if feature.table == "tags")
        (folder,) = tags.inputs
        for row in table(config.output, folder).to_pylist():
            values = np.array(row["frame_embedding"] if per_frame else [row["embedding"]], np.float32)
            assert values.shape == (frames, 3)
            assert tags_of(config.output, f"mine/version={tags.version}")[row["clip_id"]] == best(path, values)
    assert verify(config.output).faults == []


def kinetics(folder: Path, **more: Any) -> RunConfig:
    path = folder / "tagger.safetensors"
    if not path.exists():
        tagger(path, ("picky", 3))
    base = settings(folder, {"kind": "kinetics", "uri": f"{folder}/corpus/*.tar"}, **{"embed": ["picky"], **more})
    return RunConfig.model_validate({**base.model_dump(exclude_unset=True), "models": [*base.model_dump(exclude_unset=True)["models"], entry(path)]})


def test_stored_embeddings_that_the_run_does_not_make_are_read_and_none_opened(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "corpus" / "part.tar", {"a_1_2.mp4": grey(MEDIUM), "b_1_2.mp4": grey(DARK), "bad_1_2.mp4": b"no"}, gz=False)
    with pytest.raises(
        Problem, match=r"tag: mine reads embeddings of picky, which this run does not make and .*/out holds not; add picky to `embed`"
    ):
        plan_run(kinetics(tmp_path, embed=["grey"], tag=["mine"]))
    assert run(kinetics(tmp_path)).status == "done"
    spoil(archive)
    config = kinetics(tmp_path, embed=[], tag=["mine"])
    assert (run(config).status, list(tags_of(config.output)), verify(config.output).faults) == ("done", ["a_1_2"], [])
    write_tar(tmp_path / "corpus" / "other.tar", {"d_1_2.mp4": grey(MEDIUM)}, gz=False)
    with pytest.raises(
        Problem, match=r"tag: mine reads embeddings picky@.* lacks of other and this run does not make; add picky to `embed`, or take"
    ):
        plan_run(config)
    assert run(kinetics(tmp_path, tag=["mine"])).clips == 1
    assert tags_of(config.output).keys() == {"a_1_2", "d_1_2"}


def died(_: object) -> NoReturn:
    raise KeyboardInterrupt


def test_embeddings_that_a_retry_brings_are_tagged_and_a_death_in_between_is_made_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1, P11: tags know what their embeddings lacked; without the footer's `inputless` the next plan would find nothing to do, and verify a hole."""
    bad = b"no video"  # so that there are failures after the retry too
    clips = {"a_1_2.mp4": grey(MEDIUM), "b_1_2.mp4": grey(DARK), "e_1_2.mp4": grey(DARK), "bad-0_1_2.mp4": bad}
    write_tar(tmp_path / "corpus" / "part.tar", clips, gz=False)
    write_tar(tmp_path / "corpus" / "dark.tar", {"c_1_2.mp4": grey(DARK), "bad-1_1_2.mp4": bad}, gz=False)
    config = kinetics(tmp_path, tag=["mine"])
    assert (run(config).status, list(tags_of(config.output))) == ("done", ["a_1_2"])
    assert verify(config.output).faults == []
    assert plan_run(config).work == ()
    monkeypatch.setattr("tests.tasks.networks.Picky", Grey)
    with monkeypatch.context() as death:
        death.setattr("tests.tasks.runs.from_embeddings", died)
        with pytest.raises(KeyboardInterrupt):
            run(config, select=["stage:picky"])
    assert verify(config.output).faults, "what the embeddings have, the tags lack"
    assert {feature.table for work in plan_run(config).work for feature in work.features} == {"tags"}
    assert run(config).status == "done"
    assert tags_of(config.output).keys() == {"a_1_2", "b_1_2", "c_1_2", "e_1_2"}
    assert (verify(config.output).faults, plan_run(config).work) == ([], ())


def test_a_retry_of_an_embedding_ends_with_its_tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tar(tmp_path / "corpus" / "part.tar", {"a_1_2.mp4": grey(MEDIUM), "b_1_2.mp4": grey(DARK)}, gz=False)
    config = kinetics(tmp_path, tag=["mine"])
    run(config)
    summary = run(config, select=["stage:picky"])
    assert (summary.status, list(tags_of(config.output)), verify(config.output).faults) == ("done", ["a_1_2"], [])
    assert [row["attempts"] for row in table(config.output, "failures").to_pylist()] == [2]
    monkeypatch.setattr("tests.tasks.networks.Picky", Grey)
    assert run(config, select=["clip:b_1_2"]).status == "done"
    assert (list(tags_of(config.output)), verify(config.output).faults) == (["a_1_2", "b_1_2"], [])


def test_the_failure_of_an_embedding_stays_where_tags_of_it_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: a row of tags outlives the embedding it was made from, and is no reason to forget why that one is missing."""
    write_tar(tmp_path / "corpus" / "part.tar", {"a_1_2.mp4": grey(MEDIUM), "b_1_2.mp4": grey(DARK)}, gz=False)
    config = kinetics(tmp_path, tag=["mine"])
    with monkeypatch.context() as healthy:
        healthy.setattr("tests.tasks.networks.Picky", Grey)
        run(config)
    for path in (tmp_path / "out/embeddings").rglob("*.parquet"):
        path.unlink()
    assert run(config).status == "done"
    assert sorted(tags_of(config.output)) == ["a_1_2", "b_1_2"]
    assert [row["clip_id"] for row in table(config.output, "failures").to_pylist()] == ["b_1_2"]
    assert (verify(config.output).faults, plan_run(config).work) == ([], ())


def test_what_a_tagger_cannot_score_is_its_own_failure_and_can_be_retried(tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shards / "train00.tfrecord").write_bytes(b"".join(packed(arrays(["a", "b"]))))
    config, whole = records_config(tmp_path), Tagger.scores
    monkeypatch.setattr(Tagger, "scores", lambda self, frames: whole(self, frames) * np.array([[np.nan]] + [[1]] * (len(frames) - 1), np.float32))
    assert run(config).status == "done"
    (failure,) = table(config.output, "failures").to_pylist()
    assert (failure["clip_id"], failure["stage"], failure["kind"]) == ("a", "mine", "MODEL")
    assert "gave not-a-number" in failure["message"]
    assert verify(config.output).faults == []
    monkeypatch.setattr(Tagger, "scores", whole)
    assert plan_run(config).work == ()
    summary = run(config, select=["stage:mine"])
    assert (summary.status, summary.clips, summary.tagged) == ("done", 0, 1)
    assert (sorted(tags_of(config.output)), verify(config.output).faults) == (["a", "b"], [])


def test_failures_that_are_lost_cost_the_tags_alone(tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = shards / "train00.tfrecord"
    shard.write_bytes(b"".join(packed(arrays(["a", "b"]))))
    config, whole = records_config(tmp_path), Tagger.scores
    monkeypatch.setattr(Tagger, "scores", lambda self, frames: whole(self, frames) * np.array([[np.nan]] + [[1]] * (len(frames) - 1), np.float32))
    run(config)
    monkeypatch.setattr(Tagger, "scores", whole)
    spoil(shard)
    (tmp_path / "out/failures/train00.parquet").unlink()
    summary = run(config)
    assert (summary.status, summary.clips, summary.tagged) == ("done", 0, 1)
    assert (sorted(tags_of(config.output)), verify(config.output).faults) == (["a", "b"], [])


def test_a_tagger_of_another_width_ends_the_run_with_one_line(tmp_path: Path, shards: Path) -> None:
    (shards / "train00.tfrecord").write_bytes(b"".join(packed(arrays(["a"]))))
    config = records_config(tmp_path, ("yt8m-vggish", 64))
    run(config.model_copy(update={"tag": []}))
    (work,) = plan_run(config).work
    (parcel,) = read_stored(work, config)
    outcome = TagWorker(config, tagger_specs(config), "run", "try")(parcel)
    assert outcome.fatal
    assert "tagger mine: takes 64 numbers of yt8m-vggish, and embeddings/model=yt8m-vggish" in outcome.fatal
