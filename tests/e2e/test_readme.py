"""Every command block of the README runs as written, in order, in one folder; every YAML block is a valid configuration."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from infra.settings import RunConfig
from infra.training import RestorerConfig
from tests.corpus import clip, write_tar, write_videos
from tests.planted import write_mixtures

REPOSITORY = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (REPOSITORY / "README.md").read_text(), re.MULTILINE | re.DOTALL)
TIMEOUT_S = 300
read_yaml = YAML(typ="safe").load


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a newcomer has: a clone, and some videos of their own."""
    folder = tmp_path_factory.mktemp("readme") / "clone"
    ignored = shutil.ignore_patterns(".git", ".venv", "__pycache__", "vidmill-demo", ".*_cache", ".hypothesis")
    shutil.copytree(REPOSITORY, folder, ignore=ignored)
    write_videos(folder / "videos", {"one.mp4": 3, "two.mp4": 2})
    write_mixtures(folder / "yt8m", 120)
    write_tar(folder / "yt8m" / "videos.tar", {f"v{number:04}.mp4": clip(number) for number in range(3)}, gz=False)
    return folder


def test_the_blocks_run_in_the_order_they_stand(folder: Path) -> None:
    # READY: this environment is set up already; what `make` would install is what runs here.
    environment = {**os.environ, "MAKEFLAGS": f"VENV={sys.prefix} READY=Makefile", "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"}
    environment |= {"PYTHONPATH": str(folder)}
    ran = []
    for language, text in BLOCKS:
        if language == "yaml" and text.startswith("name:"):
            (folder / f"{read_yaml(text)['name']}.yaml").write_text(text)
        elif language in ("sh", "python"):
            command = ["bash", "-euc", text] if language == "sh" else [sys.executable, "-c", text]
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
            assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
            ran.append(done.stdout)
    assert len(ran) == sum(language in ("sh", "python") for language, _ in BLOCKS) >= 6
    assert "BikesInTown_000004_000006" in ran[0]


def test_every_yaml_block_is_a_configuration() -> None:
    base = {"source": {"kind": "files", "uri": "videos/"}, "output": "features"}
    for language, text in BLOCKS:
        if language == "yaml":
            fields = read_yaml(text.replace("<64 hex digits>", "0" * 64))
            if "task" in fields:
                assert RestorerConfig.model_validate(fields)
                continue
            assert RunConfig.model_validate(base | fields)


def test_every_field_of_a_table_that_the_readme_shows_exists() -> None:
    from tasks.schema import CLIPS, FAILURES, TAGS

    text = (REPOSITORY / "README.md").read_text()
    for schema, path in ((CLIPS, "clips/<shard>"), (TAGS, "tags/model"), (FAILURES, "failures/<shard>")):
        (row,) = (line for line in text.splitlines() if line.startswith(f"| `{path}"))
        assert row.rstrip(" |").rpartition("| ")[2].split(", ") == schema.names
