"""Features: the tables a run writes, and the version that names every value in them.

    clips/                                     what the corpus holds
    embeddings/model=<name>/version=<v>/       one row per clip
    tags/model=<name>/version=<v>/
    enhanced/recipe=<name>/version=<v>/        one row per clip, pointing at a file below media/

Knows specs, recipes and settings; opens nothing.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from itertools import count
from typing import Literal

from infra.settings import RunConfig, SourceKind
from models.catalog import resolve
from models.recipe import Recipe, recipe_of
from models.spec import ModelSpec

Table = Literal["clips", "embeddings", "tags", "enhanced"]

# Raised by hand when the code that makes a table's values changes them.
STAGE_VERSION: dict[Table, int] = {"clips": 1, "embeddings": 1, "tags": 1, "enhanced": 1}
MAKER: dict[Table, str] = {"embeddings": "model", "tags": "model", "enhanced": "recipe"}  # what the first partition of a table is called

RECORD_MODELS = {"yt8m-inception3": "rgb", "yt8m-vggish": "audio"}  # whose embeddings YouTube-8M's records bring, and what they call them

_NUMBER = re.compile(r"\d+(e\d+)?[df]?")  # what java.lang.Double.parseDouble accepts of hex digits


@dataclass(frozen=True, slots=True)
class Feature:
    """One table of one model or recipe over all clips; `clips` has none."""

    table: Table
    model: str | None  # or the recipe's name
    version: str

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
    """Specs of every model the run asks for, each once, in the order first named."""
    for name in config.tag:
        resolve(name, config.models, task="tag")
    for name in config.embed:
        resolve(name, config.models, task="embed")
    return tuple(resolve(name, config.models) for name in dict.fromkeys([*config.embed, *config.tag]))


def features_of(config: RunConfig) -> tuple[Feature, ...]:
    """The tables this configuration asks for: `clips` first, then one per model and task."""
    clips = Feature("clips", None, version_of(parts=["clips", STAGE_VERSION["clips"], _cut(config)]))
    if config.source.kind is SourceKind.YOUTUBE8M:
        return (clips, *(Feature("embeddings", name, version_of(parts=["embeddings", STAGE_VERSION["embeddings"], name])) for name in RECORD_MODELS))
    embeddings = tuple(_model_feature("embeddings", name, config) for name in dict.fromkeys(config.embed))
    tags = tuple(_model_feature("tags", name, config) for name in dict.fromkeys(config.tag))
    return (clips, *embeddings, *tags, *(_enhanced(recipe, config) for recipe in recipes_of(config)))


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
