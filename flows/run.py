"""One run or retry from the command line: the flow, a quiet screen, the log where it belongs.

    OUT/_runs/<run_id>/run.log      of a run that did something, however it ended
    <temporary folder>/run.log      where that cannot be written

With PREFECT_API_URL the flow reports to that server; without, it runs as a plain function and starts none.
"""

import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows.console import console_on, progress
from flows.crash import Crash, root_of
from flows.watch import REPORTED, RUN_ID, WATCHER
from infra import storage
from infra.backfill import BackfillConfig
from infra.logs import quiet_to, redact_file
from infra.problem import Problem
from infra.settings import RestorationConfig, RunConfig
from tasks.record import RunSummary, new_run_id, record_uri, runs_folder

SERVER_TRIES = 3  # some 15 s for a Prefect server that restarts; Prefect's own default waits for minutes at the end of a run whose server died


def run_corpus(config: RunConfig | BackfillConfig, select: Sequence[str] = ()) -> RunSummary:
    """Run the flow that fits, or retry-corpus on what is selected, while a person watches; the summary also of a run that left work.

    Raises:
        Problem: nothing could be done, the message says why.
        Crash: something nobody foresaw; the message says where the traceback is.
        KeyboardInterrupt: finished clips are kept.
    """
    run_id = new_run_id()
    log = RunLog(config.output, run_id, Path(tempfile.mkdtemp(prefix="vidmill-")) / "run.log")
    try:
        with _watched(log):
            summary = _flow_result(config, list(select))
    except Exception as error:
        root = root_of(error)
        kept = log.keep(always=not isinstance(root, Problem))
        raise (root if isinstance(root, Problem) else Crash(root, kept)) from error
    except BaseException:
        log.keep()
        raise
    log.keep()
    return summary


@dataclass(frozen=True, slots=True)
class RunLog:
    """The log of a run: a local file while it goes on, beside the run's record afterwards."""

    output: str
    run_id: str
    local: Path

    def keep(self, *, always: bool = False) -> str:
        """Where the log lies from now on; without a record (nothing was done) and without `always` nowhere."""
        target = f"{runs_folder(self.output)}/{self.run_id}/run.log"
        try:
            redact_file(self.local)
            if self.local.exists() and storage.exists(record_uri(self.output, self.run_id)):
                storage.publish_file(target, str(self.local))
                always = False
        except storage.StorageError:
            always = True
        if not always:
            shutil.rmtree(self.local.parent, ignore_errors=True)
        return str(self.local) if always else target


def _flow_result(config: RunConfig | BackfillConfig, select: list[str]) -> RunSummary:
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, get_current_settings, temporary_settings  # Prefect logs from its import on

    from flows.backfill_feature import backfill_feature
    from flows.enhance_corpus import enhance_corpus
    from flows.process_corpus import RunIncomplete, process_corpus
    from flows.retry_corpus import retry_corpus

    served = bool(get_current_settings().api.url)
    reported: list[RunSummary] = []
    token = REPORTED.set(reported)
    try:
        with temporary_settings(set_defaults={PREFECT_CLIENT_MAX_RETRIES: SERVER_TRIES}):
            if isinstance(config, BackfillConfig):
                return (backfill_feature if served else backfill_feature.fn)(config)
            if select:
                return (retry_corpus if served else retry_corpus.fn)(config, select)
            if config.enhance and not config.embed and not config.tag:
                return (enhance_corpus if served else enhance_corpus.fn)(RestorationConfig.model_validate(config))
            return (process_corpus if served else process_corpus.fn)(config)
    except RunIncomplete as incomplete:
        return incomplete.summary
    except Problem:
        raise
    except Exception:
        logging.getLogger("vidmill").exception("the flow failed")
        if reported:  # only the server was not told so
            return reported[0]
        raise
    finally:
        REPORTED.reset(token)


@contextmanager
def _watched(log: RunLog) -> Iterator[None]:
    """Everything printed goes to the log; progress goes to the screen."""
    with quiet_to(log.local) as streams, progress(console_on(streams.stderr)) as display:
        tokens = WATCHER.set(display), RUN_ID.set(log.run_id)
        try:
            yield
        finally:
            WATCHER.reset(tokens[0])
            RUN_ID.reset(tokens[1])
