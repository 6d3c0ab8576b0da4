"""A recipe is what a configuration asks for; learning goes on bit for bit."""

from dataclasses import replace

import pytest
import torch

from infra.training import RestorerConfig, RestorerTask
from tasks.footage import Take
from tasks.learn import CARRIED, DEFAULTS, QUICK, WARM_UP, Learner, batch_of, network_of, recipe_of, seeded
from tests.tasks.test_motion import moving, still

pytestmark = pytest.mark.usefixtures("one_core")
CPU = torch.device("cpu")
TINY = {task: replace(usual, steps=12, batch=2, side=32, stretch=1) for task, usual in DEFAULTS.items()}
TAKES = [still(1), still(2), moving(20)]


def learner(task: RestorerTask) -> Learner:
    torch.manual_seed(1)
    return Learner(network_of(task), TINY[task], CPU)


def learned(found: Learner, batches: int) -> Learner:
    for _ in range(batches):
        list(found.learn(batch_of(found.recipe, TAKES, step=found.step, rank=0)))
    return found


@pytest.mark.parametrize("task", RestorerTask)
def test_what_goes_on_from_its_state_ends_as_what_was_not_disturbed(task: RestorerTask) -> None:
    straight = learned(learner(task), 3)
    state = learned(learner(task), 1).state()
    gone_on = learner(task)
    gone_on.restore(state)
    learned(gone_on, 2)
    assert gone_on.step == straight.step > 0
    for name, weight in straight.network.state_dict().items():
        assert torch.equal(weight, gone_on.network.state_dict()[name]), name


def test_the_last_batch_is_not_learned_from_further_than_the_last_step() -> None:
    """A step after the last would have a negative rate."""
    found = Learner(network_of(RestorerTask.DENOISE), replace(TINY[RestorerTask.DENOISE], steps=CARRIED + 3), CPU)
    assert [len(list(found.learn(batch_of(found.recipe, TAKES, step=found.step, rank=0)))) for _ in range(2)] == [CARRIED + 1, 2]
    assert found.done


def test_the_rate_rises_stays_and_falls_to_zero() -> None:
    recipe = replace(DEFAULTS[RestorerTask.DENOISE], steps=1000, fall=0.4, rate=1.0)
    assert [recipe.rate_at(step) for step in (0, WARM_UP - 1, 300, 600)] == pytest.approx([1 / WARM_UP, 1, 1, 1])
    assert [recipe.rate_at(step) for step in (800, 1000)] == pytest.approx([0.5, 0])


def test_a_batch_follows_from_seed_step_and_rank_alone() -> None:
    recipe = TINY[RestorerTask.DENOISE]
    first = batch_of(recipe, TAKES, step=4, rank=0)
    assert torch.equal(batch_of(recipe, TAKES, step=4, rank=0).given, first.given)
    for other in (
        batch_of(recipe, TAKES, step=8, rank=0),
        batch_of(recipe, TAKES, step=4, rank=1),
        batch_of(replace(recipe, seed=2), TAKES, step=4, rank=0),
    ):
        assert not torch.equal(other.clean, first.clean)
    assert first.clean.shape == (2, recipe.frames, 3, 32, 32)
    assert len({seeded(recipe, step, rank).initial_seed() for step in range(50) for rank in range(50)}) == 2500


def test_an_upscaler_is_given_half_the_size() -> None:
    batch = batch_of(TINY[RestorerTask.UPSCALE_X2], TAKES, step=0, rank=0)
    assert (batch.clean.shape, batch.given.shape) == ((2, 1, 3, 32, 32), (2, 1, 3, 16, 16))


def test_a_configuration_overrides_the_task_and_quick_overrides_the_usual() -> None:
    task = RestorerTask.UPSCALE_X2
    assert recipe_of(RestorerConfig(), workers=1) == DEFAULTS[task]
    assert recipe_of(RestorerConfig(quick=True), workers=1) == QUICK[task]
    asked = recipe_of(RestorerConfig(quick=True, steps=7, rate=0.1, seed=0, fall=0.5), workers=3)
    assert asked == replace(QUICK[task], steps=7, rate=0.1, seed=0, fall=0.5, workers=3)


def test_takes_are_only_read() -> None:
    takes = [Take(take.name, take.frames.clone()) for take in TAKES]
    batch_of(TINY[RestorerTask.DENOISE], takes, step=0, rank=0)
    assert all(torch.equal(take.frames, before.frames) for take, before in zip(takes, TAKES, strict=True))
