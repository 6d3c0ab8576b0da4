"""Batches ahead of the step that needs them, made by threads; each is the same whoever makes it, and they come in order.

    step  n        n+1      n+2
          learned  ready    being made

Knows a pool and a recipe, nothing of networks.
"""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor

from tasks.cores import use_cores
from tasks.learn import Batch, Recipe, batch_of
from tasks.pool import Pool

AHEAD = 2  # batches for each thread that are made or ready


def batches(
    recipe: Recipe, pool: Pool, *, step: int, rank: int, loaders: int, finish: Callable[[Batch], Batch] | None = None
) -> Generator[Batch, None, None]:
    """The batches from a step on, to the last step; close it to stop before.

    Args:
        step: that the first batch begins with, a multiple of `recipe.batch_steps`.
        loaders: threads that make them; torch uses one core in each.
        finish: done to each batch by its thread, such as pinning its memory.
    """

    def made(step: int) -> Batch:
        found = batch_of(recipe, pool.takes(step // recipe.batch_steps), step=step, rank=rank)
        return finish(found) if finish else found

    steps = iter(range(step, recipe.steps, recipe.batch_steps))
    with ThreadPoolExecutor(loaders, "batches", initializer=use_cores, initargs=(1,)) as threads:
        waiting: deque[Future[Batch]] = deque()
        try:
            for _, at in zip(range(loaders * AHEAD), steps, strict=False):
                waiting.append(threads.submit(made, at))
            while waiting:
                found = waiting.popleft().result()
                for at in steps:
                    waiting.append(threads.submit(made, at))
                    break
                yield found
        finally:
            threads.shutdown(wait=True, cancel_futures=True)
