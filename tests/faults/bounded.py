"""Reads and decodes archives in a process of its own that may not take more memory than it is told to.

python -m tests.faults.bounded KIND LIMIT_BYTES ARCHIVE...     one JSON line per archive: [[key, kind or null], ...]
"""

import json
import os
import resource
import sys

from models.spec import Geometry
from tasks.infer import decode
from tasks.isolate import Decoder
from tasks.read import ShardReader
from tasks.source import list_corpus
from tests.corpus import config_for
from tests.tasks.shards import work_of

MAX_BYTES, MAX_MEMORY_BYTES = 64 << 20, 128 << 20


def main(kind: str, limit_bytes: str, *paths: str) -> None:
    """Read every archive; a refused allocation ends the process as it would end a worker."""
    hold(int(limit_bytes))
    for path in paths:
        config = config_for({"kind": kind, "uri": path}, "/nowhere", limits={"max_bytes": MAX_BYTES, "max_memory_bytes": MAX_MEMORY_BYTES})
        (shard,) = list_corpus(config, {}).shards
        decoder, clips = Decoder(config.limits), ShardReader(work_of(shard), config)
        found = [decode(encoded, decoder, (Geometry(32, 32),), fps=1) for encoded in clips]
        print(json.dumps([[each.clip.key, each.failure and str(each.failure.kind)] for each in found]), flush=True)


def hold(limit_bytes: int) -> None:
    """Allow so much more address space than is taken now."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        taken = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (taken + limit_bytes, taken + limit_bytes))


if __name__ == "__main__":
    main(*sys.argv[1:])
