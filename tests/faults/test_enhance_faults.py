"""P6, P9, P12: a clip may do anything to the two processes that restore it; its owner gets one failure, and the next clip its video."""

import hashlib
import io
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.settings import LimitsConfig
from infra.storage import Cause, StorageError
from models.picture import Picture, PictureFormat
from tasks import enhance as owner
from tasks.child import ATTEMPTS
from tasks.clip import ClipError, FailureKind
from tasks.encoding import Encoding
from tasks.enhance import LONGEST_QUEUE, Enhanced, Enhancer, _ahead, _Behind
from tests.corpus import clip
from tests.faults.mutation import EDITS, RECIPES, Edit, mutated, video
from tests.film import Film, make, pictures
from tests.media import Recipe, encode, moving_pictures
from tests.poison.clips import environment, poisoned
from tests.tasks.restorations import Count, Doubled, Identity

QUICK = Encoding("h264", 30, "ultrafast")
LIMITS = LimitsConfig(clip_timeout_s=30, max_memory_bytes=256 << 20)  # enough on a busy machine
HURRIED = LimitsConfig(clip_timeout_s=2)
PATIENT = LimitsConfig(clip_timeout_s=4)  # of healthy clips whose wait must not count
FILM = Film(sound="aac", pts=tuple(range(60)))


@pytest.fixture(scope="module")
def enhancer() -> Iterator[Enhancer]:
    """One for all tests of this module: what one clip does to it the next one must not feel."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment().items():
            patch.setenv(name, value)
        yield Enhancer(LIMITS)


def run(enhancer: Enhancer, file: bytes | io.BytesIO, restoration: Identity | None = None, encoding: Encoding = QUICK) -> tuple[Enhanced[int], str]:
    file, sink = io.BytesIO(file) if isinstance(file, bytes) else file, io.BytesIO()
    found = enhancer.enhance(file, window=None, restoration=restoration or Identity(), encoding=encoding, meter=lambda a, b: Count(a, b), sink=sink)
    return found, hashlib.sha256(sink.getvalue()).hexdigest()


def failure(enhancer: Enhancer, data: bytes, restoration: Identity | None = None) -> ClipError:
    with pytest.raises(ClipError) as caught:
        run(enhancer, data, restoration)
    return caught.value


def processes(kind: str) -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if _is(child, kind)]


def _is(process: psutil.Process, kind: str) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and f"tasks.{kind}" in process.cmdline()
    except psutil.Error:
        return False  # it ended just now


def kill(kind: str) -> None:
    for process in processes(kind):
        os.kill(process.pid, signal.SIGKILL)


class Doing(Identity):
    """Does something when a picture passes."""

    def __init__(self, at: int, act: Callable[[], None], times: int = 1) -> None:
        self.at, self.act, self.left = at, act, times

    def restore(self, pictures: Iterable[Picture], form: PictureFormat) -> Iterator[tuple[Picture, Picture]]:
        for number, picture in enumerate(pictures):
            if number == self.at and self.left:
                self.left -= 1
                self.act()
            yield picture, picture


ACTS = {
    "abort": (FailureKind.CRASH, ATTEMPTS, "the decoder died (SIGABRT) in each of 3 attempts"),
    "exit": (FailureKind.CRASH, ATTEMPTS, "the decoder died (exit code 7) in each of 3 attempts"),
    "raise": (FailureKind.CRASH, 1, "decoding failed: AttributeError"),
    "hang": (FailureKind.TIMEOUT, 1, "decoding took over 2 s (raise it with --limits.clip-timeout-s)"),
    "eat": (FailureKind.TOO_LARGE, 1, "decoding needs more memory; limits.max_memory_bytes is 268,435,456"),
}


@pytest.mark.parametrize("act", ACTS)
def test_a_poisonous_clip_is_one_failure_and_the_next_clip_is_restored(enhancer: Enhancer, act: str) -> None:
    told = failure(Enhancer(HURRIED) if act == "hang" else enhancer, poisoned(clip(1), act))
    kind, attempts, message = ACTS[act]
    assert (told.kind, told.attempts) == (kind, attempts)
    assert message in told.message
    assert run(enhancer, make(FILM))[0].frames == 60


@pytest.mark.parametrize("name", RECIPES)
def test_every_container_and_codec_is_restored_picture_by_picture(enhancer: Enhancer, name: str) -> None:
    assert run(enhancer, video(name))[0].frames == 8


@pytest.mark.nightly
@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(name=st.sampled_from(list(RECIPES)), edits=st.lists(EDITS, min_size=1, max_size=3))
def test_a_wounded_clip_gives_a_whole_video_or_a_failure(enhancer: Enhancer, name: str, edits: list[Edit]) -> None:
    """P6, P11: never a video with fewer pictures than it says, never an end of the process."""
    sink = io.BytesIO()
    try:
        found = enhancer.enhance(
            io.BytesIO(mutated(video(name), edits)), window=None, restoration=Identity(), encoding=QUICK, meter=lambda a, b: Count(a, b), sink=sink
        )
    except ClipError as error:
        if error.kind in (FailureKind.CRASH, FailureKind.OOM, FailureKind.STORAGE):
            pytest.fail(error.message)
        return
    assert len(list(pictures(sink.getvalue()))) == found.frames


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_a_process_that_dies_once_costs_nothing_but_time(kind: str) -> None:
    """The second attempt begins at the clip's start and leaves nothing of the first in the file."""
    own = Enhancer(LIMITS)
    undisturbed = run(own, make(FILM), Doubled())[1]
    before = run(own, make(FILM))[1]
    killer = Doing(20, lambda: kill(kind))
    found, digest = run(own, make(FILM), killer)
    assert killer.left == 0
    assert (found.frames, found.quality, digest) == (60, 60, before)
    assert run(own, make(FILM), Doubled())[1] == undisturbed


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_a_process_killed_again_and_again_is_out_of_memory(kind: str) -> None:
    killer = Doing(20, lambda: kill(kind), times=99)
    told = failure(Enhancer(LIMITS), make(FILM), killer)
    assert (told.kind, told.attempts, killer.left) == (FailureKind.OOM, ATTEMPTS, 99 - ATTEMPTS)
    assert f"the {kind} died (SIGKILL)" in told.message


