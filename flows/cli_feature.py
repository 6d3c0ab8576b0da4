"""`vidmill backfill` and `vidmill prune`: features come to an output that is there, old versions go."""

import sys
from dataclasses import asdict
from typing import Any

import click

from flows import config_file
from flows.arguments import DONE, code_of, json_option, output_of, target_argument
from flows.console import console_on, print_json
from flows.options import ConfigCommand, options_of
from infra.backfill import BackfillConfig


@click.command(cls=ConfigCommand)
@target_argument
@click.option("--select", "select", multiple=True, metavar="KEY:VALUE[,...]", help="which clips: shard:part_7*, label:\"juggling balls\" or another "
              "column of clips, missing: (shards without a file yet); a comma means and, repetition means or, values may be globs")  # fmt: skip
@json_option
@options_of(BackfillConfig, "backfill", without=("output", "select"))
def backfill(target: str, select: tuple[str, ...], as_json: bool, overrides: dict[str, Any]) -> int:
    """Add features to an output: of the clips that it holds, everything else as in its last run."""
    from flows.run import run_corpus
    from flows.show import print_summary

    given = {**overrides, "output": output_of(target), "select": list(select)}
    summary = run_corpus(config_file.load_as(BackfillConfig, None, given))
    if as_json:
        print_json(summary, sys.stdout)
    else:
        print_summary(summary, console_on(sys.stdout))
    return code_of(summary)


@click.command()
@target_argument
@click.option("--yes", is_flag=True, help="delete what is listed without it")
@click.option("--feature", "features", multiple=True, metavar="LABEL", help="delete this alone, as listed: 'embeddings mobilenet-v2@1a2b3c4d', or "
              "mobilenet-v2@1a2b3c4d; may be a glob, may be repeated")  # fmt: skip
@json_option
def prune(target: str, yes: bool, features: tuple[str, ...], as_json: bool) -> int:
    """List versions that a newer, complete one has replaced; delete them with --yes or --feature."""
    from flows.status import print_pruning
    from infra.lease import lease
    from tasks.prune import delete_old, find_old
    from tasks.record import new_run_id

    output = output_of(target)
    pruning = find_old(output, features)
    if deletes := bool((yes or features) and pruning.old):
        with lease(output, run_id=new_run_id()) as held:
            pruning = find_old(output, features)
            delete_old(pruning, held.confirm)
    if as_json:
        print_json({**asdict(pruning), "deleted": deletes}, sys.stdout)
    else:
        print_pruning(pruning, console_on(sys.stdout), deleted=deletes)
    return DONE
