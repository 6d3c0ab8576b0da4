"""A version names every value: it changes with what can change a value and with nothing else."""

import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.problem import Problem
from infra.settings import RunConfig
from models.catalog import built_in
from tasks.feature import Feature, Table, features_of, model_specs, tagger_specs, version_of
from tests.corpus import config_for
from tests.tasks.taggers import entry, tagger

OWN = {"name": "own", "factory": "some.module:network", "weights": "file:/w.pth", "sha256": "0" * 64}


def settings(kind: str = "files", *, uri: str = "/corpus", output: str = "/out", own: dict[str, Any] | None = None, **more: Any) -> RunConfig:
    models = [{**OWN, **(own or {})}]
    return config_for({"kind": kind, "uri": uri}, output, **{"embed": ["own"], "models": models, **more})


def versions(config: RunConfig) -> dict[Table, str]:
    return {feature.table: feature.version for feature in features_of(config)}


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=4))
def test_a_version_is_eight_hex_digits_that_no_reader_takes_for_a_number(parts: object) -> None:
    version = version_of(parts=parts)
    assert re.fullmatch("[0-9a-f]{8}", version)
    assert not re.fullmatch(r"\d+(e\d+)?[df]?", version)


def test_hashes_that_look_like_numbers_are_drawn_again() -> None:
    """About one of 36 does; of the first 3000 some must have been redrawn, and all stay apart."""
    first = {n: hashlib.sha256(json.dumps(n).encode()).hexdigest()[:8] for n in range(3000)}
    redrawn = {n for n, digest in first.items() if version_of(parts=n) != digest}
    assert any(first[n].isdecimal() for n in redrawn)
    assert any(re.fullmatch(r"\d+e\d+", first[n]) for n in redrawn)
    assert all(re.fullmatch(r"\d+(e\d+)?[df]?", first[n]) for n in redrawn)


@pytest.mark.parametrize(
    ("changed", "tables"),
    [
        (settings(decode={"fps": 2}), {"embeddings"}),
        (settings(decode={"clip_s": 5}), {"clips", "embeddings"}),
        (settings(own={"sha256": "1" * 64}), {"embeddings"}),
        (settings(own={"factory": "some.module:other"}), {"embeddings"}),
        (settings(own={"resize": 300}), {"embeddings"}),
        (settings(own={"crop": 128}), {"embeddings"}),
        (settings(own={"mean": [1, 2, 3]}), {"embeddings"}),
        (settings(own={"std": [1, 2, 3]}), {"embeddings"}),
        (settings(frame_embeddings=True), {"embeddings"}),
        (settings(name="another"), set()),
        (settings(output="/elsewhere"), set()),
        (settings(uri="/another"), set()),
        (settings(limits={"max_failed": 5, "max_pixels": 10, "clip_timeout_s": 1}), set()),
        (settings(cluster={"cpus": 7, "gpus": 0}), set()),
        (settings(own={"licence": "MIT", "weights": "file:/moved.pth"}), set()),
        (settings("manifest"), set()),
        (settings(embed=["own", "efficientnet-lite0"]), set()),
    ],
)
def test_versions_change_with_what_changes_values_and_nothing_else(changed: RunConfig, tables: set[str]) -> None:
    before = versions(settings())
    after = {feature.table: feature.version for feature in features_of(changed) if feature.model in (None, "own")}
    assert {table for table in before if before[table] != after[table]} == tables


def test_archives_bring_their_clips_cut() -> None:
    assert versions(settings("kinetics")) == versions(settings("kinetics", decode={"clip_s": 5}))
    assert versions(settings("kinetics")) == versions(settings("webdataset"))
    assert versions(settings("kinetics")) != versions(settings("files"))


def test_frame_embeddings_do_not_change_tags() -> None:
    plain, more = (settings(embed=[], tag=["efficientnet-lite0"], frame_embeddings=flag) for flag in (False, True))
    assert versions(plain) == versions(more)


