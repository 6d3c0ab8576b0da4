"""The code that the workers of an existing cluster run: how it gets there, and whether a node has it.

    image     installed on every node, like the modules that `factory` names
    upload    this process's own travels with the work, and so do those modules

Knows packages and Ray's runtime environments; knows nothing of what the code does.
"""

import hashlib
import importlib
import json
import os
import shutil
import sysconfig
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from infra.problem import Problem
from infra.settings import ClusterCode

PACKAGES = ("flows", "tasks", "models", "infra")
OF_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # what a Ray Job was submitted with, for its driver


@cache
def digest() -> str:
    """8 hex digits of the Python sources of the four packages."""
    found = hashlib.sha256()
    for package in PACKAGES:
        root = location(package)
        for path in sorted(root.rglob("*.py")):
            found.update(f"{package}/{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()[:8]


def environment(code: ClusterCode, own: Sequence[str], folder: Path) -> dict[str, Any]:
    """The Ray runtime environment of workers that run this code.

    Args:
        code: whether it is there.
        own: modules of the user's that the work needs; those installed as packages are not sent.
        folder: a copy of it becomes the current folder of the workers, on their path behind the packages. Without one Ray puts the driver's
            first, where packages of the same name may lie.

    Raises:
        Problem: a module is not to be found.
    """
    chosen: dict[str, Any] = {"working_dir": str(folder)}
    if code is ClusterCode.UPLOAD:
        theirs = [path for name in dict.fromkeys(name.partition(".")[0] for name in own) if not _is_installed(path := location(name))]
        for module in theirs:
            if module.is_file():  # Ray's job client takes folders only
                shutil.copy(module, folder)
        packages = dict.fromkeys([*map(location, PACKAGES), *theirs])
        chosen["py_modules"] = [str(package) for package in packages if package.is_dir()]
    return chosen


def lacking(wanted: dict[str, Any]) -> dict[str, Any]:
    """What of a runtime environment the Ray Job around this process does not bring."""
    brought = json.loads(os.environ.get(OF_JOB, "{}")).get("runtime_env", {})
    return {name: value for name, value in wanted.items() if name not in brought}


def location(name: str) -> Path:
    """Folder of a package, file of a module.

    Raises:
        Problem: there is none, or it is in several places.
    """
    try:
        spec = find_spec(name)
    except ImportError:
        spec = None
    folders = list(spec.submodule_search_locations or []) if spec else []
    if spec is None or len(folders) > 1 or not (folders or spec.origin):
        raise Problem(f"models: factory: the module {name} is not to be found in one place; run vidmill where it lies, or install it")
    return Path(folders[0] if folders else str(spec.origin))


def report(modules: Sequence[str]) -> tuple[str, str]:
    """On a node: the digest of the code it has, and which module cannot be imported and why, or nothing."""
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # a user's module may raise anything
            return digest(), f"{name}: {type(error).__name__}: {error}"
    return digest(), ""


def _is_installed(path: Path) -> bool:
    return any(path.is_relative_to(sysconfig.get_path(kind)) for kind in ("purelib", "platlib", "stdlib"))
