"""What a recipe is, which version it has, and what is told before a run."""

import hashlib
import pickle
import subprocess
import sys
from dataclasses import replace

import pytest
from pydantic import ValidationError

from infra.problem import Problem
from infra.settings import EnhanceConfig
from models import recipe as recipes
from models.network import build
from models.recipe import recipe_of
from models.restorers import DENOISER, UPSCALER_X2, shipped
from tests.models.tiny_restorers import Doubling, recipe, spec_of

OWN = {"weights": "s3://models/own.safetensors", "sha256": "0" * 64}


def test_the_recipes_and_their_networks():
    made = {name: recipe_of(EnhanceConfig(recipe=name)) for name in ("denoise", "upscale-x2", "upscale-x4", "denoise+upscale-x2")}
    assert {name: (found.restorers, found.scale) for name, found in made.items()} == {
        "denoise": ((DENOISER,), 1),
        "upscale-x2": ((UPSCALER_X2,), 2),
        "upscale-x4": ((UPSCALER_X2, UPSCALER_X2), 4),
        "denoise+upscale-x2": ((DENOISER, UPSCALER_X2), 2),
    }
    assert [found.name for found in made.values()] == list(made)
    assert len({found.digest() for found in made.values()}) == 4


def test_a_recipe_travels(tmp_path):
    made = recipe(spec_of(tmp_path, Doubling))
    assert pickle.loads(pickle.dumps(made)) == made
    assert pickle.loads(pickle.dumps(made)).digest() == made.digest()


def test_the_version_covers_all_that_changes_the_video_and_no_more(tmp_path, monkeypatch):
    spec = spec_of(tmp_path, Doubling)
    made = recipe(spec)
    changed = [
        recipe(replace(spec, sha256="1" * 64)),
        recipe(replace(spec, factory="models.upscaler:Upscaler")),
        recipe(spec, spec),
        replace(made, codec="hevc"),
        replace(made, crf=19),
        replace(made, preset="slow"),
    ]
    assert len({made.digest(), *(other.digest() for other in changed)}) == 1 + len(changed)
    assert replace(made, name="other", restorers=(replace(spec, weights="s3://elsewhere", licence="MIT"),)).digest() == made.digest()
    before = made.digest()
    monkeypatch.setattr(recipes, "RESTORATION", recipes.RESTORATION + 1)
    assert made.digest() != before


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (
            {"recipe": "denoise+upscale-x2", **OWN},
            "is of several networks; give them to a recipe of one network: denoise, upscale-x2",
        ),
        (
            {"recipe": "denoise", "name": "mine", "weights": "file:own.pth"},
            "enhance: mine: weights are given without sha256; set it",
        ),
        ({"recipe": "denoise", "sha256": "0" * 64}, "sha256 is given without weights"),
    ],
)
def test_an_entry_that_contradicts_itself_is_told(entry, says):
    with pytest.raises(Problem, match=says):
        recipe_of(EnhanceConfig(**entry))


def test_a_recipe_that_does_not_exist_is_refused():
    with pytest.raises(ValidationError):
        EnhanceConfig(recipe="sharpen")


@pytest.mark.parametrize(("name", "scale"), [("denoise", 1), ("upscale-x2", 2), ("upscale-x4", 4)])
def test_a_checkpoint_of_ones_own_is_one_network(name, scale):
    made = recipe_of(EnhanceConfig(recipe=name, name="mine", **OWN))
    assert (made.name, made.scale, [spec.own for spec in made.restorers]) == ("mine", scale, [True])


def test_weights_that_lie_here_are_checked_before_a_run(tmp_path):
    spec = spec_of(tmp_path, Doubling)
    recipe(spec).check()
    with pytest.raises(Problem, match=r"the sha256 is .*, expected 0000"):
        recipe(replace(spec, sha256="0" * 64)).check()
    with pytest.raises(Problem, match="there is no such file; correct the entry's weights"):
        recipe(replace(spec, weights=f"file:{tmp_path}/none")).check()
    with pytest.raises(Problem, match="no package nowhere is installed here"):
        recipe(replace(spec, factory="nowhere:network")).check()


def test_a_relative_file_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (spec,) = recipe_of(EnhanceConfig(recipe="denoise", weights="file:own.pth", sha256="0" * 64)).restorers
    assert spec.weights == f"file:{tmp_path}/own.pth"


def test_a_plan_needs_no_torch():
    code = "import sys; from models.recipe import recipe_of; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("spec", shipped(), ids=lambda spec: spec.name)
def test_random_weights_are_never_taken_for_the_shipped_ones(tmp_path, spec):
    """Neither without the file nor with another in its place."""
    other = spec_of(tmp_path, Doubling)
    with pytest.raises(Problem, match="sha256 is"):
        build(replace(spec, weights=other.weights))
    with pytest.raises(Problem, match="does not fit models"):
        build(replace(spec, weights=other.weights, sha256=hashlib.sha256((tmp_path / "Doubling.safetensors").read_bytes()).hexdigest()))
    with pytest.raises(Problem, match="install vidmill again"):
        build(replace(spec, weights=spec.weights + ".gone"))
