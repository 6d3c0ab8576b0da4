"""What only S3 does: conditions, retries, credentials, and processes that share nothing."""

import http.server
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import s3_request, storage
from infra.storage import Cause, NotFound, StorageError


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up soon."""
    monkeypatch.setattr(s3_request, "RETRY", s3_request.Retry(budget_s=1.0, hopeless_s=0.5, pause_s=0.05, longest_pause_s=0.1))


def test_an_s3_object_replaced_while_it_is_read_is_told(bucket: str) -> None:
    uri = f"s3://{bucket}/x"
    storage.write_bytes(uri, bytes(40 << 20))
    found = storage.list_objects(uri)[0]
    with storage.open_stream(found) as file:
        file.read(10)
        storage.write_bytes(uri, b"1" * (40 << 20))
        with pytest.raises(StorageError) as caught:
            file.read()
    assert caught.value.cause is Cause.CHANGED


def test_s3_problems_are_one_line(s3: str, monkeypatch: pytest.MonkeyPatch, quick: None) -> None:
    with pytest.raises(StorageError, match=r"^s3://no-such-bucket-here: no such bucket; check the spelling, or create the bucket$"):
        storage.list_objects("s3://no-such-bucket-here/x")
    dead = "http://127.0.0.1:1"
    for endpoint, shown in [(dead, dead), ("http://me:hush@127.0.0.1:1", f"{dead} with a user in the address")]:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(StorageError) as caught:
            storage.list_objects("s3://bucket/x")
        assert str(caught.value) == f"s3://bucket/x: the S3 endpoint cannot be reached ({shown}); check AWS_ENDPOINT_URL and the network"


def test_missing_credentials_are_told(s3: str) -> None:
    code = "from infra import storage\ntry: storage.list_objects('s3://bucket/x')\nexcept storage.StorageError as error: print(error)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | {"AWS_ENDPOINT_URL": s3}
    environment |= {"AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nonexistent"}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
    assert out == ("s3://bucket/x: no S3 credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role\n")


def test_s3_is_not_imported_for_a_disk(tmp_path: Path) -> None:
    code = f"import sys; from infra import storage; storage.list_objects({str(tmp_path)!r}); print({{'s3fs', 'botocore'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_errors_survive_the_way_between_processes() -> None:
    for error in (NotFound("x"), StorageError("x", Cause.BUSY, "503")):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.cause, again.uri) == (type(error), str(error), error.cause, error.uri)


def _read_in_child(uri: str) -> bytes:
    return storage.read_bytes(uri)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_of_a_process_that_used_s3_use_it_too(bucket: str, method: str) -> None:
    storage.write_bytes(f"s3://{bucket}/x", b"whole")
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply_async(_read_in_child, (f"s3://{bucket}/x",)).get(30) == b"whole"


class Flaky(http.server.BaseHTTPRequestHandler):
    """Answers `bad` requests badly, each in another way, then gives the object."""

    protocol_version = "HTTP/1.1"
    body = bytes(range(256)) * 4096
    bad = 0
    asked = 0

    def do_GET(self) -> None:
        kind = type(self)
        kind.asked += 1
        if kind.asked > kind.bad:
            self._answer(200, self.body, len(self.body))
        elif kind.asked % 3 == 0:
            self._answer(503, b"<Error><Code>SlowDown</Code><Message>slow</Message></Error>", 59)
        elif kind.asked % 3 == 1:
            self._answer(200, self.body[:1000], len(self.body))
            self.close_connection = True
        else:
            self.connection.close()
            self.close_connection = True

    def _answer(self, status: int, body: bytes, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", '"e"')
        self.send_header("Last-Modified", "Sat, 21 Nov 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def flaky(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Flaky]]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Flaky,), {}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    yield server.RequestHandlerClass  # type: ignore[misc]
    server.shutdown()
    server.server_close()


def test_throttling_resets_and_broken_bodies_are_waited_out(flaky: type[Flaky], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_request, "RETRY", s3_request.Retry(budget_s=20, pause_s=0.01, longest_pause_s=0.05))
    flaky.bad = 9
    assert storage.read_bytes("s3://bucket/x") == Flaky.body
    assert flaky.asked == 10


def test_what_does_not_pass_within_the_budget_is_told(flaky: type[Flaky], quick: None) -> None:
    flaky.bad = 10**9
    with pytest.raises(StorageError, match=r"^s3://bucket/x: the store kept failing \(\w+\); run the same command again") as caught:
        storage.read_bytes("s3://bucket/x")
    assert caught.value.cause is Cause.BUSY
    assert 1 < flaky.asked < 60
