"""The plan of a backfill: the clips that an output holds, minus what it holds of the wanted features. Opens no media, writes nothing.

    shards of `clips`, as long as the source has them in that state  x  wanted features   -   visible files, or clips of them

New shards are not added, changed ones are named and left: both are for a run.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow.parquet as pq

from infra import storage
from infra.problem import Problem
from infra.settings import RunConfig
from tasks.choice import Choice
from tasks.chosen import work_chosen
from tasks.feature import Feature, features_of
from tasks.plan import RunPlan, check_makers, corpus_of, plan_run, refuse_another_corpus, state_of
from tasks.published import Footer, footers, path_of
from tasks.shardwork import ShardWork
from tasks.source import Corpus

NAMED = 10  # shards that a notice names

Target = tuple[str, str | None]  # table, and model or recipe


def plan_backfill(config: RunConfig, targets: Collection[Target], choice: Choice, base: Mapping[str, Any]) -> RunPlan:
    """Compare the clips that an output holds with some of its features; the source is only asked whether it is still the same.

    Args:
        config: of an earlier run, but for models and recipes, which are the wanted ones.
        targets: what is to be added.
        choice: of clips.
        base: the record of the run that the backfill adds to.

    Raises:
        Problem: as `plan_run`; or no clips are published; or a condition is on a column that they do not have.
    """
    unlabelled = config.source.model_copy(update={"annotations": None, "vocabulary": None})  # labels are joined into `clips`, which stays
    config = config.model_copy(update={"source": unlabelled})
    features = features_of(config)
    check_makers(config)
    corpus = corpus_of(config)
    published = {feature: footers(config.output, feature) for feature in features}
    refuse_another_corpus(config, corpus, published)
    clips = published[features[0]]
    choice.check(_columns(config.output, clips))
    labels = {shard: footer.labels_etag for shard, footer in clips.items()}
    known = replace(corpus, shards=tuple(shard for shard in corpus.shards if shard.name in clips))
    state = state_of(config, known, published, labels)
    lacking = {shard.name: state.work_of(shard) for shard in known.shards}
    whole = {name: work for name, work in lacking.items() if work.unchanged and work.listed and not work.wants(features[0])}
    wanted = tuple(feature for feature in features if (feature.table, feature.model) in targets)
    work = work_chosen(config.output, whole.values(), wanted, choice)
    _refuse_without_inputs(config.output, wanted, work, whole)
    shards = tuple(shard for shard in known.shards if shard.name in whole)
    notices = _notices(corpus, clips, lacking, whole)
    return RunPlan(
        config, replace(known, shards=shards), features, work, labels, choice,
        published=published, targets=wanted, base=base, notices=notices,
    )  # fmt: skip


def replanned(plan: RunPlan) -> RunPlan:
    """The same plan once more, of what is there now."""
    if isinstance(plan.selection, Choice):
        assert plan.base is not None
        return plan_backfill(plan.config, {(target.table, target.model) for target in plan.targets}, plan.selection, plan.base)
    return plan_run(plan.config, plan.selection)


def _columns(output: str, clips: Mapping[str, Footer]) -> list[str]:
    """What a clip can be selected by, told by one file."""
    if not clips:
        raise Problem(f"{output}: no clips are published there, and a backfill adds to those that are; run `vidmill run` first")
    uri = path_of(output, "clips", min(clips))
    with storage.open_seekable(uri) as file:
        return list(pq.read_schema(file).names)


def _refuse_without_inputs(output: str, wanted: Sequence[Feature], work: Sequence[ShardWork], lacking: Mapping[str, ShardWork]) -> None:
    """A trained tagger reads embeddings that are there, or are made by the same backfill."""
    made = {feature.folder for feature in wanted}
    for item in work:
        there = {feature.folder: feature for feature in lacking[item.shard.name].features}
        for tags in item.features:
            for folder in tags.inputs:
                if folder in there and folder not in made:
                    reads = f"tag: {tags.model} reads {there[folder].label}, which {output} lacks of {item.shard.name}, or has in part"
                    raise Problem(f"{reads}; backfill them first, or add --embed {there[folder].model}")


def _notices(corpus: Corpus, clips: Mapping[str, Footer], lacking: Mapping[str, ShardWork], whole: Mapping[str, ShardWork]) -> tuple[str, ...]:
    listed = {shard.name for shard in corpus.shards}
    changed = [name for name, work in lacking.items() if not work.unchanged]
    torn = [name for name, work in lacking.items() if work.unchanged and name not in whole]
    groups = (
        (changed, "changed in the source since their clips were read"),
        (sorted(clips.keys() - listed), "not in the source any more"),
        (torn, "not whole, for their clips or failures are missing or behind"),
        (sorted(listed - clips.keys()), "new in the source"),
    )
    return tuple(f"left out, and for `vidmill run`: {_named(shards)}: {why}" for shards, why in groups if shards)


def _named(shards: Sequence[str]) -> str:
    more = f" and {len(shards) - NAMED:,} more" if len(shards) > NAMED else ""
    return ", ".join(shards[:NAMED]) + more
