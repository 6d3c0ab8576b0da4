"""A night without change asks as much of ten shards as of forty, and writes nothing; `python -m tests.bench.nothing_to_do` measures it on many."""

import json
from pathlib import Path

import pytest

from tasks.feature import features_of
from tasks.published import FAILURES_FOLDER, index_files
from tests.bench.nothing_to_do import config_in, fill, main, night

READING = {"list_objects_v2", "get_object", "head_object", "files opened"}


def requests(root: str, shards: int) -> dict[str, int]:
    config = config_in(root)
    fill(config, shards)
    for folder in (FAILURES_FOLDER, *(feature.folder for feature in features_of(config))):
        index_files(config.output, folder)
    return night(config, shards).requests


def test_no_request_is_made_per_shard(bucket: str) -> None:
    few, many = (requests(f"s3://{bucket}/{shards}", shards) for shards in (10, 40))
    assert few == many
    assert few.keys() <= READING


def test_no_file_is_opened_per_shard(tmp_path: Path) -> None:
    few, many = (requests(f"{tmp_path}/{shards}", shards) for shards in (10, 40))
    assert few == many


def test_without_an_index_the_files_themselves_are_asked(tmp_path: Path) -> None:
    config = config_in(str(tmp_path))
    fill(config, 8)
    assert night(config, 8).requests["files opened"] >= 8 * len(features_of(config))


def test_the_bench_prints_both_nights(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--shards", "4"])
    printed = json.loads(capsys.readouterr().out)
    assert printed["with index"]["requests"]["files opened"] < printed["without index"]["requests"]["files opened"]
