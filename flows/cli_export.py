"""`vidmill export youtube8m`."""

import sys
from typing import Any

import click

from flows.arguments import DONE, INCOMPLETE, json_option, output_of, target_argument
from flows.console import console_on, print_json


@click.group()
def export() -> None:
    """Write what an output holds in the formats of others."""


@export.command()
@target_argument
@click.option("--to", required=True, metavar="FOLDER|s3://BUCKET/KEY", help="where the records go; an export of the same output goes on there")
@click.option("--rgb", metavar="MODEL[@VERSION]", help="embeddings that become rgb; yt8m-inception3, or the only ones there are")
@click.option("--audio", metavar="MODEL[@VERSION]", help="embeddings that become audio; yt8m-vggish where there are some")
@click.option("--level", type=click.Choice(["frame", "video"]), default="frame", help="video: means only, no frames")
@click.option("--gzip", is_flag=True, help="write .tfrecord.gz")
@json_option
def youtube8m(target: str, as_json: bool, **asked: Any) -> int:
    """Write TFRecords as YouTube-8M has them, one file per shard, with a vocabulary.csv."""
    from flows.export import export_youtube8m, print_export
    from tasks.export_youtube8m import Export

    summary = export_youtube8m(Export(output_of(target), **asked))
    if as_json:
        print_json(summary, sys.stdout)
    else:
        print_export(summary, console_on(sys.stdout))
    return INCOMPLETE if summary.problems else DONE
