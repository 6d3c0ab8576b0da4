"""Scores are PSNR on held-out files, the same each time; a network that does nothing gains nothing, and loses where it should win."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from infra.problem import Problem
from infra.training import RestorerTask
from models.denoiser import Denoiser
from tasks import scores
from tasks.scores import Score, denoised, psnr, scores_of
from tests.footage import listed, write_photographs

pytestmark = pytest.mark.usefixtures("one_core")


class Bicubic(nn.Module):
    """The baseline itself."""

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(1))

    def forward(self, rgb: Tensor) -> Tensor:
        return interpolate(rgb, scale_factor=2, mode="bicubic")


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "SEQUENCES", dict.fromkeys(RestorerTask, 3))
    monkeypatch.setattr(scores, "FRAMES", {RestorerTask.DENOISE: 3, RestorerTask.UPSCALE_X2: 1})
    monkeypatch.setattr(scores, "SIDE", dict.fromkeys(RestorerTask, 64))


def judged(task: RestorerTask, network: nn.Module, folder: Path, seed: int = 1) -> list[Score]:
    return scores_of(task, network, listed(folder), seed=seed, told=print)


def test_a_denoiser_that_does_nothing_gains_nothing(tmp_path: Path) -> None:
    write_photographs(tmp_path, 2)
    network = Denoiser()
    nn.init.zeros_(network.leave.weight)
    nn.init.zeros_(network.leave.bias)  # type: ignore[arg-type]
    found = judged(RestorerTask.DENOISE, network, tmp_path)
    assert [score.condition for score in found] == ["sigma 15", "sigma 25", "sigma 50", "sigma 25 in 4:2:0", "crf 38", "clean"]
    for score, expected in zip(found[:3], (24.6, 20.2, 14.6), strict=True):
        assert score.before_db == pytest.approx(expected, abs=0.8)  # 20 log10(255 / sigma), a little more by clipping
        assert score.after_db == pytest.approx(score.before_db)
        assert score.lost
    *_, squeezed, clean = found
    assert clean.before_db == clean.after_db == float("inf")
    assert not squeezed.lost
    assert judged(RestorerTask.DENOISE, network, tmp_path) == found
    assert judged(RestorerTask.DENOISE, network, tmp_path, seed=2) != found


def test_bicubic_is_as_good_as_bicubic(tmp_path: Path) -> None:
    write_photographs(tmp_path, 2)
    (score,) = judged(RestorerTask.UPSCALE_X2, Bicubic(), tmp_path)
    assert 15 < score.before_db < 45
    assert score.after_db == pytest.approx(score.before_db, abs=1e-4)
    assert score.lost


def test_a_whole_sequence_is_denoised_frame_by_frame_with_those_ahead() -> None:
    """What the network sees of the frames ahead, and its state, must be as in learning: a frame's own place, and the last one again at the end."""

    class Shows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.nothing = nn.Parameter(torch.zeros(1))

        def forward(self, frames: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            now, ahead, further = frames.unbind(1)
            return now + 10 * ahead + 100 * further + 1000 * state[:, :3].mean(), state + 1

    noisy = torch.arange(1.0, 5.0).view(4, 1, 1, 1).expand(4, 3, 8, 8)
    assert denoised(Shows(), noisy)[:, 0, 0, 0].tolist() == [321, 432 + 1000, 443 + 2000, 444 + 3000]


def test_psnr() -> None:
    assert psnr(torch.full((4,), 0.1), torch.zeros(4)) == pytest.approx(20)
    assert psnr(torch.ones(2), torch.ones(2)) == float("inf")


def test_held_out_files_of_no_use_are_a_problem(tmp_path: Path) -> None:
    write_photographs(tmp_path, 1, side=80)
    with pytest.raises(Problem, match="held-out files"):
        judged(RestorerTask.UPSCALE_X2, Bicubic(), tmp_path)
