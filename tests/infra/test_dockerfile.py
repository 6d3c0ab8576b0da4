"""The image, as far as it can be tried without a daemon: linted, its sources there, its commands the Makefile's, its package whole."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
FILE = ROOT / "infra/deploy/Dockerfile"


@pytest.fixture(scope="module")
def steps() -> list[tuple[str, str]]:
    """Instruction and the rest, in order."""
    with FILE.open("rb") as text:
        return [(step["instruction"], step["value"]) for step in DockerfileParser(fileobj=text).structure]


def pip(text: str) -> list[str]:
    """What pip is told, line by line."""
    return re.findall(r"-m pip install --quiet (.*)", text)


def copied(steps: list[tuple[str, str]]) -> list[str]:
    """What is copied out of the repository."""
    return [name for instruction, value in steps if instruction == "COPY" and "--from" not in value for name in value.split()[:-1]]


def test_the_linter_finds_nothing() -> None:
    done = subprocess.run([Path(sys.executable).with_name("hadolint"), FILE], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_is_copied_is_there_and_nothing_else_is_sent(steps: list[tuple[str, str]]) -> None:
    sources = copied(steps)
    assert all((ROOT / name).exists() for name in sources)
    ignored = FILE.with_name("Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == set(sources)


def test_pip_does_what_the_makefile_does(steps: list[tuple[str, str]]) -> None:
    """torch alone and first, then the lock, then vidmill; only where torch comes from and how vidmill lies there differ."""
    makefile = pip((ROOT / "Makefile").read_text().partition("\nlock:")[0])
    here = [line.replace('--index-url "${TORCH_INDEX}" ', "") for instruction, value in steps if instruction == "RUN" for line in pip(value)]
    assert here == [line.replace("--editable .", ".") for line in makefile]


def test_nobody_is_root_and_the_base_has_a_version(steps: list[tuple[str, str]]) -> None:
    found = dict(steps)  # the last of each
    assert found["USER"] == "1000:1000"
    assert found["ENTRYPOINT"] == '["vidmill"]'
    assert found["HEALTHCHECK"].endswith('CMD ["vidmill", "doctor"]')
    (python,) = [value for instruction, value in steps if instruction == "ARG" and value.startswith("PYTHON=")]
    assert re.fullmatch(r"PYTHON=3\.\d+\.\d+-slim-\w+", python)


def test_the_deployment_files_name_one_image_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    texts = [path.read_text() for path in sorted(FILE.parent.rglob("*.yaml"))]
    images = {image for text in texts for image in re.findall(r"image: (?:&image )?(\S*/vidmill:\S+)", text)}
    assert images == {f"registry.example.com/vidmill:{version}"}
    assert all(list(YAML(typ="safe").load_all(text)) for text in texts)


def test_what_is_copied_is_all_that_vidmill_needs(steps: list[tuple[str, str]], tmp_path: Path) -> None:
    """Installed from the copied files by the image's own command, it runs apart from the repository."""
    for name in copied(steps):
        source, target = ROOT / name, tmp_path / "src" / name
        target.parent.mkdir(exist_ok=True)
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, target, ignore=ignore) if source.is_dir() else shutil.copy(source, target)
    (command,) = [line for instruction, value in steps if instruction == "RUN" for line in pip(value) if line.endswith(" .")]
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", tmp_path / "site", *command.split()]
    subprocess.run(install, cwd=tmp_path / "src", check=True, timeout=120)
    shutil.rmtree(tmp_path / "src")
    done = subprocess.run(
        [sys.executable, "-P", tmp_path / "site/bin/vidmill", "models"],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "efficientnet-lite0" in done.stdout
