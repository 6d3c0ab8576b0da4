"""A step is the plain function outside a flow run."""

import pytest
from prefect.context import TaskRunContext

from flows.step import in_flow_run, step


def test_a_step_outside_a_flow_is_the_function_itself() -> None:
    @step(name="add", retries=3)
    def add(left: int, right: int) -> int:
        """Adds."""
        if right < 0:
            raise ValueError("no")
        assert TaskRunContext.get() is None
        return left + right

    assert not in_flow_run()
    assert (add(1, right=2), add.__name__, add.__doc__) == (3, "add", "Adds.")
    with pytest.raises(ValueError, match="no"):
        add(1, right=-1)
