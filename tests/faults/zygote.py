"""Whole runs in processes that may be killed, without paying for their imports each time: `python -m tests.faults.zygote`.

One line of JSON in (what to do, of what, environment), one number out: the exit status of a fork that ran it. No Ray: the stages follow each other.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from infra.backfill import BackfillConfig
from infra.settings import RunConfig


class Zygote:
    """Forks runs."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def run(self, config: RunConfig | BackfillConfig, environment: Mapping[str, str]) -> int:
        """Exit code of one run or backfill, minus the signal that ended it."""
        return self._forked(type(config).__name__, config.model_dump(mode="json", exclude_unset=True), environment)

    def prune(self, output: str, environment: Mapping[str, str]) -> int:
        """Exit code of one prune, minus the signal that ended it."""
        return self._forked("prune", output, environment)

    def _forked(self, kind: str, order: object, environment: Mapping[str, str]) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps([kind, order, dict(environment)]), file=self.process.stdin, flush=True)
        return os.waitstatus_to_exitcode(int(self.process.stdout.readline()))


@contextmanager
def zygote() -> Iterator[Zygote]:
    """A process that forks runs."""
    command = [sys.executable, "-m", "tests.faults.zygote"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Zygote(process)
        finally:
            process.kill()


def main() -> None:
    """Serve stdin."""
    import torch  # noqa: F401 (what takes long to import)

    from tasks.prune import delete_old, find_old
    from tests.tasks.runs import GUARD, backfilled, run

    for line in sys.stdin:
        kind, order, environment = json.loads(line)
        pid = os.fork()
        if not pid:
            os.environ.update(environment)
            match kind:
                case "prune":
                    delete_old(find_old(order), GUARD)
                case "BackfillConfig":
                    backfilled(BackfillConfig.model_validate(order))
                case _:
                    run(RunConfig.model_validate(order))
            os._exit(0)
        print(os.waitpid(pid, 0)[1], flush=True)


if __name__ == "__main__":
    main()
