"""What a run is asked to do: one typed model, filled from a YAML file, from flags, or in Python.

Knows the names, defaults and limits of every setting and nothing of where they come from.
"""

import re
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticKnownError


def _no_truth(value: Any) -> Any:
    """`fps: yes` is a slip, not 1."""
    if isinstance(value, bool):
        raise PydanticKnownError("float_type")
    return value


def no_credentials(address: str) -> str:
    """Addresses are shown, logged, recorded and handed to Prefect; what is secret has no place in them."""
    scheme, _, rest = address.partition("://")
    if "@" in rest.partition("/")[0] or (scheme == "s3" and re.match(r"(?!arn:)[^/]*:", rest)):
        fix = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write a credentials file"
        raise ValueError(f"an address with credentials in it, user or password, is refused; leave them out and {fix}")
    return address


Address = Annotated[str, AfterValidator(no_credentials)]
Real = Annotated[float, BeforeValidator(_no_truth)]
Whole = Annotated[int, BeforeValidator(_no_truth)]
PositiveReal = Annotated[Real, Field(gt=0)]
PositiveWhole = Annotated[Whole, Field(gt=0)]


class Settings(BaseModel):
    """Base of every section: unknown fields are errors, numbers are finite, values never change after validation.

    The JSON schema is what Prefect makes a form of: fields are called as in a file, one that may be left empty is its type alone (beside a null
    the form would ask for the type first; Prefect takes a null for it all the same), `unasked` ones are left out.
    """

    unasked: ClassVar[tuple[str, ...]] = ()

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core_schema)
        fields = handler.resolve_ref_schema(schema)["properties"]
        for name in cls.unasked:
            fields.pop(name)
        for name, field in fields.items():
            fields[name] = _without_null(field) | {"title": name}
        return schema


def _without_null(field: JsonSchemaValue) -> JsonSchemaValue:
    kinds = [kind for kind in field.get("anyOf", ()) if kind.get("type") != "null"]
    if len(kinds) != 1:
        return field
    return {name: value for name, value in field.items() if name not in ("anyOf", "default")} | dict(kinds[0])


class SourceKind(StrEnum):
    """How a corpus is laid out."""

    KINETICS = "kinetics"
    WEBDATASET = "webdataset"
    FILES = "files"
    MANIFEST = "manifest"
    YOUTUBE8M = "youtube8m"


class Deleted(StrEnum):
    """What becomes of the rows of archives and videos that the source lists no more."""

    KEEP = "keep"
    DROP = "drop"


class SourceConfig(Settings):
    """Where the corpus is."""

    kind: SourceKind = Field(
        description="kinetics | webdataset (tar archives), files (loose videos), manifest (a CSV or Parquet list of videos), youtube8m (TFRecords)"
    )
    uri: Address = Field(description="path or s3:// address; archives and files take a glob, a folder or one file", min_length=1)
    annotations: Address | None = Field(None, description="kinetics: CSV with label,youtube_id,time_start,time_end,split")
    replacements: Address | None = Field(None, description="kinetics: archive whose members replace those of the same name")
    vocabulary: Address | None = Field(None, description="youtube8m: vocabulary.csv, which names the labels")
    recursive: bool = Field(True, description="files: look into sub-folders")
    shard_files: PositiveWhole = Field(64, description="files, manifest: how many videos form one shard")
    deleted: Deleted = Field(
        Deleted.KEEP,
        description="keep | drop: rows, failures and restored videos of archives and videos that the source lists no more; "
        "what a changed archive has no more goes with it",
    )
    allow: Annotated[list[str], AfterValidator(lambda roots: [no_credentials(root) for root in roots])] = Field(
        [],
        description="files, manifest: folders or s3:// prefixes that videos must lie in, links followed; none allows a manifest "
        "any s3:// address and this machine's files in its own folder",
    )


class DecodeConfig(Settings):
    """Which frames are looked at."""

    fps: PositiveReal = Field(1.0, description="frames per second looked at, from the clip's first frame")
    clip_s: PositiveReal = Field(10.0, description="files, manifest: seconds per clip of a longer video")


