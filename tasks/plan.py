"""The plan: what the configuration asks for, minus what is published and still holds. Opens no media, writes nothing.

shards of the source  x  features   -   visible files made from the same source, by the same version

It comes in three parts: what is decoded and inferred; then, of what is published, what is tagged from stored embeddings; then what is enhanced.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from infra import storage
from infra.problem import Problem
from infra.settings import RunConfig, SourceKind
from models import weights
from tasks import manifest
from tasks.choice import Choice
from tasks.chosen import work_chosen
from tasks.deleted import DeletedInputs, deleted_inputs, shards_to_drop
from tasks.encoding import Encoding, check_encoding
from tasks.feature import RECORD_MODELS, Feature, features_of, model_specs, recipes_of
from tasks.labels import labels_etag
from tasks.media import listed_digest
from tasks.membership import read_members
from tasks.published import FAILURES_FOLDER, FOOTER_THREADS, Footer, footers, footers_of, is_behind, shards_in
from tasks.select import Selection
from tasks.shardwork import ShardWork, attempt_of, explains, published_failures
from tasks.source import LOOSE, Corpus, Membership, Shard, identity_of, list_corpus
from tasks.staging import Staging, staged_shards

Published = Mapping[Feature, Mapping[str, Footer]]  # footers by shard


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a run would do."""

    config: RunConfig
    corpus: Corpus
    features: tuple[Feature, ...]
    work: tuple[ShardWork, ...]
    labels_etags: Mapping[str, str]  # by shard
    selection: Selection | Choice | None = None  # of a retry or a backfill: it does nothing else
    deleted: DeletedInputs = field(default_factory=DeletedInputs)
    dropped: tuple[str, ...] = ()  # shards of which nothing shall be left
    published: Published | None = None  # as the plan found it
    targets: tuple[Feature, ...] = ()  # of a backfill: what it adds, of `features`
    base: Mapping[str, Any] | None = None  # of a backfill: the record of the run that it adds to
    notices: tuple[str, ...] = ()  # what is left for another run, and why

    @property
    def done_shards(self) -> int:
        """Shards that need nothing."""
        return len(self.corpus.shards) - len(self.work)


def plan_run(config: RunConfig, selection: Selection | None = None) -> RunPlan:
    """Compare the source with the output.

    Args:
        config: what is wanted.
        selection: of a retry: published failures to be tried again, and whether what is missing is to be computed.

    Raises:
        Problem: a model, the source or the output is not usable; the message says which and what to do.
    """
    features = features_of(config)
    check_makers(config)
    corpus = corpus_of(config)
    published = {feature: footers(config.output, feature) for feature in features}
    refuse_another_corpus(config, corpus, published)
    labels = {shard.name: labels_etag(corpus, shard) for shard in corpus.shards}
    state = state_of(config, corpus, published, labels)
    work = _missing(corpus, state) if selection is None else _selected(config.output, corpus, state, selection)
    _refuse_what_nothing_makes(config, features, work)
    if selection is not None:
        return RunPlan(config, corpus, features, work, labels, selection)
    deleted = deleted_inputs(config, corpus, published[features[0]])
    return RunPlan(config, corpus, features, work, labels, deleted=deleted, dropped=shards_to_drop(config, corpus), published=published)


def work_left(plan: RunPlan, published: Published) -> tuple[ShardWork, ...]:
    """What the plan's corpus, as it was listed, lacks in an output that holds `published`, footers of all the plan's features."""
    state = state_of(plan.config, plan.corpus, published, plan.labels_etags)
    if isinstance(plan.selection, Choice):
        return work_chosen(plan.config.output, map(state.work_of, plan.corpus.shards), plan.targets, plan.selection)
    return _missing(plan.corpus, state)


def from_source(plan: RunPlan) -> RunPlan:
    """The part of a plan that comes first: what is made from the source by looking at each clip once."""
    return _only(plan, plan.work, frozenset(feature for feature in plan.features if feature.table != "enhanced" and not feature.inputs))


