"""A step of a flow: a Prefect task where a flow run is under way, the plain function everywhere else.

So the same code runs with a Prefect server and without any.
"""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext

P = ParamSpec("P")
R = TypeVar("R")


def step(**options: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function a coarse Prefect task; `options` are those of `prefect.task`. Nothing is cached: the output is the memory."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        as_task = task(cache_policy=NO_CACHE, **options)(function)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return as_task(*args, **kwargs) if in_flow_run() else function(*args, **kwargs)

        return call

    return decorate


def in_flow_run() -> bool:
    """Whether Prefect is watching."""
    return FlowRunContext.get() is not None
