"""Takes every protection out, one at a time, and watches its test fail: `python -m tests.faults.mutations [P8 ...] [tasks/isolate.py ...]`.

`protections.toml` names the promise, the text that protects it, what to put in its place, and the test. Works on a copy of the repository.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
LIST = Path(__file__).with_name("protections.toml")
TIMEOUT_S = 300  # a test that hangs without its protection has failed


@dataclass(frozen=True, slots=True)
class Protection:
    """One protection and the test that misses it."""

    promise: str  # P1 to P12 of DESIGN section 5
    file: str
    old: str  # once in the file
    new: str
    test: str  # pytest's name of it, or of all in which one must fail


def protections() -> list[Protection]:
    """All of them."""
    return [Protection(**fields) for fields in tomllib.loads(LIST.read_text(encoding="utf-8"))["protection"]]


def fails_without(protection: Protection, copy: Path) -> bool:
    """Whether the test fails in a copy of the repository whose protection is taken out."""
    path = copy / protection.file
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(protection.old, protection.new), encoding="utf-8")
    try:
        command = [sys.executable, "-m", "pytest", "-x", "-m", "nightly or not nightly", protection.test]
        done = subprocess.run(command, cwd=copy, env=os.environ | {"PYTHONPATH": str(copy)}, capture_output=True, timeout=TIMEOUT_S, check=False)
        return done.returncode == 1
    except subprocess.TimeoutExpired:
        return True
    finally:
        path.write_text(text, encoding="utf-8")


def check(wanted: set[str]) -> Iterator[Protection]:
    """Try the protections of the wanted promises or files, all by default; those that no test misses."""
    with tempfile.TemporaryDirectory(prefix="vidmill-mutations-") as folder:
        copy = Path(shutil.copytree(REPOSITORY, Path(folder) / "copy", ignore=shutil.ignore_patterns(".git", ".venv", "vidmill-demo")))
        for protection in protections():
            if wanted and not wanted & {protection.promise, protection.file}:
                continue
            failed = fails_without(protection, copy)
            place = " ".join(protection.old.split())[:60]
            print(f"{'fails' if failed else 'SURVIVES'}  {protection.promise:4}{protection.file}: {place}  {protection.test}", flush=True)
            if not failed:
                yield protection


if __name__ == "__main__":
    sys.exit(bool(list(check(set(sys.argv[1:])))))