def from_embeddings(plan: RunPlan) -> RunPlan:
    """The part of a plan that comes second, planned anew: tags of shards whose clips and embeddings are published."""
    tags = frozenset(feature for feature in plan.features if feature.inputs)
    return _of_published(plan, tags, needs=frozenset(folder for feature in tags for folder in feature.inputs))


def enhancement(plan: RunPlan) -> RunPlan:
    """The part of a plan that comes last, planned anew: shards whose clips are not published are for another run."""
    return _of_published(plan, frozenset(feature for feature in plan.features if feature.table == "enhanced"))


def _of_published(plan: RunPlan, features: frozenset[Feature], *, needs: Set[str] = frozenset()) -> RunPlan:
    """Work on these features, of shards that lack none of the folders that they need."""
    if not features:
        return _only(plan, (), features)
    published = {feature: footers(plan.config.output, feature) for feature in plan.features}
    state = state_of(plan.config, plan.corpus, published, plan.labels_etags)
    planned = {work.shard.name: work for work in plan.work}
    lacking: Iterable[ShardWork] = map(state.work_of, plan.corpus.shards)
    if isinstance(plan.selection, Choice):
        lacking = work_chosen(plan.config.output, lacking, plan.targets, plan.selection)
    able = (work for work in lacking if needs.isdisjoint(feature.folder for feature in work.features))
    joined = (_joined(work, planned.get(work.shard.name), plan) for work in able)
    return _only(plan, tuple(work for work in joined if work.listed and work.unchanged), features)


def _joined(work: ShardWork, planned: ShardWork | None, plan: RunPlan) -> ShardWork:
    """Of a retry: what was selected, and what it left missing in its own shards."""
    if not isinstance(plan.selection, Selection):
        return work
    if planned is None:
        return replace(work, features=())
    features = tuple(feature for feature in plan.features if feature in {*planned.features, *work.features})
    return replace(work, features=features, retried=planned.retried)


def _only(plan: RunPlan, work: tuple[ShardWork, ...], features: frozenset[Feature]) -> RunPlan:
    def part(item: ShardWork) -> ShardWork:
        settled = tuple(feature for feature in plan.features if feature not in item.features)
        later = tuple(feature for feature in item.features if feature not in features)
        return replace(item, features=tuple(feature for feature in item.features if feature in features), settled=settled, later=later)

    return replace(plan, work=tuple(item for item in map(part, work) if item.features))


def staged_in_vain(plan: RunPlan) -> tuple[Staging, ...]:
    """Staging of shards that need nothing: a run was killed between the last file of a shard and the end of its fragments.

    A backfill leaves that to a run: what it needs nothing of may lack other features, of which much may be staged.
    """
    if isinstance(plan.selection, Choice):
        return ()
    done = {shard.name for shard in plan.corpus.shards} - {work.shard.name for work in plan.work}
    found = (Staging(plan.config.output, shard) for shard in staged_shards(plan.config.output) if shard in done)
    return tuple(staging for staging in found if staging.holds(plan.features))


def overlay_work(plan: RunPlan) -> ShardWork | None:
    """The archive of replacements as work of its own: computed once, staged for the shards it overrides."""
    overlay = plan.corpus.replacements
    if overlay is None:
        return None
    wanted = {feature for work in plan.work for feature in work.features}
    if all(feature.inputs for feature in wanted):  # published embeddings are those of the replacements
        return None
    features = tuple(feature for feature in plan.features if feature in wanted)
    retried = frozenset(attempt for work in plan.work for attempt in work.retried)
    return ShardWork(overlay, features, frozenset(), listed=False, unchanged=False, overlay=True, retried=retried)


def manifest_columns(config: RunConfig) -> pa.Schema:
    """The manifest's columns that travel into `clips`; none for other sources."""
    return manifest.columns_of(config.source.uri) if config.source.kind is SourceKind.MANIFEST else pa.schema([])


def check_makers(config: RunConfig) -> None:
    """Raise Problem where a model or recipe cannot be used."""
    for spec in model_specs(config):
        weights.check(spec)
    for recipe in recipes_of(config):
        recipe.check()
    for entry in config.enhance:
        check_encoding(Encoding.of(entry))


