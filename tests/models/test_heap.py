"""Large blocks stay in the process: what was freed is taken again without a page being cleared anew."""

import platform
import subprocess
import sys

import pytest

CODE = """
import resource, threading, torch
from models.heap import keep_large_blocks
torch.set_num_threads(1)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(32 << 20, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def settled():
    return [faults() for _ in range(10)][-1]
def in_a_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(settled()))
    thread.start(), thread.join()
    return found[0]
print(settled(), keep_large_blocks(), settled(), in_a_thread())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_large_blocks_are_kept_in_every_thread():
    told = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout.split()
    assert told[1] == "True"
    before, after, in_a_thread = int(told[0]), int(told[2]), int(told[3])
    assert before > 5 * 8000  # pages of 4 kB
    assert max(after, in_a_thread) < 1000


PIECES = """
import resource
from models.heap import keep_pieces
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        b"x" * (2 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(keep_pieces(), faults() and faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_pieces_of_some_megabytes_are_used_again():
    told = subprocess.run([sys.executable, "-c", PIECES], capture_output=True, text=True, check=True).stdout.split()
    assert told[0] == "True"
    assert int(told[1]) < 500  # pages of 4 kB; of 25,000
