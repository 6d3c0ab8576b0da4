"""A Python of its own with TensorFlow and Ray, for the bench alone: made once, in the cache, never mixed with vidmill's packages.

    python -m venv  ->  pip install tensorflow-cpu tensorflow-metadata ray[data]  ->  CACHE/tensorflow/bin/python

At fixed versions; the CPU build brings no CUDA.
"""

import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "vidmill-bench" / "tensorflow"
PACKAGES = ("tensorflow-cpu==2.21.0", "tensorflow-metadata==1.21.0", f"ray[data]=={metadata.version('ray')}", f"pandas=={metadata.version('pandas')}")


class Unavailable(Exception):
    """The packages cannot be had; one line that says what pip said."""


def interpreter() -> Path:
    """The Python that has TensorFlow.

    Raises:
        Unavailable: pip cannot install it.
    """
    python, ready = CACHE / "bin/python", CACHE / "ready.txt"
    if not ready.exists() or ready.read_text(encoding="utf-8") != "\n".join(PACKAGES):
        shutil.rmtree(CACHE, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", CACHE], check=True)
        _install(python)
        ready.write_text("\n".join(PACKAGES), encoding="utf-8")
    return python


def _install(python: Path) -> None:
    command = [python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *PACKAGES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()[-1:]
        raise Unavailable(f"{', '.join(PACKAGES)}: {'; '.join(said)}")