def corpus_of(config: RunConfig) -> Corpus:
    """The source, listed; loose videos in the shards they belong to."""
    return list_corpus(config, _members(config) if config.source.kind in LOOSE else {})


def _members(config: RunConfig) -> Mapping[str, Membership]:
    return read_members(config.output, storage.root_of(config.source.uri), corpus=identity_of(config.source))


def _missing(corpus: Corpus, state: "OutputState") -> tuple[ShardWork, ...]:
    return tuple(work for shard in corpus.shards if (work := state.work_of(shard)).features)


def _selected(output: str, corpus: Corpus, state: "OutputState", selection: Selection) -> tuple[ShardWork, ...]:
    """Work on what is selected and nothing else."""
    found = []
    for shard in corpus.shards:
        work = state.work_of(shard)
        retried = _retried(output, work, selection) if shard.name in state.failures and selection.takes_failures_of(shard.name) else []
        as_listed = work.listed and work.unchanged  # else the shard can only be published with all that it lacks
        missing = work.features if selection.takes_missing_of(shard.name) or (retried and not as_listed) else ()
        again = {f for f in state.features if f not in work.features and any(explains(row, f) for row in retried)}
        features = tuple(feature for feature in state.features if feature in missing or feature in again)
        found.append(replace(work, features=features, retried=frozenset(map(attempt_of, retried))))
    return tuple(work for work in found if work.features)


def _retried(output: str, work: ShardWork, selection: Selection) -> list[dict[str, object]]:
    return [row for row in published_failures(output, work) if selection.takes(row, work.shard.name)]


def state_of(config: RunConfig, corpus: Corpus, published: Published, labels: Mapping[str, str]) -> "OutputState":
    """What the output holds of a corpus.

    Args:
        config: the run.
        corpus: its shards are the ones asked about.
        published: footers of the run's features, `clips` first.
        labels: what each shard's `clips` are to be joined with, as `tasks.labels.labels_etag`.
    """
    clips = next(iter(published.values()))
    failures = shards_in(config.output, FAILURES_FOLDER)
    listed = sorted(shard.name for shard in corpus.shards if shard.name in failures and shard.name in clips)
    explanations = footers_of(config.output, FAILURES_FOLDER, listed)
    return OutputState(tuple(published), published, failures, explanations, labels, _astray(config.output, corpus, published))


def _astray(output: str, corpus: Corpus, published: Published) -> frozenset[tuple[Feature, str]]:
    """Shards whose media is not what its rows say: one listing per shard and recipe, of shards that a run has published before."""
    clips = next(iter(published.values()))
    places = [(feature, shard.name) for feature in published if feature.table == "enhanced" for shard in corpus.shards if shard.name in clips]
    with ThreadPoolExecutor(FOOTER_THREADS) as pool:
        listed = pool.map(lambda place: listed_digest(output, *place), places)
        return frozenset(place for place, found in zip(places, listed, strict=True) if found != _media_of(published, *place))


def _media_of(published: Published, feature: Feature, shard: str) -> str:
    footer = published[feature].get(shard)
    return footer.media if footer else ""


