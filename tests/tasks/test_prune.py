"""Old versions go when a newer one is complete, and not before; what something else was made from stays."""

import re
from pathlib import Path
from typing import Any

import pytest

from infra.problem import Problem
from infra.settings import RunConfig
from tasks.plan import plan_run
from tasks.prune import Pruning, delete_old, find_old
from tasks.record import last_record, record_uri
from tasks.verify import verify
from tests.corpus import clip, files, write_tar
from tests.tasks.networks import MEDIUM, grey
from tests.tasks.runs import GUARD, backfill, run, settings
from tests.tasks.taggers import entry as tagger_entry
from tests.tasks.taggers import tagger


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for number, clips in enumerate(({"a": grey(MEDIUM), "b": clip(1)}, {"c": clip(2)})):
        write_tar(tmp_path / "corpus" / f"part_{number}.tar", {f"{name}_000001_000002.mp4": data for name, data in clips.items()}, gz=False)
    return tmp_path


def config_of(folder: Path, **more: Any) -> RunConfig:
    return settings(folder, {"kind": "kinetics", "uri": f"{folder}/corpus/*.tar"}, **more)


def old_of(output: str, *only: str) -> list[str]:
    return [version.label.partition("@")[0] for version in find_old(output, only).old]


def folders(output: str) -> set[str]:
    return {name.rpartition("/")[0] for name in files(Path(output)) if not name.startswith("_")}


def prune(output: str, *only: str) -> Pruning:
    pruning = find_old(output, only)
    delete_old(pruning, GUARD)
    return pruning


def test_a_version_goes_when_the_next_one_is_complete(corpus: Path) -> None:
    first, second = config_of(corpus), config_of(corpus, frame_embeddings=True)
    run(first)
    before = folders(first.output)
    assert old_of(first.output) == []
    run(second)
    (found,) = find_old(second.output).old
    listed = [path for path in (corpus / "out").rglob("*.parquet") if str(path).startswith(f"{corpus}/out/{found.folders[0]}/")]
    assert (found.files, found.size_bytes) == (len(listed), sum(path.stat().st_size for path in listed))
    assert {*found.folders} <= before
    calm = files(corpus / "out")
    assert find_old(second.output).old
    assert files(corpus / "out") == calm
    prune(second.output)
    left = files(corpus / "out")
    assert left == {name: state for name, state in calm.items() if not name.startswith(f"{found.folders[0]}/")}
    assert (old_of(second.output), verify(second.output).faults, plan_run(second).work) == ([], [], ())


def test_a_version_stays_until_the_next_one_is_complete(corpus: Path) -> None:
    first, second = config_of(corpus), config_of(corpus, frame_embeddings=True)
    run(first)
    run(second)
    (old,) = find_old(second.output).old
    (new,) = (folder for folder in folders(second.output) if folder.startswith("embeddings/") and folder != old.folders[0])
    (corpus / "out" / new / "part_1.parquet").unlink()
    found = find_old(second.output)
    assert found.old == ()
    (kept,) = found.kept
    assert kept.why.endswith("is not complete: 1 of 2 shards lack clips of it")
    with pytest.raises(Problem, match=r"--feature grey@\*: embeddings grey@\w+ stays: .* is not complete"):
        find_old(second.output, ["grey@*"])


def test_of_a_model_that_was_not_asked_for_last_the_newest_stays(corpus: Path) -> None:
    for config in (
        config_of(corpus),
        config_of(corpus, frame_embeddings=True),
        config_of(corpus, decode={"fps": 3}),
        config_of(corpus, embed=["picky"]),
    ):
        run(config)
    pruning = prune(config.output)
    assert [version.label.partition("@")[0] for version in pruning.old] == ["embeddings grey"] * 2
    assert plan_run(config_of(corpus, decode={"fps": 3})).work == ()


def test_a_partial_backfill_replaces_nothing(corpus: Path) -> None:
    first, second = config_of(corpus, embed=["grey", "picky"]), config_of(corpus, embed=["grey"], frame_embeddings=True)
    run(first)
    run(second)
    backfill(second, embed=["picky"], select=["clip:a_*"])
    assert old_of(second.output) == ["embeddings grey"]
    assert [kept.label.partition("@")[0] for kept in find_old(second.output).kept] == ["embeddings picky"]
    backfill(second, embed=["picky"])
    assert old_of(second.output) == ["embeddings grey", "embeddings picky"]
    assert old_of(second.output, "picky@*") == ["embeddings picky"]
    with pytest.raises(Problem, match=r"--feature nothing: names no old version of .*; old are: embeddings grey@\w+, embeddings picky@\w+"):
        find_old(second.output, ["nothing"])


def test_embeddings_that_tags_were_made_from_stay_as_long_as_the_tags(corpus: Path) -> None:
    """Also where the run that made the tags is long past; where no record tells, no embeddings go."""
    mine = tagger_entry(tagger(corpus / "tagger.safetensors", ("grey", 3)))
    own = [model.model_dump() for model in config_of(corpus).models]
    tagged = config_of(corpus, tag=["mine"], models=[*own, mine])
    run(tagged)
    record = last_record(tagged.output)
    assert record is not None
    run(config_of(corpus, frame_embeddings=True))
    found = find_old(tagged.output)
    assert found.old == ()
    assert [bool(re.fullmatch(r"tags/model=mine/version=\w+ was made from it", kept.why)) for kept in found.kept] == [True]
    Path(record_uri(tagged.output, record["run_id"])).unlink()
    assert "may have been made from it, no record tells" in find_old(tagged.output).kept[0].why
    run(config_of(corpus, frame_embeddings=True, tag=["mine"], models=[*own, mine]))
    assert sorted(old_of(tagged.output)) == ["embeddings grey", "tags mine"]
    prune(tagged.output)
    assert verify(tagged.output).faults == []
    assert sorted(folder.split("/")[0] for folder in folders(tagged.output)) == ["clips", "embeddings", "tags"]


def test_media_goes_with_the_rows_that_name_it(corpus: Path) -> None:
    run(config_of(corpus, enhance=[{"recipe": "denoise", "crf": 30}]))
    config = config_of(corpus, enhance=["denoise"])
    run(config)
    (found,) = prune(config.output).old
    assert (found.folders[1].split("/")[0], found.files) == ("media", 5)
    assert len([*(corpus / "out" / "media").rglob("*.mp4")]) == 3
    assert (verify(config.output).faults, plan_run(config).work) == ([], ())
