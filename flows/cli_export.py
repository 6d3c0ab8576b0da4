"""`vidmill export youtube8m | delta | iceberg`."""

import sys
from typing import TYPE_CHECKING, Any

import click

from flows.arguments import DONE, INCOMPLETE, json_option, output_of, target_argument
from flows.console import console_on, print_json

if TYPE_CHECKING:
    from tasks.export_lake import LakeSummary


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


@export.command()
@target_argument
@json_option
def delta(target: str, as_json: bool) -> int:
    """Register the published Parquet as Delta Lake tables, one per folder; no data is written, a second call commits what changed."""
    from flows.export_lake import export_delta

    return _told(export_delta(output_of(target)), as_json)


@export.command()
@target_argument
@click.option("--to", metavar="FOLDER|s3://BUCKET/KEY", help="where the metadata goes; OUTPUT/_iceberg, with the catalog catalog.db in it")
@click.option("--catalog", metavar="NAME", help="a catalog of pyiceberg's configuration, in the place of catalog.db")
@click.option("--namespace", metavar="NAME", default="vidmill", show_default=True, help="the tables are NAMESPACE.clips and so on")
@json_option
def iceberg(target: str, as_json: bool, **asked: Any) -> int:
    """Register the published Parquet as Iceberg tables in a catalog; no data is written, a second call commits what changed."""
    from flows.export_lake import export_iceberg

    return _told(export_iceberg(output_of(target), **asked), as_json)


def _told(summary: "LakeSummary", as_json: bool) -> int:
    from flows.export_lake import print_lake

    if as_json:
        print_json(summary, sys.stdout)
    else:
        print_lake(summary, console_on(sys.stdout))
    return INCOMPLETE if summary.problems else DONE
