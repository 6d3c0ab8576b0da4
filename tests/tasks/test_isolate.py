"""A clip may do anything to the process that decodes it; its owner gets one failure, and the next clip its frames."""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from infra.problem import Problem
from infra.settings import LimitsConfig
from infra.storage import Cause, StorageError
from models.spec import Geometry
from tasks import child
from tasks.child import ATTEMPTS
from tasks.clip import ClipError, FailureKind, Window
from tasks.decode import open_clip, probe
from tasks.isolate import Decoder
from tests.corpus import bad_clips, clip
from tests.faults.hostile_media import endless, greedy
from tests.flows.program import until
from tests.media import Recipe, encode, moving_pictures
from tests.poison.clips import environment, poisoned

GEOMETRIES = (Geometry(64, 48), Geometry(32, 32))
HANGS_S = 2.0  # of CPU time; starting and decoding a small clip take half a second
LIMITS = LimitsConfig(clip_timeout_s=3, max_memory_bytes=256 << 20)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    """One decoder for all tests of this module; what one clip does to it the next one must not feel."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment().items():
            patch.setenv(name, value)
        yield Decoder(LIMITS)


def decode(decoder: Decoder, data: bytes, *, fps: float = 2, window: Window | None = None):
    return decoder.decode(io.BytesIO(data), fps=fps, window=window, geometries=GEOMETRIES)


def failure(decoder: Decoder, data: bytes) -> ClipError:
    with pytest.raises(ClipError) as caught:
        decode(decoder, data)
    return caught.value


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children() if _decodes(child)}


def _decodes(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and "tasks.decoder" in process.cmdline()
    except psutil.Error:
        return False  # it ended just now


@pytest.mark.parametrize("window", [None, Window(0.5, 1.5)])
def test_the_frames_are_those_of_a_decoder_in_this_process(decoder: Decoder, window: Window | None) -> None:
    found = decode(decoder, clip(1), window=window)
    with open_clip(io.BytesIO(clip(1)), fps=2, window=window, limits=LIMITS) as expected:
        frames = list(expected)
    assert found.info == expected.info
    assert found.time_s.tolist() == [frame.time_s for frame in frames]
    assert [square.shape for square in found.squares] == [(len(frames), side, side, 3) for side in (48, 32)]
    assert np.ptp(found.squares[0]) > 100


def test_a_probe_says_what_the_video_is(decoder: Decoder) -> None:
    assert decoder.probe(io.BytesIO(clip(1))) == probe(io.BytesIO(clip(1)), limits=LIMITS)


@pytest.mark.parametrize("kind", ["CORRUPT", "EMPTY", "NO_VIDEO", "TRUNCATED"])
def test_a_bad_clip_is_told_and_its_process_goes_on(decoder: Decoder, kind: str) -> None:
    decode(decoder, clip(1))
    before = children()
    assert failure(decoder, bad_clips()[kind]).kind == kind
    decode(decoder, clip(2))
    assert children() == before


ACTS = {
    "abort": (FailureKind.CRASH, ATTEMPTS, "the decoder died (SIGABRT) in each of 3 attempts"),
    "segfault": (FailureKind.CRASH, ATTEMPTS, "the decoder died (SIGSEGV) in each of 3 attempts"),
    "exit": (FailureKind.CRASH, ATTEMPTS, "the decoder died (exit code 7) in each of 3 attempts"),
    "raise": (FailureKind.CRASH, 1, "decoding failed: AttributeError: 'NoneType' object has no attribute 'never_seen'"),
    "hang": (FailureKind.TIMEOUT, 1, "decoding took over 3 s (raise it with --limits.clip-timeout-s)"),
    "pause": (FailureKind.TIMEOUT, 1, "decoding took over 3 s"),
    "eat": (FailureKind.TOO_LARGE, 1, "limits.max_memory_bytes is 268,435,456 (raise it with --limits.max-memory-bytes)"),
    "eat in C": (FailureKind.TOO_LARGE, 1, "limits.max_memory_bytes is 268,435,456"),
}


@pytest.mark.parametrize("act", ACTS)
def test_a_poisonous_clip_is_one_failure_and_the_next_clip_is_decoded(decoder: Decoder, act: str) -> None:
    """P6, P9: decoded in this process, the first three would end the test run itself."""
    told = failure(decoder, poisoned(clip(1), act))
    kind, attempts, message = ACTS[act]
    assert (told.kind, told.attempts) == (kind, attempts)
    assert message in told.message
    assert len(decode(decoder, clip(2)).time_s) == 4


def test_real_media_that_hold_libav_for_minutes_or_take_gigabytes_are_ended(decoder: Decoder) -> None:
    """P6, P9: both do it inside one call of libav, where no limit of ours is looked at."""
    assert failure(decoder, endless()).kind is FailureKind.TIMEOUT
    assert failure(decoder, greedy()).kind is FailureKind.TOO_LARGE
    assert len(decode(decoder, clip(2)).time_s) == 4


def test_memory_is_limited_for_real_media_too() -> None:
    """P9: a stream of large pictures is a bomb though each is within max_pixels."""
    bomb = encode([picture.reformat(3840, 2160) for picture in moving_pictures(3, 128, 128)], Recipe(codec="mpeg4"))
    assert failure(Decoder(LimitsConfig(max_memory_bytes=8 << 20)), bomb).kind is FailureKind.TOO_LARGE
    assert len(decode(Decoder(LimitsConfig()), bomb).time_s) == 1


def test_the_stores_time_is_not_the_clips(decoder: Decoder) -> None:
    """P8: a store that makes every read wait out a burst of 503 must not fill the failures with TIMEOUT."""

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() == 0:
                time.sleep(1.2 * LIMITS.clip_timeout_s)
            return super().read(size)

    found = decoder.decode(Slow(clip(1)), fps=1, window=None, geometries=GEOMETRIES)
    assert len(found.time_s) == 2


def test_a_store_in_trouble_is_not_the_clips_fault(decoder: Decoder) -> None:
    """P8: as a failure of the clip it would never be tried again."""

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise StorageError("s3://b/v.mp4", Cause.BUSY)

    with pytest.raises(StorageError, match="kept failing"):
        decoder.decode(Broken(clip(1)), fps=1, window=None, geometries=GEOMETRIES)
    assert len(decode(decoder, clip(2)).time_s) == 4


def test_who_kills_a_decoder_from_outside_costs_one_attempt() -> None:
    others = children()
    own = Decoder(LIMITS)
    decode(own, clip(1))
    (pid,) = children() - others
    os.kill(pid, signal.SIGKILL)
    assert len(decode(own, clip(2)).time_s) == 4
    assert pid not in children()


def test_a_decoder_killed_again_and_again_is_out_of_memory_not_crashed(decoder: Decoder) -> None:
    class Killing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            for pid in children():
                os.kill(pid, signal.SIGKILL)
            return super().read(size)

    with pytest.raises(ClipError, match=r"SIGKILL.*give the machine more memory") as caught:
        decoder.decode(Killing(clip(1)), fps=1, window=None, geometries=GEOMETRIES)
    assert (caught.value.kind, caught.value.attempts) == (FailureKind.OOM, ATTEMPTS)


def test_the_process_ends_with_its_owner() -> None:
    before = children()
    own = Decoder(LIMITS)
    decode(own, clip(1))
    assert len(children() - before) == 1
    del own
    assert children() <= before


OWNER = """
import io, sys
from infra.settings import LimitsConfig
from tasks.isolate import Decoder
Decoder(LimitsConfig()).decode(io.BytesIO(sys.stdin.buffer.read()), fps=1, window=None, geometries=())
"""


def test_a_hanging_process_ends_with_an_owner_that_is_killed() -> None:
    """P10: else it would burn a core for minutes after the run was stopped."""
    with subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, env=os.environ | environment()) as owner:
        assert owner.stdin is not None
        owner.stdin.write(poisoned(clip(1), "hang"))
        owner.stdin.close()
        started = psutil.Process(owner.pid)
        assert until(lambda: any(child.cpu_times().user > HANGS_S for child in started.children()), timeout_s=60)
        (hanging,) = started.children()
        owner.kill()
    assert psutil.wait_procs([hanging], timeout=10)[1] == []


def test_the_process_has_no_credentials_and_can_write_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """P12: what a decoder does not have, no video can take."""
    for name in ("AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN", "PREFECT_API_KEY"):
        monkeypatch.setenv(name, "secret-secret")
    others = children()
    own = Decoder(LIMITS)
    decode(own, clip(1))
    process = psutil.Process(*(children() - others))
    assert "secret-secret" not in process.environ().values()
    assert process.rlimit(psutil.RLIMIT_FSIZE)[0] == process.rlimit(psutil.RLIMIT_CORE)[0] == 0
    assert [file.path for file in process.open_files()] == []
    assert process.net_connections(kind="inet") == []


def test_a_decoder_that_cannot_start_is_a_problem_of_the_machine_not_of_the_clip(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """As CRASH it would make failures of a whole corpus."""
    (tmp_path / "sitecustomize.py").write_text("import os\nos._exit(3)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(Problem, match=r"does not start.*exit code 3.*doctor"):
        decode(Decoder(LIMITS), clip(1))


def test_an_answer_that_is_no_answer_is_a_crash(monkeypatch: pytest.MonkeyPatch, decoder: Decoder) -> None:
    def nonsense(_: object) -> object:
        raise ValueError("not JSON")

    monkeypatch.setattr(child, "receive", nonsense)
    told = failure(decoder, clip(1))
    assert (told.kind, told.attempts) == (FailureKind.CRASH, ATTEMPTS)
