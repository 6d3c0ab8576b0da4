"""The command line: `vidmill demo | init | plan | run | status | verify | retry | backfill | prune | show | models | train | ... | doctor`.

stdout is the result, stderr the progress. Exit codes: 0 all done; 1 too many failures or work left; 2 usage or configuration;
3 interrupted, safe to run again. Each command imports what it needs, so that `vidmill plan` starts neither Ray nor torch.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from flows import config_file
from flows.arguments import (
    DONE,
    INCOMPLETE,
    INTERRUPTED,
    USAGE,
    code_of,
    config_argument,
    config_of,
    json_option,
    output_of,
    target_argument,
)  # fmt: skip
from flows.cli_cluster import submit
from flows.cli_export import export
from flows.cli_feature import backfill, prune
from flows.cli_train import train
from flows.console import console_on, print_error, print_json
from flows.crash import Crash, write_traceback
from flows.options import ConfigCommand, config_options, starter_yaml
from infra.problem import Problem


class Interrupted(Exception):
    """Ctrl-C or SIGTERM; click would add an empty line to a KeyboardInterrupt."""


class App(click.Group):
    """All commands."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was given."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted from error


@click.group(cls=App, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="vidmill", prog_name="vidmill")
def app() -> None:
    """Turn video corpora into Parquet: embeddings, tags and failures, exactly once.

    Try `vidmill demo`, then `vidmill init` and `vidmill run vidmill.yaml`.
    """


@app.command()
@click.argument("folder", default="vidmill-demo", type=click.Path(path_type=Path))
def demo(folder: Path) -> int:
    """Cut a small Kinetics corpus out of real videos, with one corrupt clip, and run on it."""
    from flows.demo import make_demo, show_demo
    from flows.run import run_corpus
    from flows.show import print_summary

    config, screen = make_demo(folder), console_on(sys.stdout)
    summary = run_corpus(config)
    if code_of(summary) == DONE:
        show_demo(config, screen)
    print_summary(summary, screen)
    return code_of(summary)


@app.command(cls=ConfigCommand)
@click.argument("path", default="vidmill.yaml", type=click.Path(path_type=Path))
@config_options
def init(path: Path, overrides: dict[str, Any]) -> int:
    """Write a commented configuration file; flags fill it in."""
    if path.exists():
        raise Problem(f"{path}: exists; name another file, or remove it first")
    path.write_text(starter_yaml(overrides), encoding="utf-8")
    print(f"wrote {path}; fill it in, then: vidmill plan {path}")
    return DONE


@app.command(cls=ConfigCommand)
@config_argument
@json_option
@config_options
def plan(config: Path | None, as_json: bool, overrides: dict[str, Any]) -> int:
    """Say what a run would do. Opens no media, writes nothing."""
    from flows.preflight import checked_plan
    from flows.show import PlanView, print_plan

    view = PlanView.of(checked_plan(config_file.load(config, overrides)))
    if as_json:
        print_json(view, sys.stdout)
    else:
        print_plan(view, console_on(sys.stdout), _again(config))
    return DONE


@app.command(cls=ConfigCommand)
@config_argument
@json_option
@config_options
def run(config: Path | None, as_json: bool, overrides: dict[str, Any]) -> int:
    """Compute and publish everything the output lacks."""
    from flows.run import run_corpus
    from flows.show import print_summary

    summary = run_corpus(config_file.load(config, overrides))
    if as_json:
        print_json(summary, sys.stdout)
    else:
        print_summary(summary, console_on(sys.stdout))
    return code_of(summary)


@app.command()
@target_argument
@click.option("--shards", "by_shard", is_flag=True, help="also every shard, however many there are")
@json_option
def status(target: str, by_shard: bool, as_json: bool) -> int:
    """Show what an output holds: features by shards done, failures by kind, the last run."""
    from flows.status import OutputView, print_output

    view = OutputView.of(output_of(target), by_shard=by_shard)
    if as_json:
        print_json(view, sys.stdout)
    else:
        print_output(view, console_on(sys.stdout))
    return DONE


@app.command()
@target_argument
@json_option
def verify(target: str, as_json: bool) -> int:
    """Prove that every planned clip is one row or one failure, and every restored video that of a row; exit 1 if not."""
    from flows.show import print_verification
    from tasks.verify import verify as verify_output

    found = verify_output(output_of(target))
    if as_json:
        print_json(found, sys.stdout)
    else:
        print_verification(found, console_on(sys.stdout))
    return INCOMPLETE if found.faults else DONE


