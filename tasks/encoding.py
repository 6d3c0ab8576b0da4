"""How restored pictures are to be encoded, and whether that can be asked for.

Knows the words and numbers of encoders and nothing of the encoders themselves.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

from infra.problem import Problem
from infra.settings import EnhanceConfig

Codec = Literal["h264", "hevc", "av1"]

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")
_HIGHEST_CRF: Mapping[Codec, int] = {"h264": 51, "hevc": 51, "av1": 63}
_SVT_PRESETS = tuple(str(number) for number in range(14))  # SVT-AV1's own words


@dataclass(frozen=True, slots=True)
class Encoding:
    """What is asked for."""

    codec: Codec
    crf: int
    preset: str

    @classmethod
    def of(cls, config: EnhanceConfig) -> Self:
        """What a recipe's entry in the configuration asks for."""
        return cls(config.codec, config.crf, config.preset)


def check_encoding(encoding: Encoding) -> None:
    """Raise `Problem` where the encoder would refuse what is asked."""
    highest = _HIGHEST_CRF[encoding.codec]
    if not 0 <= encoding.crf <= highest:
        raise Problem(f"enhance: crf {encoding.crf} is beyond what {encoding.codec} knows; choose 0 (best) to {highest}")
    known = PRESETS + (_SVT_PRESETS if encoding.codec == "av1" else ())
    if encoding.preset not in known:
        numbers = ", or SVT-AV1's 0 (best) to 13 (fastest)" if encoding.codec == "av1" else ""
        raise Problem(f"enhance: {encoding.codec} knows no preset {encoding.preset}; choose one of {', '.join(PRESETS)}{numbers}")