def test_features_come_in_order_each_once() -> None:
    config = settings(embed=["mobilenet-v2", "own", "mobilenet-v2"], tag=["mobilenet-v2"])
    found = features_of(config)
    assert [(feature.table, feature.model) for feature in found] == [
        ("clips", None), ("embeddings", "mobilenet-v2"), ("embeddings", "own"), ("tags", "mobilenet-v2"),
    ]  # fmt: skip
    assert [spec.name for spec in model_specs(config)] == ["mobilenet-v2", "own"]
    assert len({feature.version for feature in found}) == 4
    assert versions(settings(embed=[built_in()[0].name])) != versions(settings(embed=[built_in()[1].name]))


def with_tagger(folder: Path, *, seed: int = 0, inputs: tuple[tuple[str, int], ...] = (("own", 4),), **more: Any) -> RunConfig:
    models = [OWN, entry(tagger(folder / f"{seed}.safetensors", *inputs, seed=seed))]
    return settings(output=str(folder / "out"), **{"models": models, "tag": ["mine"], **more})


def test_a_taggers_version_hangs_on_its_file_and_on_the_embeddings_it_reads(tmp_path: Path) -> None:
    config = with_tagger(tmp_path)
    first = versions(config)["tags"]
    embeddings, tags = features_of(config)[1:]
    assert (tags.model, tags.inputs, tags.makers) == ("mine", (embeddings.folder,), {"mine", "own"})
    assert (model_specs(config), [spec.inputs for spec in tagger_specs(config)]) == (model_specs(settings()), [("own",)])
    assert versions(with_tagger(tmp_path, seed=1))["tags"] != first
    assert versions(with_tagger(tmp_path, frame_embeddings=True))["tags"] != first
    (tmp_path / "0.safetensors").rename(tmp_path / "moved.safetensors")
    moved = config.models[1].model_copy(update={"tagger": f"file:{tmp_path}/moved.safetensors"})
    assert versions(config.model_copy(update={"models": [config.models[0], moved]}))["tags"] == first
    assert Feature(**json.loads(json.dumps(asdict(tags)))) == tags


def test_what_a_tagger_reads_and_nothing_makes_is_one_line(tmp_path: Path) -> None:
    config = with_tagger(tmp_path, embed=["efficientnet-lite0"])
    with pytest.raises(Problem, match=r"tag: mine reads embeddings of own, which .* holds not; add own to `embed`, or take mine out of `tag`"):
        features_of(config)
    for version in ("ab", "cd"):
        (tmp_path / "out/embeddings/model=own" / f"version={version}").mkdir(parents=True)
        if version == "ab":
            assert [feature.folder for feature in features_of(config)][2] == "embeddings/model=own/version=ab"
    with pytest.raises(Problem, match=r"holds in the versions ab, cd; add own to `embed`"):
        features_of(config)
    with pytest.raises(Problem, match=r"reads embeddings of yt8m-vggish, .* holds not; run it over a source of kind youtube8m"):
        features_of(with_tagger(tmp_path, inputs=(("yt8m-vggish", 128),)))


def test_a_tagger_is_for_tags_alone(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="model mine: is a trained tagger, which looks at stored embeddings and not at frames; name it in `tag` alone"):
        features_of(with_tagger(tmp_path, embed=["mine"]))
    with pytest.raises(Problem, match="tag: efficientnet-lite0: youtube8m records hold no frames to look at; name a trained tagger"):
        features_of(config_for({"kind": "youtube8m", "uri": "/s"}, "/out", tag=["efficientnet-lite0"]))
    with pytest.raises(Problem, match="models: the name decode belongs to vidmill itself"):
        features_of(with_tagger(tmp_path, tag=["decode"], models=[OWN, entry(tmp_path / "0.safetensors", "decode")]))


def test_folders_are_hive_partitions() -> None:
    assert Feature("clips", None, "abc").folder == "clips"
    assert Feature("tags", "m", "abc").folder == "tags/model=m/version=abc"
    assert Feature("tags", "m", "abc").label == "tags m@abc"
