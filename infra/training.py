"""What a training is asked to do: one typed model, filled from a YAML file, from flags, or in Python.

Knows the names, defaults and limits of every setting and nothing of where they come from.
"""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from infra.settings import Address, ClusterConfig, PositiveReal, PositiveWhole, Real, Settings, Whole, no_credentials

SHARE = Field(ge=0, lt=1)


class RestorerTask(StrEnum):
    """What a restoring network is for."""

    DENOISE = "denoise"
    UPSCALE_X2 = "upscale-x2"


class RestorerConfig(Settings):
    """Everything the training of a restorer needs to know."""

    task: RestorerTask = Field(RestorerTask.UPSCALE_X2, description="what the network learns")
    corpus: Annotated[list[str], AfterValidator(lambda uris: [no_credentials(uri) for uri in uris])] = Field(
        [], description="folders, globs, files or s3:// prefixes of photographs and videos"
    )
    licences: Address | None = Field(None, description="YAML file of GLOB: LICENCE, by the end of a file's address, for the card")
    output: Address = Field("vidmill-restorer", description="folder or s3:// prefix that receives checkpoints, weights and card", min_length=1)
    quick: bool = Field(False, description="few steps, and the demo's videos where no corpus is named: minutes on a CPU")
    start: Address | None = Field(None, description="safetensors of an earlier training, whose weights this one begins with")
    steps: PositiveWhole | None = Field(None, description="steps of the optimiser; by the task")
    batch: PositiveWhole | None = Field(None, description="sequences in one step of one worker; by the task")
    side: Annotated[Whole, Field(ge=32, multiple_of=16)] | None = Field(None, description="pixels of a patch's side, a multiple of 16; by the task")
    stretch: PositiveWhole | None = Field(None, description="frames that one step learns from; by the task")
    rate: PositiveReal | None = Field(None, description="step size of the optimiser; by the task")
    fall: Annotated[Real, Field(gt=0, le=1)] = Field(1.0, description="share of the steps, at the end, in which the rate falls to zero")
    seed: Annotated[Whole, Field(ge=0, lt=1_000_000)] = Field(1, description="everything random follows from it")
    held_out: Annotated[Real, SHARE] = Field(0.1, description="share of the files that is never learned from and judges the result")
    workers: PositiveWhole | None = Field(None, description="processes that learn together; one per GPU, else one")
    threads: PositiveWhole | None = Field(None, description="CPU cores of each; all of the machine's, divided, by default")
    loaders: PositiveWhole | None = Field(None, description="threads of each that prepare batches; 1, or 4 beside a GPU")
    pool_bytes: PositiveWhole = Field(2 << 30, description="bytes of pictures that each worker holds; of a larger corpus it holds changing parts")
    checkpoint_s: PositiveReal = Field(120.0, description="seconds between checkpoints")
    cluster: ClusterConfig = ClusterConfig()


class TaggerNetwork(StrEnum):
    """How a tagger looks at the frames of a clip."""

    MOE = "moe"
    LSTM = "lstm"
    NETVLAD = "netvlad"
    TRANSFORMER = "transformer"


class TaggerConfig(Settings):
    """Everything the training of a tagger needs to know."""

    features: Address | None = Field(None, description="output of a `vidmill run`, whose embeddings and labels it learns from")
    output: Address = Field("vidmill-tagger", description="folder or s3:// prefix that receives checkpoints, weights and card", min_length=1)
    network: TaggerNetwork = Field(TaggerNetwork.MOE, description="moe (mean and mixture of experts), lstm, netvlad (gated), transformer")
    inputs: list[str] = Field([], description="models whose embeddings it reads, as MODEL or MODEL@VERSION; those of YouTube-8M, or the only one")
    labels: PositiveWhole = Field(3862, description="labels that it learns, the most frequent ones")
    held_out: Annotated[Real, SHARE] = Field(0.1, description="share of the videos that is never learned from and judges the result")
    held_out_split: str | None = Field(None, description="judge by the clips of this split instead, and learn from all others")
    frames: PositiveWhole = Field(300, description="most frames of one clip; of a longer one so many, evenly spread")
    steps: PositiveWhole = Field(5_000, description="steps of the optimiser")
    batch: PositiveWhole = Field(64, description="clips in one step of one worker")
    rate: PositiveReal = Field(1e-3, description="step size of the optimiser; falls to zero")
    seed: Annotated[Whole, Field(ge=0, lt=1_000_000)] = Field(1, description="everything random follows from it")
    hidden: PositiveWhole = Field(256, description="lstm, netvlad, transformer: numbers of an inner vector")
    experts: PositiveWhole = Field(2, description="experts for each label")
    clusters: PositiveWhole = Field(16, description="netvlad: clusters of frames")
    layers: PositiveWhole = Field(1, description="lstm, transformer: layers")
    heads: PositiveWhole = Field(4, description="transformer: heads of each layer; hidden is a multiple of them")
    workers: PositiveWhole | None = Field(None, description="processes that learn together; one per GPU, else one")
    threads: PositiveWhole | None = Field(None, description="CPU cores of each; all of the machine's, divided, by default")
    buffer_bytes: PositiveWhole = Field(1 << 30, description="bytes of features that each worker holds and draws its batches from")
    judged: PositiveWhole = Field(20_000, description="most held-out clips that judge the result")
    checkpoint_s: PositiveReal = Field(120.0, description="seconds between checkpoints")
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.network is TaggerNetwork.TRANSFORMER and (self.hidden % self.heads or self.hidden % 2):
            raise ValueError(f"hidden: {self.hidden} must be even, and a multiple of heads, {self.heads}")
        return self
