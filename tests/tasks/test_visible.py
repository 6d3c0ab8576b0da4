"""What a glob finds, and each file by itself."""

from pathlib import Path

import numpy as np

from tasks.published import path_of
from tasks.visible import attempts_in, examine, hashes, named, visible_files
from tests.tasks.shards import CLIPS, EMBEDDINGS, FEATURES, MODEL, failure, inferred, publish, published, roster, shard_of, stage, work_of


def test_files_are_told_by_folder_and_strays_apart(tmp_path: Path) -> None:
    for name in ("part_1", "part_0"):
        published(tmp_path, name)
    for stray in ("clips/x/part_0.parquet", "embeddings/model=m/part_0.parquet", "tags/version=v/model=m/a.parquet", "failures/.old.parquet"):
        (tmp_path / stray).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / stray).write_bytes(b"")
    places, strays = visible_files(f"{tmp_path}/")
    assert {folder: [file.shard for file in files] for folder, files in places.items()} == {
        folder: ["part_0", "part_1"] for folder in ("failures", *(feature.folder for feature in FEATURES))
    }
    assert sorted(Path(stray.uri).name for stray in strays) == [".old.parquet", "a.parquet", "part_0.parquet", "part_0.parquet"]
    assert visible_files(str(tmp_path / "nowhere")) == ({}, [])


def test_a_file_is_examined_with_its_clips_as_hashes(tmp_path: Path) -> None:
    published(tmp_path)
    places, _ = visible_files(str(tmp_path))
    for folder, keys, stages in (("failures", "x", ("decode",)), ("clips", "abc", ()), (EMBEDDINGS.folder, "abc", ())):
        (file,) = places[folder]
        found = examine(file)
        assert (found.fault, found.stages) == (None, stages)
        assert np.array_equal(found.keys, hashes(iter(keys)))
        assert [key for key, _ in named(file)] == list(keys)


def test_one_clip_may_fail_at_several_stages(tmp_path: Path) -> None:
    stage(tmp_path, "part_0", [inferred("a", models=())], [failure("a", stage=model) for model in (MODEL, "other")])
    roster(tmp_path, shard_of(), {"a": "v1"})
    publish(tmp_path, work_of(shard_of()))
    (file,) = visible_files(str(tmp_path))[0]["failures"]
    found = examine(file)
    assert len(set(found.keys.tolist())) == 1
    assert len(set(attempts_in(found).tolist())) == 2
    assert [at for _, at in named(file)] == [MODEL, "other"]


def test_a_file_that_went_meanwhile_is_a_fault_and_no_end(tmp_path: Path) -> None:
    published(tmp_path)
    (file,) = visible_files(str(tmp_path))[0]["clips"]
    Path(path_of(str(tmp_path), CLIPS.folder, "part_0")).unlink()
    assert examine(file).fault == "cannot be read (not found)"
