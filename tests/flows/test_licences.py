"""Licences are a mapping of globs; anything else is one line that says what to write."""

from pathlib import Path

import pytest

from flows.licences import read_licences
from infra.problem import Problem


def test_licences_are_read_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "l.yaml").write_text("b/*.jpg: CC0\n'*': CC-BY-4.0\n")
    assert list(read_licences(str(tmp_path / "l.yaml")).items()) == [("b/*.jpg", "CC0"), ("*", "CC-BY-4.0")]
    assert read_licences(None) == {}


@pytest.mark.parametrize("text", ["a: [", "- a", "", "a: 1", "\0"])
def test_something_else_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "l.yaml").write_text(text)
    with pytest.raises(Problem, match="GLOB: LICENCE") as error:
        read_licences(str(tmp_path / "l.yaml"))
    assert "\n" not in str(error.value)