class LimitsConfig(Settings):
    """What one input may cost before it becomes a failure, and how many may fail."""

    max_failed: Annotated[Real, Field(ge=0)] = Field(
        0.1, description="failures allowed: below 1 a share of the clips (of at least 100), else a count; more stop the run with exit 1"
    )
    max_deleted: Annotated[Real, Field(ge=0, le=1)] = Field(
        0.5, description="source.deleted: drop: share of the published archives or videos that one run may drop; more stop it before it drops any"
    )
    max_pixels: PositiveWhole = Field(33_177_600, description="pixels of one frame (default 7680x4320)")
    max_frames: PositiveWhole = Field(10_000, description="frames looked at in one clip")
    max_duration_s: PositiveReal = Field(86_400.0, description="seconds of one video")
    max_bytes: PositiveWhole = Field(512 << 20, description="bytes of one archive member, or of one video's part that a clip needs")
    max_memory_bytes: PositiveWhole = Field(2 << 30, description="bytes of memory that decoding one clip may take")
    clip_timeout_s: PositiveReal = Field(300.0, description="seconds of decoding one clip")


class ClusterCode(StrEnum):
    """How the code gets to the nodes of an existing cluster."""

    IMAGE = "image"
    UPLOAD = "upload"


class ClusterConfig(Settings):
    """Where the work runs."""

    address: Address | None = Field(
        None,
        description="Ray cluster to use: HOST:6379 or auto on one of its machines, http://HOST:8265 for `vidmill submit`; none starts one here",
    )
    code: ClusterCode = Field(
        ClusterCode.IMAGE,
        description="existing cluster: image (its nodes have vidmill and the modules of `factory` installed) or upload (both are sent from here)",
    )
    cpus: PositiveWhole | None = Field(None, description="CPU cores to use of this machine; all by default")
    gpus: Annotated[Whole, Field(ge=0)] | None = Field(
        None, description="GPUs to use, of an existing cluster also those still to come; all there are by default, 0 for none"
    )
    insecure: bool = Field(False, description="join a Ray cluster on another machine though token authentication is off (RAY_AUTH_MODE)")


class UserModel(Settings):
    """A model of the user's own, named in `embed` or `tag` like a built-in one."""

    name: str = Field(
        description="a name of letters, digits and . _ -, for `embed`, `tag` and the output",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
    )
    tagger: Address | None = Field(
        None, description="for `tag`: path, file:, s3: or https: address of a trained tagger, which runs over stored embeddings"
    )
    factory: str | None = Field(
        None,
        description='"package.module:callable", whose callable returns a torch.nn.Module; a trained tagger has none',
        pattern=r"^[\w.]+:\w+$",
        validate_default=True,
    )
    weights: Address | None = Field(
        None, description="package:NAME/FILE, file:, s3: or https: address of safetensors or pth weights", validate_default=True
    )
    sha256: str | None = Field(
        None,
        description="64 hex digits in lower case, as sha256sum prints for the weights file; a tagger on this machine needs none",
        pattern=r"^[0-9a-f]{64}$",
        validate_default=True,
    )
    task: list[str] = Field(["embed"], description="embed, tag or both: what the module's forward returns")
    labels: str | None = Field(None, description="tag: file with one label a line")
    resize: PositiveWhole = Field(256, description="pixels of the shorter side after resizing")
    crop: PositiveWhole = Field(224, description="pixels of the centre crop's side")
    mean: tuple[Real, Real, Real] = Field((123.675, 116.28, 103.53), description="RGB mean subtracted, 0..255")
    std: tuple[Real, Real, Real] = Field((58.395, 57.12, 57.375), description="RGB divisor, 0..255")
    licence: str = Field("unknown", description="licence of the weights")

    @field_validator("factory", "weights", "sha256")
    @classmethod
    def _needed_without_tagger(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("tagger", "") is None:
            raise PydanticKnownError("missing")
        return value

    @model_validator(mode="after")
    def _says_of_a_tagger_only_what_its_file_does_not(self) -> Self:
        for name in ("factory", "weights", "task", "labels", "resize", "crop", "mean", "std"):
            if self.tagger is not None and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} does not go with tagger, whose file says all of that; take {name} out")
        return self


