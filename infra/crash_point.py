"""Named places in the code where a test may kill the process, as a power cut would; without the test's variable nothing happens.

    VIDMILL_CRASH_POINT=<name>=<fuse>     dies at the place of that name, once: the file <fuse> is gone afterwards

The fuse has as many bytes as the place is passed before that.

Knows nothing of what is done at these places.
"""

import os
import signal
from contextlib import suppress
from enum import StrEnum

VARIABLE = "VIDMILL_CRASH_POINT"


class CrashPoint(StrEnum):
    """The edges of the protocol: between any two of them nothing is visible that was not before."""

    PARCEL = "parcel"  # a parcel was read, the rest of its shard was not
    READ = "read"  # a shard was read to its end, its roster is not written
    ROSTER = "roster"  # the roster is written
    STAGED = "staged"  # one feature's rows of a parcel are staged, the others' are not
    COMPLETE = "complete"  # all of a shard is staged, nothing published
    WRITTEN = "written"  # the bytes of a published file are where they must be, and not yet visible
    VISIBLE = "visible"  # a published file is visible
    MEDIA_STAGED = "media staged"  # the restored video of a clip is staged, its row is not
    MEDIA = "media"  # a restored video is in its place, its row is not
    NAMED = "named"  # the rows of a shard's restored videos are published, what none of them names is still there
    FAILURES = "failures"  # the failures of a shard are published, its rows are not
    FEATURE = "feature"  # one feature of a shard is published
    CLIPS = "clips"  # everything of a shard is published, its fragments are still there
    PRUNED = "pruned"  # one folder of an old version is deleted
    CLEARED = "cleared"  # its fragments are gone
    DROPPED = "dropped"  # one of the things that the output holds of a deleted input is gone


def crash_point(point: CrashPoint) -> None:
    """Die here if a test says so."""
    name, _, fuse = os.environ.get(VARIABLE, "").partition("=")
    if name == point:
        with suppress(FileNotFoundError):
            _burn(fuse)


def _burn(fuse: str) -> None:
    if left := os.stat(fuse).st_size:
        os.truncate(fuse, left - 1)
        return
    os.unlink(fuse)
    os.kill(os.getpid(), signal.SIGKILL)