@dataclass(frozen=True, slots=True)
class OutputState:
    """What the output holds, by feature and shard."""

    features: tuple[Feature, ...]
    published: Published
    failures: set[str]  # shards that have some
    explanations: Mapping[str, Footer]  # of the failures of shards that have clips
    labels: Mapping[str, str]
    astray: frozenset[tuple[Feature, str]]  # whose media is not what the footer says

    def work_of(self, shard: Shard) -> ShardWork:
        """What the shard lacks; no features where it lacks nothing."""
        clips = self.published[self.features[0]].get(shard.name)
        reusable = self._reusable(shard, clips)
        missing = tuple(feature for feature in self.features if not self._holds(feature, shard, clips))
        lost = any(footer.failed for feature in self.features if not feature.inputs and (footer := self.published[feature].get(shard.name)))
        behind = self._failures_are_behind(shard, clips)
        if behind or (lost and shard.name not in self.failures):
            missing = self.features
        explained = clips is not None and (not clips.failed or shard.name in self.failures) and not behind
        listed = "clips" in reusable and explained
        unchanged = clips is not None and clips.source_etag == shard.etag
        return ShardWork(shard, missing, reusable, listed=listed, unchanged=unchanged)

    def _holds(self, feature: Feature, shard: Shard, clips: Footer | None) -> bool:
        footer = self.published[feature].get(shard.name)
        if (feature, shard.name) in self.astray:
            return False
        if feature.table == "clips":
            wanted = (shard.etag, feature.version, self.labels[shard.name])
            return footer is not None and (footer.source_etag, footer.version, footer.labels_etag) == wanted
        if footer is None:
            return clips is not None and clips.source_etag == shard.etag and (not clips.rows or feature.folder in self._empty(shard))
        if clips is not None and feature.inputs and not self._fits_inputs(feature, footer, shard, clips):
            return False
        return footer.source_etag == shard.etag and not footer.omitted and (clips is None or not is_behind(footer, clips))

    def _fits_inputs(self, feature: Feature, footer: Footer, shard: Shard, clips: Footer) -> bool:
        """Whether the embeddings that a tagger reads lack as many rows as they did, and failures tell why tags are missing."""
        inputs = (self.published[other].get(shard.name) for other in self.features if other.folder in feature.inputs)
        lacking = sum(found.lacking if found else clips.planned for found in inputs)
        return footer.inputless == lacking and (not footer.failed or shard.name in self.failures)

    def _failures_are_behind(self, shard: Shard, clips: Footer | None) -> bool:
        """Whether a retry ended between the last two files of the shard."""
        failures = self.explanations.get(shard.name)
        return failures is not None and clips is not None and is_behind(failures, clips)

    def _empty(self, shard: Shard) -> tuple[str, ...]:
        failures = self.explanations.get(shard.name)
        return failures.empty if failures and failures.source_etag == shard.etag else ()

    def _begun(self, shard: Shard) -> tuple[str, ...]:
        failures = self.explanations.get(shard.name)
        return failures.begun if failures and failures.source_etag == shard.etag else ()

    def _reusable(self, shard: Shard, clips: Footer | None) -> frozenset[str]:
        """Folders whose rows hold clip by clip: `clips` cut the same way, others made from the same state as `clips`, or that tell it row by row."""
        pictured = {f.folder for f in self.features if f.table == "enhanced" and shard.name in self.published[f]}
        if clips is None or clips.version != self.features[0].version:
            return frozenset(pictured)
        same = (f for f in self.features[1:] if (footer := self.published[f].get(shard.name)) and footer.source_etag == clips.source_etag)
        return frozenset({"clips", *self._empty(shard), *pictured, *self._begun(shard), *(feature.folder for feature in same)})


def _refuse_what_nothing_makes(config: RunConfig, features: Sequence[Feature], work: Sequence[ShardWork]) -> None:
    """A tagger may read embeddings that the output holds and the run does not make, but then they are there of every shard."""
    made = RECORD_MODELS if config.source.kind is SourceKind.YOUTUBE8M else config.embed
    lacking = ((feature, item.shard) for item in work for feature in item.features if feature.table == "embeddings" and feature.model not in made)
    for feature, shard in lacking:
        reader = next(tags.model for tags in features if feature.folder in tags.inputs)
        fix = f"add {feature.model} to `embed`, or take {reader} out of `tag`"
        raise Problem(f"tag: {reader} reads {feature.label}, which {config.output} lacks of {shard.name} and this run does not make; {fix}")


def refuse_another_corpus(config: RunConfig, corpus: Corpus, published: Published) -> None:
    """Raise Problem where the output was made from another source."""
    found = (footer.corpus for shards in published.values() for footer in shards.values())
    other = next((identity for identity in found if identity != corpus.identity), None)
    if other:
        raise Problem(f"output {config.output}: holds another corpus ({other}), not {corpus.identity}; choose another output or correct source.uri")
