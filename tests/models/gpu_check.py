"""What only a GPU can show; run by hand where there is one, as pytest elsewhere has none.

    python tests/models/gpu_check.py LITE0.pth MOBILENET.pth

Needs torch, numpy and pillow. Exits 1 where half precision strays from the CPU (cosine at most 0.999), where the batch does not halve
when memory runs out, or where the halved batch gives other values. Prints frames per second by precision and batch size.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.catalog import resolve
from models.network import build, fastest
from models.predictor import Predictor
from models.prepare import prepare
from models.spec import ModelSpec

SAME = 0.999
SIDE = 224
BATCHES = (1, 8, 32, 64, 128, 256, 512, 1024)
HALVES = (("float32", None), ("float16", torch.float16), ("bfloat16", torch.bfloat16))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lite0", type=Path, help="efficientnet-lite0-57934424.pth")
    parser.add_argument("mobilenet", type=Path, help="mobilenet_v2-b0353104.pth")
    paths = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}")
    specs = [_at("efficientnet-lite0", paths.lite0), _at("mobilenet-v2", paths.mobilenet)]
    good = [check(spec) for spec in specs for check in (like_the_cpu, halves)]
    for spec in specs:
        forms_speed(spec)
        predictor_speed(spec)
    print("all good" if all(good) else "FAILED")
    return 0 if all(good) else 1


def _at(name: str, path: Path) -> ModelSpec:
    return replace(resolve(name), weights=f"file:{path.resolve()}")


def pictures(count: int) -> np.ndarray:
    """uint8 [count, 224, 224, 3]: textures from coarse to fine with a gradient, as plain noise looks the same to any network."""
    random = np.random.default_rng(0)
    ramp = np.linspace(0, 120, 320)[None, :, None]
    coarse = (random.integers(0, 136, (2 + i % 40, 3 + i % 40, 3)) for i in range(count))
    return np.stack([prepare((_grown(tile) + ramp).astype(np.uint8), resolve("mobilenet-v2").input.geometry) for tile in coarse])


def _grown(tile: np.ndarray) -> np.ndarray:
    rows, columns = (np.linspace(0, size - 1, grown).astype(int) for size, grown in zip(tile.shape, (280, 320), strict=False))
    return tile[rows][:, columns]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def like_the_cpu(spec: ModelSpec) -> bool:
    """Half precision gives the CPU's embeddings."""
    frames = pictures(64)
    expected = Predictor(spec, device="cpu").predict(frames)
    outcomes = [_like(spec, name, half, frames, expected.embedding) for name, half in HALVES]
    return all(outcomes)


def _like(spec: ModelSpec, name: str, half: torch.dtype | None, frames: np.ndarray, expected: np.ndarray) -> bool:
    started = time.perf_counter()
    predictor = Predictor(spec, device="cuda", half=half)
    ready_s = time.perf_counter() - started
    found = predictor.predict(frames)
    worst = cosine(found.embedding, expected)
    print(f"{spec.name} {name}: ready in {ready_s:.2f} s, worst cosine to the CPU {worst:.6f}, used {predictor.half}")
    return worst > SAME and predictor.half == half


def halves(spec: ModelSpec) -> bool:
    """With the memory capped far below what the batch needs, the batch halves and the values stay."""
    frames = pictures(512)
    expected = Predictor(spec, device="cuda", batch_size=16).predict(frames)
    needed = _needed_bytes(spec, batch_size=512)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + needed / 3) / total)
    try:
        predictor = Predictor(spec, device="cuda", batch_size=512)
        found = predictor.predict(frames)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    worst = cosine(found.embedding, expected.embedding)
    print(f"{spec.name}: {needed >> 20} MiB wanted, a third given: batch 512 became {predictor.batch_size}, worst cosine {worst:.6f}")
    return predictor.batch_size < 512 and worst > SAME


def _needed_bytes(spec: ModelSpec, *, batch_size: int) -> int:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    Predictor(spec, device="cuda", batch_size=batch_size)
    return torch.cuda.max_memory_reserved()


def forms_speed(spec: ModelSpec) -> None:
    """Frames per second of the network alone, input already on the device."""
    plain = build(spec).cuda()
    fast = fastest(build(spec), crop=SIDE, device=torch.device("cuda"))
    for name, network, half, layout in _forms(plain, fast):
        speeds = [_frames_per_s(network, half, layout, batch) for batch in BATCHES]
        print(f"{spec.name} network {name}: " + ", ".join(f"{batch}: {speed:,.0f}/s" for batch, speed in zip(BATCHES, speeds, strict=True)))


def _forms(plain: torch.nn.Module, fast: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module, torch.dtype | None, torch.memory_format]]:
    yield "eager float32", plain, None, torch.contiguous_format
    for name, half in HALVES:
        yield f"folded channels_last {name}", fast, half, torch.channels_last


def _frames_per_s(network: torch.nn.Module, half: torch.dtype | None, layout: torch.memory_format, batch: int) -> float:
    x = torch.randn(batch, 3, SIDE, SIDE, device="cuda").contiguous(memory_format=layout)

    def forward() -> None:
        with torch.inference_mode(), torch.autocast("cuda", dtype=half, enabled=half is not None):
            network(x)

    return batch / _median_s(forward)


def _median_s(action: Callable[[], None], *, rounds: int = 7) -> float:
    for _ in range(3):
        action()
    seconds = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        started = time.perf_counter()
        action()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def predictor_speed(spec: ModelSpec) -> None:
    """Frames per second from uint8 in main memory to float32 in main memory."""
    frames = pictures(64).repeat(32, axis=0)
    for name, half in HALVES:
        speeds = [(batch, len(frames) / _predict_s(spec, half, batch, frames)) for batch in BATCHES if batch >= 64]
        print(f"{spec.name} predictor {name}: " + ", ".join(f"{batch}: {speed:,.0f}/s" for batch, speed in speeds))


def _predict_s(spec: ModelSpec, half: torch.dtype | None, batch: int, frames: np.ndarray) -> float:
    predictor = Predictor(spec, device="cuda", half=half, batch_size=batch)
    return _median_s(lambda: predictor.predict(frames) and None, rounds=3)


if __name__ == "__main__":
    sys.exit(main())
