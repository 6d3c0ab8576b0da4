"""Features: the tables a run writes, and the version that names every value in them.

    clips/                                     what the corpus holds
    embeddings/model=<name>/version=<v>/       one row per clip
    tags/model=<name>/version=<v>/
    enhanced/recipe=<name>/version=<v>/        one row per clip, pointing at a file below media/

Tags of a trained tagger are made from embeddings tables and name them. Knows specs, recipes and settings, and of an output which versions it holds.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal

from infra import storage
from infra.problem import Problem
from infra.settings import RunConfig, SourceKind
from models.catalog import resolve, trained
from models.recipe import Recipe, recipe_of
from models.spec import ModelSpec
from models.tagger_spec import TaggerSpec, tagger_spec

Table = Literal["clips", "embeddings", "tags", "enhanced"]

# Raised by hand when the code that makes a table's values changes them.
STAGE_VERSION: dict[Table, int] = {"clips": 1, "embeddings": 1, "tags": 1, "enhanced": 1}
MAKER: dict[Table, str] = {"embeddings": "model", "tags": "model", "enhanced": "recipe"}  # what the first partition of a table is called

SOURCE_STAGES = ("read", "decode")  # a failure here leaves every feature without a row
RECORD_MODELS = {"yt8m-inception3": "rgb", "yt8m-vggish": "audio"}  # whose embeddings YouTube-8M's records bring, and what they call them

_NUMBER = re.compile(r"\d+(e\d+)?[df]?")  # what java.lang.Double.parseDouble accepts of hex digits


@dataclass(frozen=True, slots=True)
class Feature:
    """One table of one model or recipe over all clips; `clips` has none."""

    table: Table
    model: str | None  # or the recipe's name
    version: str
    inputs: tuple[str, ...] = ()  # folders of the embeddings that a trained tagger reads; nothing else is made from published tables

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))  # a list where it comes out of a run's record

    @property
    def makers(self) -> frozenset[str | None]:
        """The models without whose rows there is none of this table."""
        return frozenset({self.model, *map(maker_in, self.inputs)})

    @property
    def folder(self) -> str:
        """Folder under the output, hive-partitioned."""
        return self.table if self.model is None else f"{self.table}/{self.partitions}"

    @property
    def partitions(self) -> str:
        """The part of the folder that names model or recipe and version."""
        return f"{MAKER[self.table]}={self.model}/version={self.version}"

    @property
    def label(self) -> str:
        """Name for people: `clips`, `embeddings efficientnet-lite0@1a2b3c4d`."""
        return self.table if self.model is None else f"{self.table} {self.model}@{self.version}"


def version_of(*, parts: object) -> str:
    """First 8 hex digits of the SHA-256 of `parts` as canonical JSON.

    Readers guess types of hive partitions, so digits only would come back as an integer, and 12345e67 or 1234567d as a float in Spark;
    such a hash is drawn again.
    """
    text = json.dumps(parts, sort_keys=True, default=str)
    digests = (hashlib.sha256(f"{text}{n or ''}".encode()).hexdigest()[:8] for n in count())
    return next(digest for digest in digests if not _NUMBER.fullmatch(digest))


def model_specs(config: RunConfig) -> tuple[ModelSpec, ...]:
    """Specs of every model that looks at frames, each once, in the order first named."""
    tagging = _tagging(config)
    for name in tagging:
        resolve(name, config.models, task="tag")
    for name in config.embed:
        resolve(name, config.models, task="embed")
    return tuple(resolve(name, config.models) for name in dict.fromkeys([*config.embed, *tagging]))


def tagger_specs(config: RunConfig) -> tuple[TaggerSpec, ...]:
    """Specs of every trained tagger the run asks for, in the order first named."""
    found = tuple(map(tagger_spec, trained(config.tag, config.models)))
    if taken := sorted({spec.name for spec in found} & {*SOURCE_STAGES, *RECORD_MODELS}):
        raise Problem(f"models: the name {taken[0]} belongs to vidmill itself; give the tagger another name")
    return found


def features_of(config: RunConfig) -> tuple[Feature, ...]:
    """The tables this configuration asks for, and the embeddings that its taggers read: `clips` first, then one per model and task.

    Raises:
        Problem: a model is not usable, or nothing makes or holds the embeddings that a tagger reads.
    """
    clips = Feature("clips", None, version_of(parts=["clips", STAGE_VERSION["clips"], _cut(config)]))
    taggers, embeddings = tagger_specs(config), _embeddings(config)
    embeddings |= {name: _stored(name, spec, config) for spec in taggers for name in spec.inputs if name not in embeddings}
    tags = (_model_feature("tags", name, config) for name in _tagging(config))
    stored_tags = (_stored_tags(spec, [embeddings[name] for name in spec.inputs]) for spec in taggers)
    return (clips, *embeddings.values(), *tags, *stored_tags, *(_enhanced(recipe, config) for recipe in recipes_of(config)))


def _tagging(config: RunConfig) -> tuple[str, ...]:
    """Models of `tag` that look at frames."""
    names = dict.fromkeys(config.tag)
    looking = tuple(names.keys() - {entry.name for entry in trained(config.tag, config.models)})
    if looking and config.source.kind is SourceKind.YOUTUBE8M:
        raise Problem(f"tag: {min(looking)}: youtube8m records hold no frames to look at; name a trained tagger, an entry of models with `tagger`")
    return tuple(name for name in names if name in looking)


def _embeddings(config: RunConfig) -> dict[str, Feature]:
    """The embeddings that the run makes, by model."""
    if config.source.kind is SourceKind.YOUTUBE8M:
        return {name: Feature("embeddings", name, version_of(parts=["embeddings", STAGE_VERSION["embeddings"], name])) for name in RECORD_MODELS}
    return {name: _model_feature("embeddings", name, config) for name in dict.fromkeys(config.embed)}


def _stored(name: str, tagger: TaggerSpec, config: RunConfig) -> Feature:
    """Embeddings that the output holds, and this run does not make."""
    held = sorted(folder.removeprefix("version=") for folder in storage.list_folders(f"{config.output.rstrip('/')}/embeddings/model={name}"))
    reads = f"tag: {tagger.name} reads embeddings of {name}, which this run does not make"
    if len(held) != 1:
        holds = f"{config.output} holds " + (f"in the versions {', '.join(held)}" if held else "not")
        fix = "run it over a source of kind youtube8m" if name in RECORD_MODELS else f"add {name} to `embed`"
        raise Problem(f"{reads} and {holds}; {fix}, or take {tagger.name} out of `tag`")
    return Feature("embeddings", name, held[0])


def _stored_tags(spec: TaggerSpec, inputs: Sequence[Feature]) -> Feature:
    folders = tuple(feature.folder for feature in inputs)
    return Feature("tags", spec.name, version_of(parts=["tags", STAGE_VERSION["tags"], spec.digest(), folders]), folders)


def recipes_of(config: RunConfig) -> tuple[Recipe, ...]:
    """The recipes that the run asks for, in the order named."""
    return tuple(map(recipe_of, config.enhance))


def maker_in(folder: str) -> str:
    """The model or recipe in a feature's folder; empty for `clips`."""
    return folder.partition("=")[2].partition("/")[0]


def _enhanced(recipe: Recipe, config: RunConfig) -> Feature:
    return Feature("enhanced", recipe.name, version_of(parts=["enhanced", STAGE_VERSION["enhanced"], recipe.digest(), _cut(config)]))


def _model_feature(table: Table, name: str, config: RunConfig) -> Feature:
    spec = resolve(name, config.models)
    options = {"frame_embeddings": config.frame_embeddings} if table == "embeddings" else {}
    parts = [table, STAGE_VERSION[table], spec.digest(), config.decode.fps, _cut(config), options]
    return Feature(table, name, version_of(parts=parts))


def _cut(config: RunConfig) -> float | None:
    """Seconds per clip where vidmill cuts clips itself; archives bring theirs cut."""
    loose = config.source.kind in (SourceKind.FILES, SourceKind.MANIFEST)
    return config.decode.clip_s if loose else None