@app.command(cls=ConfigCommand)
@target_argument
@click.option("--select", "select", multiple=True, metavar="KEY:VALUE[,...]", help="what to redo: kind:TIMEOUT, shard:, stage:, clip:, member:, "
              "state:failed, state:altered, state:missing; a comma means and, repetition means or, values may be globs")  # fmt: skip
@json_option
@config_options
def retry(target: str, select: tuple[str, ...], as_json: bool, overrides: dict[str, Any]) -> int:
    """Redo selected failures and republish their shards; the configuration is the last run's, but for flags that are given."""
    from flows.run import run_corpus
    from flows.show import print_summary
    from tasks.select import selection_of

    selection_of(select)
    summary = run_corpus(config_of(target, overrides), select)
    if as_json:
        print_json(summary, sys.stdout)
        return code_of(summary)
    if summary.status == "nothing to do":
        print(f"nothing is selected by {' or '.join(select)}")
    print_summary(summary, console_on(sys.stdout))
    return code_of(summary)


@app.command(context_settings={"ignore_unknown_options": True})
@target_argument
@click.argument("clip_id")
@json_option
def show(target: str, clip_id: str, as_json: bool) -> int:
    """Show what an output holds of one clip: its row, tags, embeddings, restored videos, failures and files."""
    from flows.show_clip import print_clip
    from tasks.dossier import dossier_of

    found = dossier_of(output_of(target), clip_id)
    if as_json:
        print_json(found, sys.stdout)
    else:
        print_clip(found, console_on(sys.stdout))
    return DONE


@app.command()
@json_option
def models(as_json: bool) -> int:
    """List the built-in models, their licences and weights."""
    from flows.show import model_views, print_models

    views = model_views()
    if as_json:
        print_json(views, sys.stdout)
    else:
        print_models(views, console_on(sys.stdout))
    return DONE


@app.command(cls=ConfigCommand)
@config_argument
@json_option
@config_options
def doctor(config: Path | None, as_json: bool, overrides: dict[str, Any]) -> int:
    """Check this machine and, with a configuration, its source and output: really decodes, infers, writes, reads and deletes."""
    from flows.doctor import examine, print_examination

    checks = examine(config_file.load(config, overrides) if config or overrides else None)
    if as_json:
        print_json(checks, sys.stdout)
    else:
        print_examination(checks, console_on(sys.stdout))
    return DONE if all(check.ok for check in checks) else USAGE


for command in (train, export, backfill, prune, submit):
    app.add_command(command)


def main() -> NoReturn:
    """Run the command line and exit."""
    sys.path.append(os.getcwd())  # a user's own model lies where they work; last, or their models/ would hide ours
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup's wish
            signal.signal(number, signal.default_int_handler)
    sys.exit(execute(sys.argv[1:]))


def execute(arguments: Sequence[str]) -> int:
    """Run one command; its exit code. Whatever goes wrong is told on stderr, never as a traceback."""
    try:
        return int(app.main(arguments, prog_name="vidmill", standalone_mode=False) or DONE)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return USAGE
    except click.UsageError as error:
        return _told(_usage(error), USAGE)
    except Problem as error:
        return _told(str(error), INCOMPLETE if error.passing else USAGE)
    except (Interrupted, KeyboardInterrupt):
        return _told("interrupted; what was finished is kept, run the same command to go on", INTERRUPTED)
    except BrokenPipeError:  # `vidmill plan | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return INCOMPLETE
    except Crash as error:
        return _told(str(error), INCOMPLETE)
    except Exception as error:
        return _told(str(Crash(error, write_traceback(error))), INCOMPLETE)


def _told(text: str, code: int) -> int:
    print_error(text, sys.stderr)
    return code


def _usage(error: click.UsageError) -> str:
    command = error.ctx.command_path if error.ctx else "vidmill"
    return f"{error.format_message().rstrip('.')}; `{command} --help` lists what there is"


def _again(config: Path | None) -> str:
    return f"vidmill run {config}" if config else "vidmill run with the same flags"


if __name__ == "__main__":
    main()
