"""A published checkpoint of the user's (Real-ESRGAN, SwinIR, SCUNet, NAFNet, ...) as a network of ours; the library spandrel knows the architectures.

    safetensors, or pth with weights_only -> state dict -> spandrel finds the architecture by the parameters' names -> network

The file is read by models.weights and never by spandrel, so no pickle is ever executed. spandrel asks for torchvision, which two of its 42
architectures use (LaMa rotates, RestoreFormer normalises; neither restores whole frames): where there is none, those two are left without it.
Knows spandrel and state dicts and nothing of frames or tiles.
"""

import importlib
import importlib.util
import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, cast

from torch import Tensor, nn

from infra.problem import Problem
from models.restorer_spec import RestorerSpec, check_installed
from models.tiles import BLEND
from models.weights import fetch, load_state

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

REACH = 40  # pixels around a tile: what lies beyond changes a pixel of Real-ESRGAN's RRDBNet by half a code at most (measured by turning one over)
FAR_REACH = 56  # where spandrel discourages tiles: attention over windows
WHOLE = 1 << 20  # networks that look at the whole frame get the whole frame


class OwnRestorer(nn.Module):
    """The checkpoint's network, which takes and gives 0..1 only; what lies beyond is left as it is where the size stays."""

    def __init__(self, described: "ImageModelDescriptor[Any]") -> None:
        super().__init__()
        self.network = described.model
        self.described = described

    def forward(self, rgb: Tensor) -> Tensor:
        """float [1, 3, H, W] -> [1, 3, H * scale, W * scale]."""
        displayable = rgb.clamp(0, 1)
        restored = cast(Tensor, self.described(displayable))
        return rgb + (restored - displayable) if self.described.scale == 1 else restored


def detected(spec: RestorerSpec) -> tuple[OwnRestorer, int, int]:
    """The network of a checkpoint in eval mode on the CPU, pixels of halo it wants, and what tiles must be multiples of.

    Raises:
        Problem: not installed, not a checkpoint, of no known architecture, or not for this recipe.
    """
    check_installed(spec)
    state = load_state(fetch(spec.weights, spec.sha256))
    described = _described(spec, state)
    _check(spec, described)
    described.model.eval().requires_grad_(False)
    multiple = math.lcm(spec.stride, described.size_requirements.multiple_of)
    return OwnRestorer(described), _reach(described), multiple


def _described(spec: RestorerSpec, state: dict[str, Tensor]) -> "ImageModelDescriptor[Any]":
    with _without_torchvision():
        spandrel = importlib.import_module("spandrel")
    try:
        with warnings.catch_warnings(action="ignore"):  # some architectures call torch in ways it deprecates
            described = spandrel.ModelLoader(device="cpu").load_from_state_dict(spandrel.canonicalize_state_dict(state))
    except spandrel.UnsupportedModelError as error:
        raise Problem(f"recipe {spec.name}: {spec.weights} is of no architecture that spandrel {spandrel.__version__} knows; use another") from error
    except Exception as error:  # every architecture fails in its own way on parameters that do not fit
        cause = " ".join(str(error).split())[:200] or type(error).__name__
        raise Problem(f"recipe {spec.name}: {spec.weights} does not fit the architecture its names suggest: {cause}; use another") from error
    if not isinstance(described, spandrel.ImageModelDescriptor):
        raise Problem(f"recipe {spec.name}: {spec.weights} is {described.architecture.name}, which fills masked holes; use a denoiser or an upscaler")
    return described


def _check(spec: RestorerSpec, described: "ImageModelDescriptor[Any]") -> None:
    what = f"recipe {spec.name}: {spec.weights} is {described.architecture.name}"
    if described.purpose == "FaceSR":
        raise Problem(f"{what}, which restores faces only; use a denoiser or an upscaler")
    if (described.input_channels, described.output_channels) != (3, 3):
        raise Problem(f"{what} of {described.input_channels} channels in and {described.output_channels} out; use one for RGB, 3 and 3")
    if described.scale != spec.scale:
        fits = {1: "denoise", 2: "upscale-x2", 4: "upscale-x4"}.get(described.scale)
        fix = f"use it with recipe {fits}" if fits else "no recipe has that scale, use another"
        raise Problem(f"{what} of scale {described.scale}, the recipe wants scale {spec.scale}; {fix}")


def _reach(described: "ImageModelDescriptor[Any]") -> int:
    tiling = described.tiling.name
    return {"SUPPORTED": REACH, "DISCOURAGED": FAR_REACH}.get(tiling, WHOLE - BLEND)


@contextmanager
def _without_torchvision() -> Iterator[None]:
    """Let spandrel be imported where torchvision is not installed; nothing of it stays behind, so whoever looks for it still finds none."""
    if importlib.util.find_spec("torchvision") is not None:
        yield
        return
    functional = ModuleType("torchvision.transforms.functional")
    vars(functional).update(InterpolationMode=None, rotate=_missing, normalize=_missing)
    absent = {name: ModuleType(name) for name in ("torchvision", "torchvision.transforms")} | {functional.__name__: functional}
    sys.modules.update(absent)
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


def _missing(*_: object, **__: object) -> NoReturn:
    raise ImportError("this architecture needs torchvision, which is not installed")
