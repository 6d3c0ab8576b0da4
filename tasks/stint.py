"""What the stages spent on a parcel, and which of them the others wait for.

    read   ##........##........      blocked: nobody fetches what it made     waits for decode
    decode ####################      always at work                           the slowest: waits for nothing
    infer  ####....####....####      idle: nothing comes                      waits for decode

Knows neither Ray nor what a stage does.
"""

from collections.abc import Mapping
from dataclasses import dataclass

AT_WORK = 0.7  # of its time: a stage that works as much waits for nobody


@dataclass(frozen=True, slots=True)
class Stint:
    """What one worker of a stage spent on one parcel."""

    stage: str
    busy_s: float
    idle_s: float  # before it: nothing came, or what was made before was not fetched


Way = tuple[Stint, ...]  # of a parcel, through the stages so far


def waits(busy: Mapping[str, float]) -> dict[str, str]:
    """Which stage each stage waits for, its neighbour on the way to the slowest; those that wait for none are left out.

    Args:
        busy: by stage, in the order of the pipeline, the share of their time that its workers work, 0..1.
    """
    stages = list(busy)
    slowest = stages.index(max(busy, key=lambda stage: busy[stage])) if stages else 0
    return {
        stage: stages[place + 1 if place < slowest else place - 1]
        for place, stage in enumerate(stages)
        if place != slowest and busy[stage] < AT_WORK
    }  # fmt: skip
