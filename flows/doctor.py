"""The doctor: does this machine do what a run needs? Every check does the thing itself, on real data.

python, cpus, gpus   decode   models   recipes   ray   output   source
"""

import io
import os
import platform
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
import numpy as np
from rich.console import Console
from rich.text import Text

from flows.console import one_line
from flows.crash import cause_of, root_of
from infra import storage
from infra.cluster import ray_session
from infra.logs import quiet_to
from infra.problem import Problem
from infra.settings import ClusterConfig, EnhanceConfig, LimitsConfig, RunConfig, UserModel
from models import weights
from models.catalog import built_in, resolve, trained

SECONDS, RATE, SIDE = 2, 10, 64


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried."""

    name: str
    ok: bool
    found: str  # what was seen, or the cause and the fix


def examine(config: RunConfig | None) -> list[Check]:
    """Try everything a run needs; with a configuration, also its models, source and output."""
    return [_tried(name, check) for name, check in _checks(config)]


def print_examination(checks: Sequence[Check], console: Console) -> None:
    """One line per check."""
    for check in checks:
        verdict = ("ok     ", "") if check.ok else ("FAILED ", "red")
        console.print(Text.assemble(verdict, f"{check.name}: {one_line(check.found)}"), soft_wrap=True)
    console.print("next: vidmill demo" if all(check.ok for check in checks) else "next: mend what FAILED, then run vidmill doctor again")


def _checks(config: RunConfig | None) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "machine", _machine
    yield "decode", _decode
    taggers = trained(config.tag, config.models) if config else ()
    for name in dict.fromkeys([*config.embed, *config.tag]) if config else [built_in()[0].name]:
        if name not in {entry.name for entry in taggers}:
            yield f"model {name}", partial(_infer, name, config.models if config else [])
    for tagger in taggers:
        yield f"tagger {tagger.name}", partial(_tag, tagger)
    for entry in config.enhance if config else [EnhanceConfig(recipe="denoise+upscale-x2")]:
        yield f"recipe {entry.label}", partial(_restore, entry)
    yield "ray", lambda: _start_ray(config.cluster if config else ClusterConfig())
    if config:
        yield "source", lambda: _list(config)
        yield "output", lambda: _write(config.output)
    else:
        yield "disk", _write_here


def _tried(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except Exception as error:  # whatever it is, it is what the doctor was asked for
        root = root_of(error)
        return Check(name, False, str(root) if isinstance(root, Problem) else cause_of(root))


def _machine() -> str:
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return f"Python {platform.python_version()}, {os.cpu_count()} CPU cores, {', '.join(gpus) or 'no GPU (everything runs on the CPU)'}"


def _decode() -> str:
    from models.spec import Geometry
    from tasks.isolate import Decoder

    found = Decoder(LimitsConfig()).decode(io.BytesIO(_video()), fps=1.0, window=None, geometries=(Geometry(SIDE, SIDE),))
    frames = found.squares[0]
    if len(frames) != SECONDS or frames[0].mean() >= frames[1].mean():
        raise ValueError(f"an H.264 clip of {SECONDS} s gave {len(frames)} frames or wrong pixels; pip install --force-reinstall av")
    return f"PyAV {av.__version__} wrote an H.264 clip and a process of its own decoded it, {len(frames)} of {SECONDS * RATE} frames sampled"


def _video() -> bytes:
    """A clip that gets brighter."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as target:
        stream = target.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for index in range(SECONDS * RATE):
            pixels = np.full((SIDE, SIDE, 3), index * 10, np.uint8)
            target.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        target.mux(stream.encode(None))
    return buffer.getvalue()


def _infer(name: str, models: Sequence[UserModel]) -> str:
    from models.predictor import Predictor

    spec = resolve(name, models)
    predictor = Predictor(spec)
    side = spec.input.geometry.crop
    found = predictor.predict(np.full((1, side, side, 3), 127, np.uint8))
    size = 0 if found.embedding is None else found.embedding.shape[1]
    return f"weights verified, one frame on {predictor.device} gave {size} numbers and {len(spec.labels)} classes"


def _tag(entry: UserModel) -> str:
    from models.tagger import Tagger
    from models.tagger_spec import tagger_spec

    spec = tagger_spec(entry)
    tagger = Tagger(weights.fetch(spec.weights, spec.sha256))
    widths = [source.width for source in tagger.shape.inputs]
    found = tagger.scores([np.zeros((SECONDS, sum(widths)), np.float32)])
    return f"weights verified, {SECONDS} frames of {' + '.join(spec.inputs)} gave {found.shape[1]} scores on {tagger.device}"


def _restore(entry: EnhanceConfig) -> str:
    from tasks.enhance import Enhancer
    from tasks.restored import restorer_of

    found = restorer_of(entry, Enhancer(LimitsConfig())).enhance(io.BytesIO(_video()), window=None, sink=io.BytesIO())
    return f"weights verified, {found.frames} frames restored to {found.width}x{found.height}, written by {found.encoder}"


def _start_ray(cluster: ClusterConfig) -> str:
    with tempfile.TemporaryDirectory() as folder, quiet_to(Path(folder) / "ray.log"), ray_session(cluster) as found:
        return f"{found.cpus} CPUs and {found.gpus} GPUs"


def _list(config: RunConfig) -> str:
    from tasks.source import list_corpus

    corpus = list_corpus(config, {})
    return f"{corpus.identity}: {len(corpus.shards)} shards, {sum(shard.size_bytes for shard in corpus.shards):,} bytes"


def _write_here() -> str:
    with tempfile.TemporaryDirectory() as folder:
        return _write(folder)


def _write(output: str) -> str:
    uri, data = f"{output.rstrip('/')}/_wip/doctor-{uuid.uuid4().hex}", os.urandom(1 << 16)
    storage.write_bytes(uri, data)
    try:
        if storage.read_bytes(uri) != data:
            raise ValueError(f"{uri}: reads back as something else; this store cannot be trusted")
    finally:
        storage.delete(uri)
    if storage.exists(uri):
        raise ValueError(f"{uri}: is still there after it was deleted; check the store's permissions")
    return f"wrote, read back and deleted {len(data):,} bytes in {output}"
