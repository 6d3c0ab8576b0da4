"""A problem a person can solve: what it is about, the cause, and what to do.

Raised anywhere, printed as one line by the command line, never as a traceback.
"""


class Problem(Exception):
    """Usage, configuration or environment is wrong; the message names the item, the cause and the fix (exit code 2, or 1 where it may pass)."""

    @property
    def passing(self) -> bool:
        """Whether nothing is wrong with what was asked: the same command can do it another time."""
        return False
