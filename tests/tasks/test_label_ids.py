"""Labels have the same ids for whoever asks, and names that a CSV brings back."""

from pathlib import Path

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tasks.label_ids import HEADER, LabelIds, read_label_ids, vocabulary_csv
from tasks.source import SourceFile
from tasks.vocabulary import read_vocabulary

HEAD = "Index,TrainVideoCount,KnowledgeGraphId,Name,WikiUrl,Vertical1,Vertical2,Vertical3,WikiDescription\n"
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029"), min_size=1, max_size=20)


def test_the_columns_are_those_of_the_real_file() -> None:
    assert ",".join(HEADER) + "\n" == HEAD


def test_ids_are_counted_and_named_as_the_clips_name_them() -> None:
    first = pa.table({"label_ids": pa.array([3, 7, 3], pa.int64()), "labels": pa.array(["Guitar", None, "Guitar"], pa.string())})
    second = pa.table({"label_ids": pa.array([7], pa.int64()), "labels": pa.array(["Concert"], pa.string())})
    found = read_label_ids([first, second])
    assert (found.names, found.videos, found.by_name) == ({3: "Guitar", 7: "Concert"}, {3: 2, 7: 2}, None)
    assert found.of({"label_ids": [7, 3]}) == [7, 3]
    assert found.digest == ""


def test_names_without_ids_are_numbered_in_order() -> None:
    found = read_label_ids([pa.table({"label": ["zumba", None, "archery", "zumba", ""]}), pa.table({"label": ["mime"]})])
    assert (found.by_name, found.videos) == ({"archery": 0, "mime": 1, "zumba": 2}, {0: 1, 1: 1, 2: 2})
    assert [found.of({"label": label}) for label in ("zumba", None, "")] == [(2,), (), ()]
    assert found.digest != read_label_ids([pa.table({"label": ["zumba"]})]).digest


def test_clips_without_any_label_have_no_ids() -> None:
    found = read_label_ids([pa.table({"label": pa.array([None], pa.string())})])
    assert (found.names, list(found.of({"clip_id": "a", "label": None}))) == ({}, [])


@given(st.dictionaries(st.integers(0, 5000), NAMES, min_size=1, max_size=20))
def test_a_written_vocabulary_is_read_back(tmp_path_factory: object, names: dict[int, str]) -> None:
    path = Path(tmp_path_factory.getbasetemp()) / "vocabulary.csv"  # type: ignore[attr-defined]
    path.write_bytes(vocabulary_csv(LabelIds(names, dict.fromkeys(names, 2)), None))
    assert read_vocabulary(SourceFile("", str(path), "", 0)).names == names


def test_the_runs_own_vocabulary_is_kept_as_it_is_while_it_says_the_same(tmp_path: Path) -> None:
    path, labels = tmp_path / "vocabulary.csv", LabelIds({3: "Guitar"}, {3: 5, 9: 1})
    path.write_text(HEAD + "3,10,/m/1,Guitar,http,Games,,,x\n4,1,/m/9,Unused,,,,,\n")
    assert vocabulary_csv(labels, str(path)) == path.read_bytes()
    own = (HEAD + "3,5,,Guitar,,,,,\n").encode()
    path.write_text(HEAD + "3,10,/m/1,Violin,http,Games,,,x\n")
    assert vocabulary_csv(labels, str(path)) == own
    path.write_text(HEAD + "3,10,/m/1,Guitar,http,Games,,,x\n9,1,/m/9,New,,,,,\n")
    assert vocabulary_csv(labels, str(path)) == own
    assert vocabulary_csv(labels, str(tmp_path / "gone.csv")) == vocabulary_csv(labels, None) == own


def test_a_name_of_two_lines_stays_on_one() -> None:
    assert vocabulary_csv(LabelIds({0: "a\nb"}, {0: 1}), None).splitlines()[1] == b"0,1,,a b,,,,,"
