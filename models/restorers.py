"""The restoring networks that come with vidmill; their weights lie beside this file, with a card each.

Knows specs and nothing of torch, so a plan can name them without loading a network.
"""

from models.restorer_spec import RestorerSpec

DENOISER = RestorerSpec(
    name="denoise-v1",
    factory="models.denoiser:Denoiser",
    weights="package:models/trained/denoise-v1.safetensors",
    sha256="",
    licence="Apache-2.0",
    trained_on="not released yet",
    scale=1,
    ahead=2,
    state_channels=40,
    reach=112,
)
UPSCALER_X2 = RestorerSpec(
    name="upscale-x2-v1",
    factory="models.upscaler:Upscaler",
    weights="package:models/trained/upscale-x2-v1.safetensors",
    sha256="",
    licence="Apache-2.0",
    trained_on="not released yet",
    scale=2,
    reach=16,
)


def shipped() -> tuple[RestorerSpec, ...]:
    """All of them."""
    return DENOISER, UPSCALER_X2
