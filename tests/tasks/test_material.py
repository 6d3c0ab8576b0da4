"""A corpus's files are the same wherever they lie; a file's side of the split is its own."""

import shutil
from pathlib import Path

import pytest

from infra import storage
from infra.problem import Problem
from tasks.material import Material, material_of, split_of
from tests.footage import write_photographs


def names(files: tuple[Material, ...]) -> list[str]:
    return [file.name for file in files]


def test_the_same_files_elsewhere_are_the_same_corpus(tmp_path: Path) -> None:
    write_photographs(tmp_path / "a", 6)
    (tmp_path / "b" / "z").mkdir(parents=True)
    for number in range(6):
        shutil.copy(tmp_path / "a" / f"photograph-{number}.png", tmp_path / "b" / ("z" if number % 2 else "") / f"photograph-{number}.png")
    a, b = (split_of(material_of([str(tmp_path / folder)], {}), 0.3) for folder in "ab")
    assert a.digest == b.digest
    assert names(a.learned) == names(b.learned)
    assert [file.content for file in a.held_out] == [file.content for file in b.held_out]


def test_another_byte_or_name_or_share_is_another_corpus(tmp_path: Path) -> None:
    folder = write_photographs(tmp_path, 6)
    digests = {split_of(material_of([str(folder)], {}), share).digest for share in (0.0, 0.9)}
    (folder / "photograph-1.png").rename(folder / "other.png")
    digests.add(split_of(material_of([str(folder)], {}), 0.9).digest)
    with (folder / "other.png").open("ab") as file:
        file.write(b"x")
    digests.add(split_of(material_of([str(folder)], {}), 0.9).digest)
    assert len(digests) == 4


def test_a_copy_under_another_name_is_left_out_so_that_nothing_held_out_is_learned_from(tmp_path: Path) -> None:
    folder = write_photographs(tmp_path, 3)
    shutil.copy(folder / "photograph-0.png", folder / "copy.png")
    assert names(material_of([str(folder), f"{folder}/*.png"], {})) == ["copy.png", "photograph-1.png", "photograph-2.png"]


def test_a_file_keeps_its_side_when_others_come(tmp_path: Path) -> None:
    few = split_of(material_of([str(write_photographs(tmp_path, 12))], {}), 0.3)
    more = split_of(material_of([str(write_photographs(tmp_path, 20))], {}), 0.3)
    assert set(names(few.held_out)) <= set(names(more.held_out))
    assert set(names(few.learned)) <= set(names(more.learned))


@pytest.mark.parametrize(("share", "held_out"), [(0.0, 1), (0.999, 3)])
def test_both_sides_have_a_file(share: float, held_out: int, tmp_path: Path) -> None:
    split = split_of(material_of([str(write_photographs(tmp_path, 4))], {}), share)
    assert (len(split.held_out), len(split.learned)) == (held_out, 4 - held_out)


def test_what_cannot_be_a_corpus_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(Problem, match="no photograph or video"):
        material_of([str(tmp_path)], {})
    with pytest.raises(Problem, match="not found"):
        material_of([str(tmp_path / "gone")], {})
    with pytest.raises(Problem, match="add a second file"):
        split_of(material_of([str(write_photographs(tmp_path, 1))], {}), 0.5)


def test_a_corpus_in_s3_is_the_same_as_on_disk(tmp_path: Path, bucket: str) -> None:
    folder = write_photographs(tmp_path, 2)
    for path in folder.iterdir():
        storage.publish_file(f"s3://{bucket}/photographs/{path.name}", str(path))
    assert split_of(material_of([f"s3://{bucket}/photographs/"], {}), 0.1).digest == split_of(material_of([str(folder)], {}), 0.1).digest


def test_contents_that_are_known_are_not_read_again(tmp_path: Path) -> None:
    (found, *_) = storage.list_objects(str(write_photographs(tmp_path, 1)))
    assert material_of([found.uri], {(found.uri, found.etag): "known"})[0].content == "known"
    assert material_of([found.uri], {(found.uri, "older"): "known"})[0].content != "known"
