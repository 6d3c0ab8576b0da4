"""Batches come in order and are the same whoever makes them; the calling thread keeps its cores."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from infra.training import RestorerTask
from tasks.batches import batches
from tasks.cores import use_cores
from tasks.learn import Batch, Recipe, batch_of
from tasks.pool import Pool
from tests.footage import listed, write_photographs
from tests.tasks.test_learn import TINY

RECIPE = TINY[RestorerTask.UPSCALE_X2]
pytestmark = pytest.mark.usefixtures("one_core")


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    folder: Path = write_photographs(tmp_path_factory.mktemp("photographs"), 3)
    found = Pool(listed(folder), frames=1, side=32, bound_bytes=1 << 30, seed=1, rank=0, told=print)
    found.read()
    return found


def made(recipe: Recipe, pool: Pool, **more: int) -> list[Batch]:
    return list(batches(recipe, pool, **{"step": 0, "rank": 0, "loaders": 1, **more}))  # type: ignore[arg-type]


@pytest.mark.parametrize("loaders", [1, 3])
def test_batches_come_in_order_whoever_makes_them(loaders: int, pool: Pool) -> None:
    found = made(RECIPE, pool, loaders=loaders, step=2)
    assert len(found) == RECIPE.steps - 2
    for step, batch in enumerate(found, 2):
        assert torch.equal(batch.given, batch_of(RECIPE, pool.takes(0), step=step, rank=0).given)


def test_a_denoisers_batch_is_good_for_four_steps(pool: Pool) -> None:
    assert len(made(replace(TINY[RestorerTask.DENOISE], steps=9), pool)) == 3


def test_what_fails_while_a_batch_is_made_is_raised_where_it_is_needed(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "takes", lambda _: [])
    with pytest.raises(IndexError):
        made(RECIPE, pool)


def test_the_calling_thread_keeps_its_cores(pool: Pool) -> None:
    """Without torch.get_num_threads in tasks.cores the step would run on the one core that the threads beside it ask for."""
    torch.set_num_threads(3)
    use_cores(3)
    made(RECIPE, pool, loaders=2)
    assert torch.get_num_threads() == 3