def test_what_the_network_raises_is_raised_and_leaves_no_process_at_work(enhancer: Enhancer) -> None:
    def fail() -> None:
        raise RuntimeError("CUDA error, as torch says it")

    before = threading.active_count()
    with pytest.raises(RuntimeError, match="as torch says it"):
        run(enhancer, make(FILM), Doing(20, fail))
    assert threading.active_count() <= before
    assert run(enhancer, make(FILM))[0].frames == 60


def test_an_error_does_not_wait_for_a_process_that_hangs(alarm: None) -> None:
    others = processes("decoder")  # of this module's other tests, which still need it

    def fail() -> None:
        for process in processes("decoder"):
            if process not in others:
                process.suspend()
        raise RuntimeError("CUDA error, as torch says it")

    with pytest.raises(RuntimeError, match="as torch says it"):
        run(Enhancer(LimitsConfig(clip_timeout_s=600)), make(FILM), Doing(2, fail))


def test_the_networks_time_is_not_the_clips() -> None:
    """A network that takes longer than clip_timeout_s over one picture makes no TIMEOUT of either process."""
    assert run(Enhancer(PATIENT), make(FILM), Doing(5, lambda: time.sleep(1.1 * PATIENT.clip_timeout_s)))[0].frames == 60


def test_the_stores_time_is_not_the_clips() -> None:
    class Slow(io.BytesIO):
        waits = 1

        def read(self, size: int | None = -1) -> bytes:
            if self.waits:
                self.waits -= 1
                time.sleep(1.1 * PATIENT.clip_timeout_s)
            return super().read(size)

    assert run(Enhancer(PATIENT), Slow(make(FILM)))[0].frames == 60


