"""All that an output holds of a clip, from every table, and nothing of others."""

from pathlib import Path

import numpy as np
import pytest

from infra.problem import Problem
from tasks.dossier import dossier_of
from tasks.published import path_of
from tests.tasks.broken import flipped
from tests.tasks.shards import EMBEDDINGS, FEATURES, MODEL, NAMES, TAGS, inferred, published


def test_a_clip_with_rows_in_every_table(tmp_path: Path) -> None:
    published(tmp_path)
    published(tmp_path, "part_1", keys=("k",), bad=())
    found = dossier_of(str(tmp_path), "b")
    assert [(row["clip_id"], row["shard"]) for row in found.clips] == [("b", "part_0")]
    values = inferred("b").predictions[0][1].embedding
    assert values is not None
    (embedding,) = found.embeddings
    assert (embedding.folder, embedding.size, embedding.frames) == (EMBEDDINGS.folder, 4, 2)
    assert embedding.first == pytest.approx(values.mean(axis=0).tolist())
    assert embedding.norm == pytest.approx(float(np.linalg.norm(values.mean(axis=0))))
    (tags,) = found.tags
    assert tags.folder == TAGS.folder
    assert {label for label, _ in tags.tags} < set(NAMES)
    assert found.failures == ()
    assert list(found.files) == [path_of(str(tmp_path), feature.folder, "part_0") for feature in FEATURES]


@pytest.mark.parametrize("name", ["x", "/corpus/part_0.tar!x.mp4"])
def test_a_failed_clip_is_found_by_its_id_or_member(tmp_path: Path, name: str) -> None:
    published(tmp_path)
    found = dossier_of(str(tmp_path), name)
    assert (found.clips, found.embeddings, found.tags) == ((), (), ())
    assert [(row["clip_id"], row["kind"]) for row in found.failures] == [("x", "CORRUPT")]
    assert found.files == (path_of(str(tmp_path), "failures", "part_0"),)


def test_files_of_other_shards_are_not_opened(tmp_path: Path) -> None:
    published(tmp_path)
    published(tmp_path, "part_1", keys=("k",), bad=())
    (tmp_path / "embeddings" / f"model={MODEL}" / "version=e0000000" / "part_1.parquet").write_bytes(b"no table")
    assert dossier_of(str(tmp_path), "b").embeddings
    with pytest.raises(Problem, match=r"part_1\.parquet: damaged; `vidmill verify` says what to do"):
        dossier_of(str(tmp_path), "k")


def test_damaged_pages_are_one_problem(tmp_path: Path) -> None:
    published(tmp_path)
    path = tmp_path / "clips" / "part_0.parquet"
    for place in range(4, 60):
        flipped(path, place)
    with pytest.raises(Problem, match="damaged"):
        dossier_of(str(tmp_path), "b")


def test_an_unknown_clip_is_one_line_with_names_like_it(tmp_path: Path) -> None:
    published(tmp_path, keys=("video_000010_000020", "other_000001_000011"))
    with pytest.raises(Problem, match="no clip video_000010_000021 there; did you mean video_000010_000020"):
        dossier_of(str(tmp_path), "video_000010_000021")
    with pytest.raises(Problem, match="no clip 777 there; clip_ids are in its clips and failures tables"):
        dossier_of(str(tmp_path), "777")
    with pytest.raises(Problem, match="no file of vidmill's is there"):
        dossier_of(str(tmp_path / "nowhere"), "a")
