"""A spec's network: built by its factory, filled with verified weights, made fast.

Knows factories, state dicts and torch and nothing of frames or batches.
"""

import importlib
import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from infra.problem import Problem
from models.fuse import folded, onednn
from models.spec import NetworkSpec
from models.weights import fetch, load_state

SAME = 0.99999  # cosine below which a rewritten network is not the same
log = logging.getLogger(__name__)


def build(spec: NetworkSpec) -> nn.Module:
    """The network in eval mode on the CPU, with its weights; strictly, so no parameter is ever left random.

    Raises:
        Problem: weights, factory or their fit are wrong.
    """
    state = load_state(fetch(spec.weights, spec.sha256))
    network = _made(spec)
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:300]
        raise Problem(f"model {spec.name}: {spec.weights} does not fit {spec.factory}: {detail}; correct weights or factory under models") from error
    return network.eval().requires_grad_(False)


def _made(spec: NetworkSpec) -> nn.Module:
    try:
        network = _factory(spec)()
    except Problem:
        raise
    except Exception as error:
        raise Problem(f"model {spec.name}: factory {spec.factory} failed: {type(error).__name__}: {error}; correct it") from error
    if not isinstance(network, nn.Module):
        raise Problem(f"model {spec.name}: factory {spec.factory} returned {type(network).__name__}; it must return a torch.nn.Module")
    return network


def _factory(spec: NetworkSpec) -> Callable[[], object]:
    module, _, name = spec.factory.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise Problem(f"model {spec.name}: factory {spec.factory}: cannot import {module}: {error}; install it or correct the factory") from error
    except AttributeError as error:
        raise Problem(f"model {spec.name}: factory {spec.factory}: {module} has no {name}; correct models[].factory") from error
    if not callable(found):
        raise Problem(f"model {spec.name}: factory {spec.factory} is a {type(found).__name__}; it must be a callable without arguments")
    result: Callable[[], object] = found
    return result


def fastest(network: nn.Module, *, crop: int, device: torch.device) -> nn.Module:
    """The network on its device in the fastest form that was checked to give the same values.

    The check runs on the CPU, where float32 is exact enough to tell a wrong form from a rounded one.

    Forms, best first: convolutions with batch norm and activation in one oneDNN call (CPU), batch norms folded, as it is.
    """
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch does not annotate it
    rewrites: tuple[Callable[[nn.Module], nn.Module], ...] = (lambda n: onednn(folded(n)), folded) if _has_onednn(device) else (folded,)
    probe = _probe(crop)
    with torch.inference_mode():
        expected = _tensors(_quietly(network, probe))
        for rewrite in rewrites if expected else ():
            candidate = _rewritten(network, rewrite)
            if candidate is not None and _same(_tensors(_quietly(candidate, probe)), expected):
                return candidate.to(device)
    return network.to(device)


def _has_onednn(device: torch.device) -> bool:
    return device.type == "cpu" and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


def _probe(crop: int) -> Tensor:
    """Two different frames of noise, the same in every process."""
    noise = torch.randn((2, 3, crop, crop), generator=torch.Generator().manual_seed(0))
    return noise.contiguous(memory_format=torch.channels_last)


def _rewritten(network: nn.Module, rewrite: Callable[[nn.Module], nn.Module]) -> nn.Module | None:
    try:
        return rewrite(network)
    except Exception as error:  # fx has no common error: whatever it cannot follow runs as it is
        log.info("network runs without rewriting: %s: %s", type(error).__name__, error)
        return None


def _quietly(network: nn.Module, probe: Tensor) -> object:
    """The result, or None where the network fails on the probe: the first real batch will say why."""
    try:
        result: object = network(probe)
    except Exception as error:
        log.info("network failed on noise: %s: %s", type(error).__name__, error)
        return None
    return result


def _tensors(result: object) -> list[Tensor]:
    parts = result if isinstance(result, tuple) else (result,)
    return [part for part in parts if isinstance(part, Tensor)]


def _same(found: list[Tensor], expected: list[Tensor]) -> bool:
    if [part.shape for part in found] != [part.shape for part in expected]:
        return False
    pairs = zip(found, expected, strict=True)
    return all(bool((torch.cosine_similarity(a.flatten().double(), b.flatten().double(), dim=0) > SAME).item()) for a, b in pairs)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16; a CPU without it only pretends to, slowly."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
