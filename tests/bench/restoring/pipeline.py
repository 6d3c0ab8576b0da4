"""How fast a whole video is restored, from its bytes to the bytes of the new one, and how long the network waits for its frames meanwhile.

    file -> decoder process -> networks -> encoder process -> file          the whole way
            the same pictures, from memory -> networks                       alone: what the networks need by themselves

The share of waiting is what the whole way takes longer than the networks alone.
"""

import io
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import torch

from infra.settings import EnhanceConfig, LimitsConfig
from models.picture import Picture, PictureFormat
from models.quality import Meter
from models.recipe import Recipe, recipe_of
from models.restoration import Restoration
from models.restorers import DENOISER, UPSCALER_X2
from tasks.clip import Window
from tasks.encoding import Encoding
from tasks.enhance import Enhanced, Enhancer
from tests.bench.restoring.clips import video
from tests.bench.restoring.contenders import DENOISE, Contenders
from tests.bench.restoring.vidmill import with_weights

RECIPES = {DENOISE: "denoise", "upscale": "upscale-x2"}  # task -> recipe
ON_CPU, ON_GPU = ("bikes.mp4", Window(6, 8)), ("bigbuckbunny.mp4", None)  # 640x272; 1280x720


@dataclass(frozen=True, slots=True)
class Pipeline:
    """One recipe on one video."""

    recipe: str
    device: str
    width: int  # of the source
    height: int
    frames: int
    fps: float  # the whole way
    alone_fps: float

    @property
    def waiting(self) -> float:
        """The share of time in which the networks have nothing to do."""
        return max(0.0, 1 - self.fps / self.alone_fps)


@dataclass(slots=True)
class _Kept:
    """A restoration that keeps the pictures it was given."""

    restoration: Restoration
    form: PictureFormat | None = None
    pictures: list[Picture] = field(default_factory=list)

    @property
    def gpu_s(self) -> float:
        return self.restoration.gpu_s

    def output_format(self, form: PictureFormat) -> PictureFormat:
        self.form = form
        return self.restoration.output_format(form)

    def restore(self, pictures: Iterable[Picture], form: PictureFormat) -> Iterator[tuple[Picture, Picture]]:
        for source, restored in self.restoration.restore(pictures, form):
            self.pictures.append(source)
            yield source, restored


def pipelines(contenders: Contenders, tasks: Iterable[str], device: torch.device) -> list[Pipeline]:
    """vidmill's recipes, each on the same video."""
    file, window = ON_GPU if device.type == "cuda" else ON_CPU
    return [measured(_recipe(RECIPES[task], contenders), video(file).read_bytes(), window, device) for task in tasks]


def _recipe(name: str, contenders: Contenders) -> Recipe:
    recipe = recipe_of(EnhanceConfig.model_validate({"recipe": name}))
    files = {DENOISER.name: contenders.denoiser, UPSCALER_X2.name: contenders.upscaler}
    return replace(recipe, restorers=tuple(with_weights(spec, files[spec.name]) for spec in recipe.restorers))


def measured(recipe: Recipe, data: bytes, window: Window | None, device: torch.device) -> Pipeline:
    """Once to warm up, once the whole way, once alone."""
    kept, enhancer = _Kept(Restoration(recipe, str(device))), Enhancer(LimitsConfig())
    _enhanced(enhancer, kept, recipe, data, window)
    found = _enhanced(enhancer, kept.restoration, recipe, data, window)
    assert kept.form is not None
    began_s = time.perf_counter()
    frames = sum(1 for _ in kept.restoration.restore(kept.pictures, kept.form))
    alone_s = time.perf_counter() - began_s
    return Pipeline(recipe.name, device.type, kept.form.width, kept.form.height, frames, frames / found.elapsed_s, frames / alone_s)


def _enhanced(enhancer: Enhancer, restoration: _Kept | Restoration, recipe: Recipe, data: bytes, window: Window | None) -> Enhanced[object]:
    encoding = Encoding(recipe.codec, recipe.crf, recipe.preset)
    return enhancer.enhance(io.BytesIO(data), window=window, restoration=restoration, encoding=encoding, meter=Meter, sink=io.BytesIO())
