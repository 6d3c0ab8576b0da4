"""What a training is about: read as it was written, told apart from every other one, in words."""

from dataclasses import replace
from pathlib import Path

import pytest

from infra import storage
from infra.problem import Problem
from infra.training import RestorerTask
from tasks.learn import DEFAULTS, VERSION, Recipe
from tasks.material import material_of, split_of
from tasks.training_manifest import Manifest
from tests.footage import write_photographs


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest[Recipe]:
    split = split_of(material_of([str(write_photographs(tmp_path / "corpus", 3))], {}), 0.1)
    return Manifest(DEFAULTS[RestorerTask.DENOISE], split.digest, held_out=0.1, start=None, version=VERSION, files=split.listed)


def test_a_manifest_is_read_as_it_was_written(manifest: Manifest[Recipe], tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "m.json"), manifest.encoded())
    found = Manifest.read(str(tmp_path / "m.json"), Recipe.of)
    assert found == manifest
    assert found is not None
    assert found.recipe.task is RestorerTask.DENOISE
    assert found.digest == manifest.digest
    assert len(found.contents()) == 3
    assert Manifest.read(str(tmp_path / "none.json"), Recipe.of) is None


def test_whatever_changes_the_weights_is_a_difference(manifest: Manifest[Recipe]) -> None:
    recipe = manifest.recipe
    others = {
        f"steps {recipe.steps} (asked for: 7)": replace(manifest, recipe=replace(recipe, steps=7)),
        "seed 1 (asked for: 2)": replace(manifest, recipe=replace(recipe, seed=2)),
        "workers 1 (asked for: 2)": replace(manifest, recipe=replace(recipe, workers=2)),
        "held-out 0.1 (asked for: 0.2)": replace(manifest, held_out=0.2),
        "start none (asked for: w.safetensors)": replace(manifest, start="w.safetensors"),
        "other files in its corpus": replace(manifest, corpus="0"),
        f"another version of the code ({VERSION}, now 0)": replace(manifest, version=0),
    }
    for words, other in others.items():
        assert manifest.difference(other) == words
        assert other.digest != manifest.digest
    elsewhere = replace(manifest, files=())
    assert manifest.difference(elsewhere) is None
    assert elsewhere.digest == manifest.digest


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"recipe": {"task": "paint"}}', b"\xff"])
def test_something_else_is_refused(data: bytes, tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "m.json"), data)
    with pytest.raises(Problem, match="is no manifest of a training; remove it"):
        Manifest.read(str(tmp_path / "m.json"), Recipe.of)
