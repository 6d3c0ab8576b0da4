"""What a backfill is asked to do: one typed model, filled from flags, from a form, or in Python.

Everything it does not ask for, such as the source and how clips were cut, is as in the last run of its output. Knows the names, defaults and limits
of every setting and nothing of where they come from.
"""

from typing import Self

from pydantic import Field, model_validator

from infra.settings import Address, ClusterConfig, EnhanceConfig, LimitsConfig, Settings, UserModel


class BackfillConfig(Settings):
    """Everything a backfill needs to know."""

    output: Address = Field(description="folder or s3:// prefix of earlier runs, whose clips are backfilled", min_length=1)
    embed: list[str] = Field([], description="models whose embeddings are added")
    tag: list[str] = Field([], description="models whose tags are added")
    enhance: list[EnhanceConfig] = Field([], description="recipes whose restored videos are added: denoise, upscale-x2, ...")
    select: list[str] = Field(
        [],
        description='which clips: shard:part_7*, label:"juggling balls" or any other column of clips, missing: (shards that have no file yet); '
        "a comma means and, several mean or, values may be globs; all by default",
    )
    models: list[UserModel] = Field([], description="models of your own, beside those of the last run")
    limits: LimitsConfig = Field(LimitsConfig(), description="what one clip may cost; those of the last run, but for what is given")
    cluster: ClusterConfig = Field(ClusterConfig(), description="where the work runs; as the last run, but for what is given")

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not self.embed and not self.tag and not self.enhance:
            raise ValueError("embed, tag and enhance are all empty; name what is to be added (`vidmill models` lists models)")
        return self
