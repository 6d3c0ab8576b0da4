"""Names become specs quickly, and a wrong name becomes one helpful line."""

import subprocess
import sys

import pytest

from infra.problem import Problem
from models.catalog import built_in, resolve
from tests.models.own import own_model


def test_the_built_in_models_say_what_they_are():
    assert [(spec.name, spec.licence, spec.trained_on) for spec in built_in()] == [
        ("efficientnet-lite0", "Apache-2.0", "ImageNet-1k"),
        ("mobilenet-v2", "BSD-3-Clause", "ImageNet-1k"),
    ]


def test_resolving_needs_no_torch():
    code = "import sys; from models import catalog, weights; weights.check(catalog.resolve('efficientnet-lite0')); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_there_are_a_thousand_different_labels():
    labels = resolve("efficientnet-lite0").labels
    assert len({label.lower() for label in labels}) == 1000
    assert [labels[i] for i in (0, 134, 207, 285, 388, 517, 639, 967, 999)] == [
        "tench", "crane bird", "golden retriever", "Egyptian cat", "giant panda", "construction crane", "tank suit", "espresso", "toilet tissue",
    ]  # fmt: skip


def test_a_typo_is_answered_with_the_name_meant_and_all_names(tmp_path):
    with pytest.raises(Problem, match=r"eficientnet-lite0.*did you mean efficientnet-lite0\?.*efficientnet-lite0, mine, mobilenet-v2"):
        resolve("eficientnet-lite0", [own_model(tmp_path)])


def test_a_name_like_no_other_is_answered_without_a_guess():
    with pytest.raises(Problem) as caught:
        resolve("qqqq")
    assert "did you mean" not in str(caught.value)


def test_a_users_model_becomes_a_spec(tmp_path):
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\n")
    spec = resolve("mine", [own_model(tmp_path, "Both", task=["tag", "embed"], labels=str(tmp_path / "labels.txt"))])
    assert spec.task == ("embed", "tag")
    assert spec.labels == ("a", "b", "c", "d")
    assert (spec.input.geometry.resize, spec.input.geometry.crop) == (40, 32)


def test_a_relative_weights_file_is_found_from_any_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve("mine", [own_model(tmp_path, weights="file:w.pth")]).weights == f"file:{tmp_path}/w.pth"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "mobilenet-v2"}, "belongs to a built-in model"),
        ({"task": ["embedd"]}, "task embedd is unknown"),
        ({"task": []}, "task is empty"),
        ({"task": ["tag"]}, "names no labels"),
        ({"task": ["tag"], "labels": "/nowhere.txt"}, "cannot read the labels /nowhere.txt"),
        ({"crop": 100}, "crop lies inside"),
        ({"std": (1.0, 0.0, 1.0)}, "std divides"),
    ],
)
def test_a_users_entry_that_contradicts_itself_is_one_line(tmp_path, change, says):
    with pytest.raises(Problem, match=says) as caught:
        resolve("mine", [own_model(tmp_path, **change)])
    assert "\n" not in str(caught.value)


def test_labels_with_a_hole_name_the_line(tmp_path):
    (tmp_path / "labels.txt").write_text("a\n\nc\n")
    with pytest.raises(Problem, match=r"labels.txt:2 has no label"):
        resolve("mine", [own_model(tmp_path, task=["tag"], labels=str(tmp_path / "labels.txt"))])


def test_a_model_is_not_asked_for_what_it_cannot_do(tmp_path):
    assert resolve("mine", [own_model(tmp_path)], task="embed").name == "mine"
    with pytest.raises(Problem, match="asked to tag, but it only does embed"):
        resolve("mine", [own_model(tmp_path)], task="tag")
