"""Clips that do something to the process that decodes them, and the environment in which they do.

The media is real and plays everywhere; a mark in a box that players skip says what `sitecustomize.py` of this folder does when it meets it.
"""

import os
from pathlib import Path

MARK = b"vidmill poison "
FOLDER = Path(__file__).parent


def poisoned(data: bytes, act: str) -> bytes:
    """An mp4 that crashes, hangs or eats; for the acts see `sitecustomize.ACTS`."""
    body = (MARK + act.encode()).ljust(56)
    return data + (len(body) + 8).to_bytes(4, "big") + b"free" + body


def environment() -> dict[str, str]:
    """Variables with which decoder processes know the marks."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(FOLDER), os.environ.get("PYTHONPATH"))))}
