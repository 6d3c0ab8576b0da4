"""A user's own model by configuration, two models on one decode, and the placement for GPUs."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from safetensors.torch import save_file

from flows.process_corpus import process_corpus
from infra.cluster import Resources
from infra.settings import RunConfig
from tasks import pipeline
from tasks.feature import model_specs
from tasks.pipeline import stages
from tests.corpus import config_for, contents, table, write_shards
from tests.e2e.conftest import Run


class MeanColour(torch.nn.Module):
    """An embedding that is easy to recompute: the mean of each channel, times a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) * self.weight


def mean_colour() -> torch.nn.Module:
    return MeanColour()


def user_model(folder: Path, factory: str) -> dict[str, object]:
    path = folder / "weights.safetensors"
    save_file({"weight": torch.tensor([1.0, 2.0, 3.0])}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    own = {"name": "mean-colour", "factory": factory, "weights": f"file:{path}", "sha256": digest}
    return {**own, "mean": [0, 0, 0], "std": [255, 255, 255]}


def settings(folder: Path, output: Path, **more: object) -> RunConfig:
    return config_for({"kind": "kinetics", "uri": f"{folder}/part_*.tar.gz"}, output, **more)


def test_a_users_own_model_runs_by_configuration_beside_a_built_in_one(run: Run, tmp_path: Path) -> None:
    write_shards(tmp_path, shards=1, clips=3)
    own = user_model(tmp_path, "tests.e2e.test_models:mean_colour")
    config = settings(tmp_path, tmp_path / "out", embed=["mean-colour", "mobilenet-v2"], models=[own])
    assert run(config).status == "done"
    rows = table(tmp_path / "out", "embeddings").to_pylist()
    sizes = sorted(len(row["embedding"]) for row in rows)
    assert sizes == [3] * 3 + [1280] * 3
    small = np.array([row["embedding"] for row in rows if len(row["embedding"]) == 3])
    assert ((small > 0) & (small < [1, 2, 3])).all()


def test_a_factory_that_fails_ends_the_run_with_its_reason(run: Run, tmp_path: Path) -> None:
    write_shards(tmp_path, shards=1, clips=1)
    config = settings(tmp_path, tmp_path / "out", embed=["mean-colour"], models=[user_model(tmp_path, "tests.e2e.test_models:nothing")])
    with pytest.raises(Exception, match=r"mean-colour.*nothing"):
        run(config)
    assert not (tmp_path / "out" / "clips").exists()


def test_gpu_placement_gives_the_rows_of_cpu_placement(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode and inference in different processes; the GPU is pretended, so inference falls back to the CPU by the same code."""
    write_shards(tmp_path, shards=2, clips=5)
    run(settings(tmp_path, tmp_path / "cpu", tag=["efficientnet-lite0"]))
    config = settings(tmp_path, tmp_path / "x")
    split = stages(config, model_specs(config), ("run", "try"), Resources(cpus=4, gpus=2))
    assert [(stage.name, stage.workers, stage.gpus) for stage in split] == [("read", None, 0.0), ("decode", 2, 0.0), ("infer", 2, 1)]

    def without_asking_for_gpus(*arguments: object) -> tuple[pipeline.Stage, ...]:
        asked = stages(*arguments[:3], Resources(cpus=2, gpus=1))  # type: ignore[arg-type]
        return tuple(pipeline.Stage(s.name, s.worker, s.arguments, s.workers, cpus=min(s.cpus, 0.8)) for s in asked)

    monkeypatch.setattr(pipeline, "stages", without_asking_for_gpus)
    assert process_corpus.fn(settings(tmp_path, tmp_path / "gpu", tag=["efficientnet-lite0"])).status == "done"
    assert contents(tmp_path / "gpu") == contents(tmp_path / "cpu")
    assert ray.is_initialized()
