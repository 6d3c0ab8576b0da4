"""Whole runs in processes that may be killed, without paying for their imports each time: `python -m tests.faults.zygote`.

One line of JSON in (configuration, environment), one number out: the exit status of a fork that ran it. No Ray: the stages follow each other.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from infra.settings import RunConfig


class Zygote:
    """Forks runs."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def run(self, config: RunConfig, environment: Mapping[str, str]) -> int:
        """Exit code of one run, minus the signal that ended it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps([config.model_dump(mode="json"), dict(environment)]), file=self.process.stdin, flush=True)
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

    from tests.tasks.runs import run

    for line in sys.stdin:
        config, environment = json.loads(line)
        pid = os.fork()
        if not pid:
            os.environ.update(environment)
            run(RunConfig.model_validate(config))
            os._exit(0)
        print(os.waitpid(pid, 0)[1], flush=True)


if __name__ == "__main__":
    main()
