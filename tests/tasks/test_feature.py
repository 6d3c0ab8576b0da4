"""A version names every value: it changes with what can change a value and with nothing else."""

import hashlib
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.settings import RunConfig
from models.catalog import built_in
from tasks.feature import Feature, Table, features_of, model_specs, version_of
from tests.corpus import config_for

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


def test_folders_are_hive_partitions() -> None:
    assert Feature("clips", None, "abc").folder == "clips"
    assert Feature("tags", "m", "abc").folder == "tags/model=m/version=abc"
    assert Feature("tags", "m", "abc").label == "tags m@abc"
