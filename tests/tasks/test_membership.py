"""Who belongs to which shard: what is published is the truth, a note bridges a killed run."""

from pathlib import Path

from tasks.membership import note_members, read_members
from tasks.source import Corpus, Membership, Shard, SourceFile
from tests.tasks.shards import published

CORPUS = "files /corpus"


def corpus(identity: str = CORPUS, *, shard: str = "shard-00000", name: str = "new.mp4") -> Corpus:
    file = SourceFile(name, f"/corpus/{name}", "1", 5)
    return Corpus(identity, (Shard(shard, (file,), "e"),), None, None)


def test_nothing_is_known_of_a_fresh_output(tmp_path: Path) -> None:
    assert read_members(str(tmp_path / "out"), "/corpus", corpus=CORPUS) == {}


def test_published_rows_and_failures_tell_shard_uri_and_state(tmp_path: Path) -> None:
    published(tmp_path, "shard-00003", keys=("a", "b"), bad=("x",), corpus=CORPUS)
    found = read_members(str(tmp_path), "/corpus", corpus=CORPUS)
    assert found == {f"part_0.tar!{key}.mp4": Membership("shard-00003", f"/corpus/part_0.tar!{key}.mp4", "v1") for key in "abx"}


def test_the_note_continues_a_killed_run(tmp_path: Path) -> None:
    note_members(str(tmp_path), corpus())
    assert read_members(str(tmp_path), "/corpus", corpus=CORPUS) == {"new.mp4": Membership("shard-00000", "/corpus/new.mp4", "1")}


def test_what_is_published_wins_over_the_note(tmp_path: Path) -> None:
    note_members(str(tmp_path), corpus(shard="shard-00007", name="part_0.tar!a.mp4"))
    published(tmp_path, "shard-00003", keys=("a",), corpus=CORPUS)
    assert read_members(str(tmp_path), "/corpus", corpus=CORPUS)["part_0.tar!a.mp4"].shard == "shard-00003"


def test_the_note_of_another_corpus_is_not_heeded(tmp_path: Path) -> None:
    """A run on a wrong source that was stopped before its first shard would bring that source's videos into this output."""
    note_members(str(tmp_path), corpus("files /wrong"))
    assert read_members(str(tmp_path), "/corpus", corpus=CORPUS) == {}


def test_a_damaged_note_is_no_note(tmp_path: Path) -> None:
    (tmp_path / "_wip").mkdir()
    (tmp_path / "_wip" / "shards.json").write_bytes(b"{")
    assert read_members(str(tmp_path), "/corpus", corpus=CORPUS) == {}