class EnhanceConfig(Settings):
    """One recipe that restores every clip; a bare text is short for its recipe."""

    short: ClassVar[str] = "recipe"  # the field that a bare text gives

    recipe: Literal["denoise", "upscale-x2", "upscale-x4", "denoise+upscale-x2"] = Field(description="what is done to every clip")
    name: str = Field("", description="name in the output, the recipe's own by default", pattern=r"^([A-Za-z0-9][A-Za-z0-9._+-]*)?$")
    weights: Address | None = Field(
        None, description="checkpoint of your own for a recipe of one network: file:, s3: or https: (needs vidmill[restore])"
    )
    sha256: str | None = Field(None, description="64 hex digits of the checkpoint", pattern=r"^[0-9a-f]{64}$")
    codec: Literal["h264", "hevc", "av1"] = Field("h264", description="codec of the video written")
    crf: Annotated[Whole, Field(ge=0, le=63)] = Field(18, description="quality of the video written, lower is better")
    preset: str = Field("medium", description="speed of the encoder, in its own words", pattern=r"^[a-z0-9]+$")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {cls.short: value} if isinstance(value, str) else value

    @property
    def label(self) -> str:
        """Its name in the output."""
        return self.name or self.recipe


class RunConfig(Settings):
    """Everything one run needs to know."""

    name: str = Field("vidmill", description="name of the run in reports and in Prefect", min_length=1)
    source: SourceConfig
    output: Address = Field(description="folder or s3:// prefix that receives the Parquet files", min_length=1)
    decode: DecodeConfig = DecodeConfig()
    embed: list[str] = Field(["efficientnet-lite0"], description="models whose embeddings are written")
    tag: list[str] = Field([], description="models whose tags are written")
    enhance: list[EnhanceConfig] = Field([], description="recipes whose restored videos are written: denoise, upscale-x2, denoise+upscale-x2, ...")
    frame_embeddings: bool = Field(False, description="also write one float16 embedding per frame")
    models: list[UserModel] = Field([], description="models of your own")
    limits: LimitsConfig = LimitsConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not self.embed and not self.tag and not self.enhance and self.source.kind is not SourceKind.YOUTUBE8M:
            raise ValueError("embed, tag and enhance are all empty; name a model in one of the first two (`vidmill models` lists them), or a recipe")
        return self

    @model_validator(mode="before")
    @classmethod
    def _embeds_nothing_of_records(cls, values: Any) -> Any:
        """A record brings its embeddings; `embed` says so, also in the record of a run, which a retry reads."""
        source = values.get("source") if isinstance(values, dict) else None
        kind = source.get("kind") if isinstance(source, dict) else getattr(source, "kind", None)
        return {"embed": [], **values} if kind == SourceKind.YOUTUBE8M else values

    @model_validator(mode="after")
    def _asks_no_video_of_records(self) -> Self:
        """A record holds features, not pictures."""
        asked = [name for name in ("embed", "enhance") if getattr(self, name)]
        if self.source.kind is SourceKind.YOUTUBE8M and asked:
            raise ValueError(f"{asked[0]}: youtube8m records hold features and no video; leave {asked[0]} out")
        return self

    @model_validator(mode="after")
    def _names_recipes_once(self) -> Self:
        """A failure tells its stage by this name alone."""
        taken = {"read", "decode", *self.embed, *self.tag}
        for recipe in self.enhance:
            if recipe.label in taken:
                raise ValueError(
                    f"enhance: the name {recipe.label} is taken by a stage, a model or another recipe; give this one a `name` of its own"
                )
            taken.add(recipe.label)
        return self


class RestorationConfig(RunConfig):
    """What one run of recipes alone needs to know."""

    unasked = ("embed", "tag", "frame_embeddings", "models")

    embed: list[str] = []
    enhance: list[EnhanceConfig] = Field(description="recipes whose restored videos are written", min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _of_a_run(cls, values: Any) -> Any:
        """A run's features are left for another one."""
        return {**dict(values), "embed": [], "tag": []} if isinstance(values, RunConfig) else values


class RecordSource(SourceConfig):
    """Where the records of YouTube-8M are."""

    unasked = ("kind", "annotations", "replacements", "recursive", "shard_files", "allow")

    kind: Literal[SourceKind.YOUTUBE8M] = SourceKind.YOUTUBE8M
    uri: Address = Field(description="TFRecord shards: path or s3:// address, with a glob, of a folder or of one file", min_length=1)
    vocabulary: Address | None = Field(None, description="vocabulary.csv, which names the labels")


class RecordsConfig(RunConfig):
    """What one run over the records of YouTube-8M needs to know."""

    unasked = ("embed", "enhance", "frame_embeddings", "decode")

    source: RecordSource
    embed: list[str] = []
    tag: list[str] = Field([], description="trained taggers, by their names in `models`, whose tags are written")
