"""Stages: how many workers they have, where nodes are fixed and where they come and go."""

import pytest

from infra.cluster import Resources
from infra.settings import RunConfig, SourceKind
from models.catalog import resolve
from tasks.pipeline import enhance_stages, stages, tag_stages
from tasks.stage import RESTARTS, RESTARTS_ELASTIC, Stage

IDS = ("run", "try")


def config(kind: str = "kinetics") -> RunConfig:
    return RunConfig.model_validate({"source": {"kind": kind, "uri": "x"}, "output": "y"})


def test_a_machine_of_its_own_has_a_pool_of_one_size() -> None:
    pool = Stage("s", print, workers=3).pool
    assert (pool.min_size, pool.initial_size, pool.max_size) == (3, 3, 3)


@pytest.mark.parametrize(("most", "largest"), [(None, float("inf")), (4, 4)])
def test_an_elastic_pool_starts_full_and_follows_the_cluster(most: int | None, largest: float) -> None:
    pool = Stage("s", print, workers=4, elastic=True, most=most).pool
    assert (pool.min_size, pool.initial_size, pool.max_size) == (1, 4, largest)


def test_every_stage_of_a_cluster_that_is_joined_is_elastic_and_survives_more_losses() -> None:
    models, joined, here = (resolve("efficientnet-lite0"),), Resources(8, 2, elastic=True), Resources(8, 2)
    for found, restarts in ((joined, RESTARTS_ELASTIC), (here, RESTARTS)):
        every = [
            *stages(config(), models, IDS, found),
            *stages(config(), (), IDS, found),
            *stages(config(SourceKind.YOUTUBE8M), (), IDS, found),
            *enhance_stages(config(), IDS, found),
            *tag_stages(config(), (), IDS, found),
        ]
        assert {(stage.elastic, stage.restarts) for stage in every} == {(found.elastic, restarts)}


def test_decoders_leave_a_gpu_its_worker_whatever_they_take() -> None:
    """Infer asks for no CPU, so it is placed on a node whose cores are all taken."""
    _, decode, infer = stages(config(), (resolve("efficientnet-lite0"),), IDS, Resources(8, 2, elastic=True, most_gpus=2))
    assert [(stage.workers, stage.cpus, stage.gpus, stage.most) for stage in (decode, infer)] == [(6, 0.9, 0.0, None), (2, 0, 1, 2)]


@pytest.mark.parametrize(("elastic", "threads", "workers"), [(False, 2, 4), (True, 1, 8)])
def test_enhancement_fits_on_nodes_of_one_core(elastic: bool, threads: int, workers: int) -> None:
    stage = enhance_stages(config(), IDS, Resources(8, 0, elastic=elastic))[1]
    assert (stage.workers, stage.cpus, stage.arguments[-1]) == (workers, 0.9 * threads, threads)