def test_a_store_in_trouble_is_not_the_clips_fault(enhancer: Enhancer) -> None:
    """P8: as a failure of the clip it would never be tried again. The second half of the file is the sound's and the last pictures'."""

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 0:
                raise StorageError("s3://b/v.mp4", Cause.BUSY)
            return super().read(size)

    large = encode(moving_pictures(60, 640, 480), Recipe(with_audio=True))
    with pytest.raises(StorageError, match="kept failing"):
        run(enhancer, Broken(large))
    assert run(enhancer, make(FILM))[0].frames == 60


def test_an_encoder_that_needs_more_memory_than_it_may_is_ended() -> None:
    """P9: the encoder looks ahead, so large pictures cost it hundreds of MB."""
    large = encode([picture.reformat(1920, 1080) for picture in moving_pictures(40, 128, 128)], Recipe(codec="mpeg4"))
    with pytest.raises(ClipError, match=r"encoding needs more memory; limits\.max_memory_bytes") as caught:
        run(Enhancer(LimitsConfig(max_memory_bytes=200 << 20)), large, Doubled(), Encoding("h264", 20, "medium"))
    assert caught.value.kind is FailureKind.TOO_LARGE


def test_neither_process_has_credentials_and_neither_can_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """P12: what they do not have no video can take."""
    for name in ("AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN", "PREFECT_API_KEY"):
        monkeypatch.setenv(name, "secret-secret")
    others = {process.pid for process in processes("decoder") + processes("encoder")}
    looked: list[str] = []

    def look() -> None:
        for process in processes("decoder") + processes("encoder"):
            if process.pid in others:
                continue
            assert "secret-secret" not in process.environ().values()
            assert process.rlimit(psutil.RLIMIT_FSIZE)[0] == process.rlimit(psutil.RLIMIT_CORE)[0] == 0
            assert [file.path for file in process.open_files()] == []
            assert process.net_connections(kind="inet") == []
            looked.append(process.cmdline()[3])

    run(Enhancer(LIMITS), make(FILM), Doing(30, look))
    assert looked == ["tasks.decoder", "tasks.encoder"]


def test_the_processes_end_with_their_owner() -> None:
    before = {process.pid for process in processes("decoder") + processes("encoder")}
    own = Enhancer(LIMITS)
    run(own, make(FILM))
    assert len({process.pid for process in processes("decoder") + processes("encoder")} - before) == 2
    del own
    assert {process.pid for process in processes("decoder") + processes("encoder")} <= before


def test_what_waits_is_bounded_on_both_sides_of_a_slow_network(enhancer: Enhancer, monkeypatch: pytest.MonkeyPatch) -> None:
    """P9: memory follows the queues, not the clip; without a bound the decoder would be done before the network has begun."""
    taken: list[int] = []

    def noting(decoder: object, job: object, file: object, kind: type = owner._Source) -> object:
        source = kind(decoder, job, file)
        take = source.next

        def next_noted() -> Picture | None:
            taken.append(1)
            return take()

        source.next = next_noted  # type: ignore[method-assign]
        return source

    monkeypatch.setattr(owner, "_Source", noting)
    ahead: list[int] = []

    class Slow(Identity):
        def restore(self, pictures: Iterable[Picture], form: PictureFormat) -> Iterator[tuple[Picture, Picture]]:
            for number, picture in enumerate(pictures):
                time.sleep(0.01)
                ahead.append(len(taken) - number)
                yield picture, picture

    run(enhancer, make(FILM), Slow())
    assert max(ahead) <= LONGEST_QUEUE + 2
    assert max(ahead) > 2, "decoding overlaps the network"


def test_pictures_are_taken_ahead_of_their_use_and_given_behind_it() -> None:
    taken, given = iter(range(50)), []
    gate = threading.Event()

    def give(number: int) -> None:
        gate.wait(10)
        given.append(number)

    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        behind = _Behind(writer, give, 3)  # type: ignore[arg-type]
        numbers = _ahead(reader, lambda: next(taken, None), 4)  # type: ignore[arg-type, return-value]
        for _ in range(3):
            behind.put(next(numbers))
            assert given == []
        gate.set()
        for number in numbers:
            behind.put(number)
        behind.wait()
    assert given == list(range(50))
