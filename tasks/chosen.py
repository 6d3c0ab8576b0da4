"""What a backfill does of shards that lack something: the features it adds, of the clips that its selection takes.

Reads rows only where the selection is by clip, and then of shards that lack the feature. Knows the tables of an output; opens no media.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from tasks.choice import Choice
from tasks.feature import Feature
from tasks.published import FOOTER_THREADS
from tasks.shardwork import ShardWork, lacks_chosen


def work_chosen(output: str, lacking: Iterable[ShardWork], targets: Sequence[Feature], choice: Choice) -> tuple[ShardWork, ...]:
    """The part of this work that is chosen, shards without any left out.

    Args:
        output: whose `clips` the choice is made by.
        lacking: shards with everything that they lack.
        targets: features that are to be added.
        choice: of shards and clips.
    """
    named = (replace(work, features=tuple(feature for feature in work.features if feature in targets)) for work in lacking)
    with ThreadPoolExecutor(FOOTER_THREADS) as pool:
        found = pool.map(lambda work: _chosen(output, work, choice), (work for work in named if work.features))
        return tuple(work for work in found if work.features)


def _chosen(output: str, work: ShardWork, choice: Choice) -> ShardWork:
    conditions = {}
    for feature in work.features:
        found = choice.of_shard(work.shard.name, "clips" if feature.folder in work.reusable else "shards")
        if found is not None:
            conditions[feature] = found
    chosen = replace(work, chosen=tuple((feature, selectors) for feature, selectors in conditions.items() if selectors))
    some = {feature for feature, _ in chosen.chosen}
    features = (feature for feature in conditions if feature not in some or lacks_chosen(output, chosen, feature))
    return replace(chosen, features=tuple(features))
