"""What nobody foresaw, told in one line: the cause, and the file that holds the traceback.

Knows exceptions, also those that Ray brings back from its workers; knows nothing of what was going on.
"""

import tempfile
import traceback

from infra.problem import Problem
from infra.secret import Secrets

LONGEST_CAUSE = 300


class Crash(Exception):
    """A bug, or a part of the machine that failed (exit code 1)."""

    def __init__(self, error: BaseException, log: str) -> None:
        super().__init__(f"{cause_of(error)}; the traceback is in {log}; run the same command again, finished work is kept")


def root_of(error: BaseException) -> BaseException:
    """The first exception of a chain, or the Problem made of it; Ray wraps what a worker raised, as `cause`."""
    below = getattr(error, "cause", None) or error.__cause__
    wrapped = "RayTaskError" in type(error).__name__  # also of a Problem, with a message of many lines
    empty = type(below).__name__ == "SystemException"  # Ray Data hangs this, which says nothing, below what Ray says of a lost worker
    if not isinstance(below, BaseException) or empty or (isinstance(error, Problem) and not wrapped):
        return error
    return root_of(below)


def is_loss(error: BaseException) -> bool:
    """Whether Ray lost something with a node and could not make it anew.

    Ray 2.60 repeats the tasks whose results were lost, and gives everything up where a repetition ends early, as it may if it is disturbed itself
    (ray-project/ray#64394); the results are deterministic, whatever its message says.
    """
    from ray.exceptions import ObjectLostError, StreamingGeneratorReplayInconsistentError  # a run with nothing to do needs no Ray

    return isinstance(error, ObjectLostError | StreamingGeneratorReplayInconsistentError)


def cause_of(error: BaseException) -> str:
    """`KeyError: 'rgb'`, in one line whatever the message holds."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
    return f"{type(error).__name__}: {text[:LONGEST_CAUSE]}".removesuffix(".")


def write_traceback(error: BaseException) -> str:
    """Path of a new file with the traceback, without secrets."""
    with tempfile.NamedTemporaryFile("w", prefix="vidmill-", suffix=".log", delete=False, encoding="utf-8", errors="backslashreplace") as file:
        file.write(Secrets().redact("".join(traceback.format_exception(error))))
    return file.name
