"""One run from the command line: the flow, a quiet screen, the log where it belongs.

With PREFECT_API_URL the flow reports to that server; without, it runs as a plain function and starts none.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.console import console_on, progress
from flows.watch import RUN_ID, WATCHER
from infra import storage
from infra.logs import quiet_to
from infra.settings import RunConfig
from tasks.record import RunSummary, new_run_id, record_uri, runs_folder


def run_corpus(config: RunConfig) -> RunSummary:
    """Run process-corpus while a person watches; the summary also of a run that left work.

    Raises:
        Problem: nothing could be done, the message says why.
        KeyboardInterrupt: finished clips are kept.
    """
    run_id = new_run_id()
    with _logged(config.output, run_id), _watched(run_id):
        from flows.process_corpus import RunIncomplete, process_corpus  # Prefect logs from its import on
        from prefect.settings import get_current_settings

        flow = process_corpus if get_current_settings().api.url else process_corpus.fn
        try:
            return flow(config)
        except RunIncomplete as incomplete:
            return incomplete.summary


@contextmanager
def _logged(output: str, run_id: str) -> Iterator[None]:
    """Keep the log of a run that did something; a run with nothing to do leaves none."""
    with tempfile.TemporaryDirectory(prefix="vidmill-") as folder:
        log = Path(folder) / "run.log"
        try:
            with _quiet(log):
                yield
        finally:
            if storage.exists(record_uri(output, run_id)):
                storage.publish_file(f"{runs_folder(output)}/{run_id}/run.log", str(log))


@contextmanager
def _quiet(log: Path) -> Iterator[None]:
    with quiet_to(log) as streams, progress(console_on(streams.stderr)) as display:
        token = WATCHER.set(display)
        try:
            yield
        finally:
            WATCHER.reset(token)


@contextmanager
def _watched(run_id: str) -> Iterator[None]:
    token = RUN_ID.set(run_id)
    try:
        yield
    finally:
        RUN_ID.reset(token)
