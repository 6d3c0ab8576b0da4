"""`vidmill train restorer | tagger`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flows import config_file
from flows.arguments import DONE, INCOMPLETE, config_argument, json_option
from flows.console import console_on, print_json
from flows.options import ConfigCommand, options_of
from infra.training import RestorerConfig, TaggerConfig

if TYPE_CHECKING:
    from prefect import Flow

    from flows.train_restorer import RestorerSummary
    from flows.train_tagger import TaggerSummary
    from flows.training import TrainingSummary

C = TypeVar("C", RestorerConfig, TaggerConfig)
S = TypeVar("S", bound="TrainingSummary")


@click.group()
def train() -> None:
    """Train networks of your own."""


@train.command(cls=ConfigCommand)
@config_argument
@json_option
@options_of(RestorerConfig, "training")
def restorer(config: Path | None, as_json: bool, overrides: dict[str, Any]) -> int:
    """Learn a denoiser or upscaler from photographs and videos; go on where a killed training stopped."""
    return _learn(_restorer_flow, config_file.load_as(RestorerConfig, config, overrides), as_json)


@train.command(cls=ConfigCommand)
@config_argument
@json_option
@options_of(TaggerConfig, "training")
def tagger(config: Path | None, as_json: bool, overrides: dict[str, Any]) -> int:
    """Learn to tag from the features and labels of a run; go on where a killed training stopped."""
    return _learn(_tagger_flow, config_file.load_as(TaggerConfig, config, overrides), as_json)


def _restorer_flow() -> "Flow[[RestorerConfig], RestorerSummary]":
    from flows.train_restorer import train_restorer

    return train_restorer


def _tagger_flow() -> "Flow[[TaggerConfig], TaggerSummary]":
    from flows.train_tagger import train_tagger

    return train_tagger


def _learn(flow_of: "Callable[[], Flow[[C], S]]", config: C, as_json: bool) -> int:
    from flows.train import print_training
    from flows.train import train as run_training

    summary = run_training(flow_of, config)
    if as_json:
        print_json(summary, sys.stdout)
    else:
        print_training(summary, console_on(sys.stdout))
    return DONE if summary.status in ("done", "nothing to do") else INCOMPLETE
