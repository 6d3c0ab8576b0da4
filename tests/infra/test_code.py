"""The code that workers run: what is sent, and how another release is told."""

import json
from pathlib import Path

import pytest

from infra import code
from infra.problem import Problem
from infra.settings import ClusterCode
from tests.head import ROOT


def test_an_image_has_the_code_and_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    assert code.environment(ClusterCode.IMAGE, ["nowhere.at_all"], tmp_path) == {"working_dir": str(tmp_path)}


def test_an_upload_is_the_four_packages_and_modules_that_are_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else of the folder that the user stands in."""
    user, sent = tmp_path / "user", tmp_path / "sent"
    (user / "mine").mkdir(parents=True)
    sent.mkdir()
    for name in ("mine/__init__.py", "alone.py", "secret.env"):
        (user / name).touch()
    monkeypatch.syspath_prepend(user)
    found = code.environment(ClusterCode.UPLOAD, ["mine", "mine.deeper", "alone", "numpy.linalg", "json", "models.own"], sent)
    assert found == {"working_dir": str(sent), "py_modules": [*(str(ROOT / name) for name in code.PACKAGES), str(user / "mine")]}
    assert [path.name for path in sent.iterdir()] == ["alone.py"]


def test_a_module_that_is_nowhere_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        Problem, match=r"^models: factory: the module nowhere is not to be found in one place; run vidmill where it lies, or install it$"
    ):
        code.environment(ClusterCode.UPLOAD, ["nowhere.at_all"], tmp_path)


def test_a_job_that_brings_its_folder_gets_no_second_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray refuses two values for one name."""
    wanted = {"working_dir": "/x", "py_modules": ["/y"]}
    assert code.lacking(wanted) == wanted
    monkeypatch.setenv(code.OF_JOB, json.dumps({"runtime_env": {"working_dir": "gcs://z.zip"}, "metadata": {}}))
    assert code.lacking(wanted) == {"py_modules": ["/y"]}


def test_any_change_of_a_source_gives_another_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in code.PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.py").write_text("x = 1\n")
        (tmp_path / name / "weights.bin").touch()
    monkeypatch.setattr(code, "location", lambda name: tmp_path / name)
    digest = code.digest.__wrapped__
    first = digest()
    (tmp_path / "models" / "weights.bin").write_text("as before")
    assert (digest(), len(first)) == (first, 8)
    (tmp_path / "tasks" / "a.py").write_text("x = 2\n")
    second = digest()
    (tmp_path / "tasks" / "a.py").rename(tmp_path / "tasks" / "b.py")
    assert len({first, second, digest()}) == 3
