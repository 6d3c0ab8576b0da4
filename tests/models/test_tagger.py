"""A tagger's scores are probabilities that hang on its own sequence alone, see an order where they should, and come back from a file as they were."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from models.prediction import ModelError
from models.tagger import METADATA, Network, Tagger, TaggerInput, TaggerShape, network_of, padded, read_shape, scored, spread
from models.tagger_networks import Experts, masked_mean, places

pytestmark = pytest.mark.usefixtures("one_core")
CPU = torch.device("cpu")
NETWORKS = get_args(Network)
LABELS = ("cat", "dog", "owl")
INPUTS = (TaggerInput("eyes", 12), TaggerInput("ears", 4))


def shape(network: Network, **more: int) -> TaggerShape:
    return replace(TaggerShape(network, INPUTS, LABELS, hidden=8, clusters=3, layers=2, heads=2), **more)  # type: ignore[arg-type]


def saved(folder: Path, said: TaggerShape) -> Path:
    torch.manual_seed(3)
    path = folder / "tagger.safetensors"
    save_file(network_of(said).state_dict(), path, {METADATA: said.encoded()})
    return path


def sequences(lengths: list[int]) -> list[np.ndarray]:
    random = np.random.default_rng(lengths)
    return [random.normal(size=(length, 16)).astype(np.float32) for length in lengths]


@pytest.mark.parametrize("network", NETWORKS)
@settings(max_examples=10)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_scores_do_not_hang_on_the_batch(network: Network, lengths: list[int]) -> None:
    torch.manual_seed(3)
    made = network_of(shape(network)).eval()
    frames = sequences(lengths)
    together = scored(made, *padded(frames), device=CPU)
    alone = np.concatenate([scored(made, *padded([rows]), device=CPU) for rows in frames])
    assert together.shape == (len(frames), 3)
    assert together == pytest.approx(alone, abs=1e-5)
    assert ((together >= 0) & (together <= 1)).all()


@pytest.mark.parametrize("network", NETWORKS)
def test_only_lstm_and_transformer_see_an_order(network: Network, tmp_path: Path) -> None:
    tagger, (rows,) = Tagger(saved(tmp_path, shape(network))), sequences([6])
    forwards, backwards = tagger.scores([rows, rows[::-1].copy()])
    assert np.allclose(forwards, backwards, atol=1e-6) == (network in ("moe", "netvlad"))


@pytest.mark.parametrize("network", NETWORKS)
def test_a_tagger_comes_back_from_its_file(network: Network, tmp_path: Path) -> None:
    said = shape(network, frames=5)
    path = saved(tmp_path, said)
    assert read_shape(path) == said
    tagger, frames = Tagger(path), sequences([3, 11])
    torch.manual_seed(3)
    wanted = scored(network_of(said).eval(), *padded([frames[0], spread(frames[1], 5)]), device=CPU)
    found = tagger.scores(frames)
    assert found.dtype == np.float32
    assert np.array_equal(found, wanted)
    assert tagger.scores([]).shape == (0, 3)


def test_the_mean_alone_gets_the_scores_of_its_frames(tmp_path: Path) -> None:
    """A video-level shard and the frame-level one of the same videos are tagged alike."""
    tagger, (rows,) = Tagger(saved(tmp_path, shape("moe"))), sequences([7])
    assert tagger.scores([rows]) == pytest.approx(tagger.scores([rows.mean(0, keepdims=True)]), abs=1e-6)


def test_a_batch_that_does_not_fit_is_halved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P7: the same scores, however little memory there is."""
    tagger, frames = Tagger(saved(tmp_path, shape("moe"))), sequences([3, 4, 2, 6, 1])
    wanted = tagger.scores(frames)
    forward, room, asked = type(tagger.network).forward, 2, []

    def tight(self: object, given: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        asked.append(len(given))
        if len(given) > room:
            raise torch.OutOfMemoryError("made up")
        return forward(self, given, mask)  # type: ignore[arg-type]

    monkeypatch.setattr(type(tagger.network), "forward", tight)
    assert tagger.scores(frames) == pytest.approx(wanted, abs=1e-6)
    assert asked == [5, 2, 3, 1, 2]
    room = 0
    with pytest.raises(ModelError, match="3 frames do not fit"):
        tagger.scores(frames[:1])


def test_a_mixture_is_the_sum_of_gates_times_experts() -> None:
    torch.manual_seed(1)
    head, values = Experts(5, labels=2, experts=3), torch.randn(4, 5)
    gates = head.gates(values).view(4, 2, 4).softmax(-1)[..., :3]
    wanted = (gates * head.experts(values).view(4, 2, 3).sigmoid()).sum(-1)
    assert torch.allclose(head(values).sigmoid(), wanted, atol=1e-6)
    far = head(values * 1e4)
    assert far.isfinite().all()


def test_a_masked_mean_leaves_out_the_padding_whatever_is_in_it() -> None:
    values = torch.tensor([[[1.0], [3.0], [float("inf")]]])
    assert masked_mean(values, torch.tensor([[True, True, False]])).tolist() == [[2.0]]


def test_no_two_places_are_alike() -> None:
    found = places(300, 8, CPU)
    assert found.shape == (300, 8)
    assert len(np.unique(found.numpy().round(4), axis=0)) == 300


@given(st.integers(1, 400), st.integers(1, 60))
def test_a_long_sequence_is_thinned_evenly(length: int, most: int) -> None:
    found = spread(np.arange(length)[:, None], most)[:, 0]
    assert len(found) == min(length, most)
    gaps = np.diff(found)
    assert not len(gaps) or (gaps.min() >= 1 and gaps.max() - gaps.min() <= 1)
    assert found[0] == 0


@pytest.mark.parametrize("frames", [np.zeros((0, 16), np.float32), np.zeros((3, 15), np.float32), np.zeros(16, np.float32)])
def test_frames_of_another_shape_are_refused(frames: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"takes frames \[T, 16\], T at least 1, and was given"):
        Tagger(saved(tmp_path, shape("moe"))).scores([frames])


def test_what_is_no_tagger_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no weights")
    save_file({"a": torch.ones(1)}, tmp_path / "other")
    save_file({"a": torch.ones(1)}, tmp_path / "liar", {METADATA: shape("moe").encoded()})
    save_file({"a": torch.ones(1)}, tmp_path / "newer", {METADATA: shape("moe").encoded().replace('"moe"', '"mamba"')})
    for name, words in (("gone", "cannot be read"), ("text", "cannot be read"), ("other", "vidmill.tagger"), ("newer", "'mamba'; there are moe,")):
        with pytest.raises(ModelError, match=words) as caught:
            read_shape(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert "vidmill train tagger" in str(caught.value)
    with pytest.raises(ModelError, match="not those of the network it names"):
        Tagger(tmp_path / "liar")


@pytest.mark.parametrize("wrong", [{"hidden": 9}, {"heads": 3}, {"layers": 0}, {"frames": 0}])
def test_sizes_that_make_no_network_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"hidden|empty"):
        shape("transformer", **wrong)
