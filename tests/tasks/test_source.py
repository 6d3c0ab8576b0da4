"""A corpus is cut into shards by names alone, and a loose video never changes its shard."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.problem import Problem
from infra.settings import SourceKind
from tasks import source
from tasks.source import Membership, SourceFile, is_video, list_corpus, shard_name
from tests.corpus import config_for

Videos = dict[str, str]  # name -> etag


@pytest.mark.parametrize(
    ("archive", "shard"),
    [
        ("part_0.tar.gz", "part_0"),
        ("part_0.tgz", "part_0"),
        ("train/abseiling (rope).tar", "train--abseiling (rope)"),
        ("_hidden.tar", "shard_hidden"),
        (".hidden.tar", "shard.hidden"),
        (".tar", "shard"),
        ("no suffix", "no suffix"),
    ],
)
def test_a_shard_is_named_after_its_archive_and_visible_to_readers(archive: str, shard: str) -> None:
    assert shard_name(archive) == shard


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20))
def test_no_shard_is_hidden_or_in_a_folder_of_its_own(name: str) -> None:
    shard = shard_name(name)
    assert shard
    assert not shard.startswith(("_", "."))
    assert "/" not in shard


@pytest.mark.parametrize(("name", "video"), [("a.MP4", True), ("a.b/c.webm", True), ("a.txt", False), ("mp4", False), (".mp4", False)])
def test_videos_are_told_by_their_suffix(name: str, video: bool) -> None:
    assert is_video(name) is video


def archives(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def listed(uri: object, **more: object) -> source.Corpus:
    return list_corpus(config_for({"kind": "kinetics", "uri": str(uri), **more}, "/out"), {})


def test_archives_are_shards_in_the_order_of_their_names(tmp_path: Path) -> None:
    archives(tmp_path, "b.tar", "a.tar.gz", "class one/c.tgz", "readme.txt")
    corpus = listed(tmp_path)
    assert [(shard.name, shard.size_bytes) for shard in corpus.shards] == [("a", 8), ("b", 5), ("class one--c", 15)]
    assert corpus.identity == f"kinetics {tmp_path}"


def test_two_archives_of_one_shard_name_are_refused(tmp_path: Path) -> None:
    archives(tmp_path, "a.tar", "a.tar.gz")
    with pytest.raises(Problem, match=r"2 archives would give the shard 'a'; name only one"):
        listed(tmp_path)
    assert [shard.name for shard in listed(tmp_path / "a.tar").shards] == ["a"]


def test_one_named_file_is_an_archive_whatever_its_name(tmp_path: Path) -> None:
    archives(tmp_path, "data.bin")
    assert [shard.name for shard in listed(tmp_path / "data.bin").shards] == ["data.bin"]


@pytest.mark.parametrize("pattern", ["", "/", "/*"])
def test_a_source_without_archives_is_a_problem(tmp_path: Path, pattern: str) -> None:
    """A folder with one file that is no archive was taken for an archive once."""
    archives(tmp_path, "readme.txt")
    with pytest.raises(Problem, match=r"none of 1 objects .*readme.txt"):
        listed(f"{tmp_path}{pattern}")


def test_a_source_of_replacements_alone_is_a_problem_not_an_empty_success(tmp_path: Path) -> None:
    archives(tmp_path, "replacement.tgz")
    with pytest.raises(Problem, match=r"source.uri"):
        listed(tmp_path, replacements=f"{tmp_path}/replacement.tgz")


def test_nothing_there_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="nothing matches; check the path and the pattern"):
        listed(f"{tmp_path}/*.tar")
    with pytest.raises(Problem, match=r"gone.*not found"):
        listed(tmp_path / "gone")
    archives(tmp_path, "a.tar")
    with pytest.raises(Problem, match=r"source.annotations .*not found"):
        listed(tmp_path, annotations=f"{tmp_path}/*.csv")


def test_replacements_are_no_shard_change_every_shard_and_collide_with_none(tmp_path: Path) -> None:
    """An archive of replacements may be called as one that it corrects, elsewhere."""
    archives(tmp_path, "corpus/part_0.tar", "fix/part_0.tar")
    before = listed(tmp_path / "corpus")
    uri = f"{tmp_path}/fix/part_0.tar"
    with_one = listed(tmp_path / "corpus", replacements=uri)
    assert with_one.replacements is not None
    assert with_one.replacements.name not in {shard.name for shard in with_one.shards}
    assert with_one.shards[0].etag != before.shards[0].etag
    archives(tmp_path, "corpus/fix.tar")
    assert [shard.name for shard in listed(tmp_path / "corpus", replacements=f"{tmp_path}/corpus/fix.tar").shards] == ["part_0"]


def test_columns_of_a_manifest_stay_behind() -> None:
    shard = source.Shard("s", (SourceFile("a", "/a", "1", 1, (("price", 1.5),)),), "x")
    assert source.without_columns(shard).files == (SourceFile("a", "/a", "1", 1),)


def night(videos: Videos, members: dict[str, Membership], shard_files: int) -> dict[str, source.Shard]:
    files = [SourceFile(name, f"/videos/{name}", etag, 1) for name, etag in videos.items()]
    return {shard.name: shard for shard in source._loose_shards(files, members, shard_files)}


def members_of(shards: dict[str, source.Shard]) -> dict[str, Membership]:
    return {file.name: Membership(shard.name, file.uri, file.etag) for shard in shards.values() for file in shard.files}


videos = st.dictionaries(st.sampled_from([f"{letter}.mp4" for letter in "abcdefgh"]), st.sampled_from("123"), max_size=8)


@given(st.lists(videos, min_size=1, max_size=6), st.integers(1, 3))
def test_whatever_changes_over_night_a_video_keeps_its_shard(states: list[Videos], shard_files: int) -> None:
    """P5: shards are numbered on, so that adding and deleting moves nothing, and a digest changes exactly where a video did."""
    shards: dict[str, source.Shard] = {}
    for videos in states:
        before, shards = shards, night(videos, members_of(shards), shard_files)
        old, new = members_of(before), members_of(shards)
        assert {name: new[name].shard for name in old} == {name: old[name].shard for name in old}
        assert new.keys() == old.keys() | videos.keys()
        assert {name: new[name].etag for name in videos} == videos
        for shard in shards.values():
            assert len(shard.files) <= shard_files
            assert [file.name for file in shard.files] == sorted(file.name for file in shard.files)
            etags = [(file.name, file.etag) for file in shard.files]
            was = [(file.name, file.etag) for file in before[shard.name].files] if shard.name in before else None
            assert (shard.name in before and before[shard.name].etag == shard.etag) is (etags == was)


def test_an_output_of_archives_does_not_number_loose_shards() -> None:
    """It is refused later, by name; its shards' names are no numbers."""
    shards = night({"b.mp4": "1"}, {"a.tar": Membership("part_0", "/elsewhere/a.tar", "1")}, 2)
    assert set(shards) == {"part_0", "shard-00000"}


@pytest.mark.parametrize("kind", list(SourceKind))
def test_a_corpus_is_its_kind_and_its_root(tmp_path: Path, kind: SourceKind) -> None:
    config = config_for({"kind": kind, "uri": f"{tmp_path}/*.x"}, "/out")
    assert source.identity_of(config.source) == f"{kind} {tmp_path}"
