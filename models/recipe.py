"""What is done to every clip: networks one after the other, and how the result is encoded.

    denoise              denoiser
    upscale-x2           upscaler
    upscale-x4           upscaler, upscaler          or one checkpoint of the user's
    denoise+upscale-x2   denoiser, upscaler

Knows specs and nothing of torch, so a plan can name versions without loading a network.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

from infra.problem import Problem
from models import weights
from models.address import absolute
from models.own_restorer_check import check_installed
from models.restorer_spec import BY_ITS_WEIGHTS, RestorerSpec
from models.restorers import DENOISER, UPSCALER_X2

if TYPE_CHECKING:
    from infra.settings import EnhanceConfig

RESTORATION = 1  # raised by hand whenever colour, tiles, restorer or restoration give other pictures for the same weights

NETWORKS: dict[str, tuple[RestorerSpec, ...]] = {
    "denoise": (DENOISER,),
    "upscale-x2": (UPSCALER_X2,),
    "upscale-x4": (UPSCALER_X2, UPSCALER_X2),
    "denoise+upscale-x2": (DENOISER, UPSCALER_X2),
}
OWN_SCALE = {"denoise": 1, "upscale-x2": 2, "upscale-x4": 4}
