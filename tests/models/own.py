"""A user's entry in the configuration, with weights that a user would have saved."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from infra.settings import UserModel
from tests.models import user_networks


def own_model(folder: Path, factory: str = "Embedder", **more: Any) -> UserModel:
    """An entry for a network of user_networks.py; its weights are saved in `folder`."""
    torch.manual_seed(7)
    made = getattr(user_networks, factory, None)
    network = made() if isinstance(made, type) else user_networks.Embedder()
    file = folder / f"{factory}.safetensors"
    save_file(network.state_dict(), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    fields = {
        "name": "mine",
        "factory": f"tests.models.user_networks:{factory}",
        "weights": f"file:{file}",
        "sha256": digest,
        "resize": 40,
        "crop": 32,
    }
    return UserModel(**{**fields, **more})
