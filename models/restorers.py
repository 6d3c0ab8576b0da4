"""The restoring networks that come with vidmill; their weights lie beside this file, with a card each.

Knows specs and nothing of torch, so a plan can name them without loading a network.
"""

from models.restorer_spec import RestorerSpec

DENOISER = RestorerSpec(
    name="denoise-v1",
    factory="models.denoiser:Denoiser",
    weights="package:models/trained/denoise-v1.safetensors",
    sha256="815dd0cf06b3b782e32f13a971e23133dcd07543e04e294fb385d358348186c4",
    licence="Apache-2.0",
    trained_on="freely licensed photographs and video (its card)",
    scale=1,
    ahead=2,
    state_channels=40,
    reach=112,
)
UPSCALER_X2 = RestorerSpec(
    name="upscale-x2-v2",
    factory="models.upscaler:Upscaler",
    weights="package:models/trained/upscale-x2-v2.safetensors",
    sha256="179e7fce8560b8ffb8e0b5aff3b37b04d89c0303a39632aba636f297d1139a72",
    licence="Apache-2.0",
    trained_on="freely licensed photographs and video (its card)",
    scale=2,
    reach=16,
)


def shipped() -> tuple[RestorerSpec, ...]:
    """All of them."""
    return DENOISER, UPSCALER_X2
