"""P12: what is secret appears nowhere: not on the screen, not in logs, not in what is published, however the run ends."""

import base64
import io
import os
import shutil
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest

from flows.cli import execute
from infra import storage
from tests.corpus import clip, contents, name_of, write_tar
from tests.faults import here
from tests.flows.program import vidmill
from tests.tasks.runs import settings

KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "IQoJb3JpZ2luX2VjEXAMPLE//////////wEaCXVzLWVhc3QtMSJHMEUCIQ=="
PREFECT_KEY = "pnu_0123456789abcdefghijklmnopqrstuv"
RAY_TOKEN = "5ec7e7" * 10 + "abcd"
PASSWORD = "hush+hush/hush"
UNKNOWN = "je7MtGbClwBF/2Zp9Utk+h3yCo8nvbEXAMPLEKEY"  # of somebody else: in no variable and in no file
PLANTED = (SECRET, TOKEN, PREFECT_KEY, RAY_TOKEN, PASSWORD, UNKNOWN)


def forms(value: str) -> set[bytes]:
    return {text.encode() for text in (value, quote(value), quote(value, safe=""), base64.b64encode(value.encode()).decode())}


def found_in(where: dict[str, bytes]) -> list[str]:
    """Where a secret is, however it is written."""
    wanted = [form for value in PLANTED for form in forms(value)]
    return [name for name, data in where.items() if any(form in data for form in wanted)]


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}


def everything_published(output: str) -> dict[str, bytes]:
    """Every object, and of Parquet also what is compressed in it."""
    objects = {item.uri: storage.read_bytes(item.uri) for item in storage.list_objects(output)}
    rows = {f"rows of {uri}": str(pq.read_table(io.BytesIO(data)).to_pylist()).encode() for uri, data in objects.items() if uri.endswith(".parquet")}
    footers = {f"footer of {uri}": str(pq.read_metadata(io.BytesIO(objects[uri])).metadata).encode() for uri in objects if uri.endswith(".parquet")}
    return objects | rows | footers


@pytest.fixture
def corner(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for everything that is written beside the output; its name is short, because Ray's sockets lie in it."""
    folder = Path(tempfile.mkdtemp(prefix="vm-", dir="/tmp"))
    for name, value in {"TMPDIR": folder, "RAY_TMPDIR": folder, "PREFECT_HOME": folder / "prefect", "HOME": folder / "home"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=["environment", "credentials file"])
def planted(request: pytest.FixtureRequest, s3: str, bucket: str, corner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Credentials where people keep them; a bucket with a corpus, one clip of which is damaged."""
    return plant(request.param, bucket, tmp_path, monkeypatch)


def plant(place: str, bucket: str, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    data = write_tar(elsewhere / "part_0.tar.gz", {f"{name_of(0)}.mp4": b"damaged", f"{name_of(1)}.mp4": clip(1)}).read_bytes()
    storage.write_bytes(f"s3://{bucket}/corpus/part_0.tar.gz", data)
    names = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN}
    for name, value in names.items():
        monkeypatch.setenv(name, value) if place == "environment" else monkeypatch.delenv(name, raising=False)
    if place != "environment":
        file = elsewhere / "credentials"
        file.write_text("[default]\n" + "".join(f"{name.lower()} = {value}\n" for name, value in names.items()))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("RAY_AUTH_TOKEN", RAY_TOKEN)
    return bucket


def flags(bucket: str, **changed: str) -> list[str]:
    chosen = {"source.kind": "kinetics", "source.uri": f"s3://{bucket}/corpus/part_*.tar.gz", "output": f"s3://{bucket}/out", **changed}
    return [word for name, value in chosen.items() for word in (f"--{name}", value)]


@pytest.mark.parametrize("planted", ["environment", pytest.param("credentials file", marks=pytest.mark.nightly)], indirect=True)
def test_a_run_with_a_failing_clip_leaves_no_secret_anywhere(planted: str, corner: Path, tmp_path: Path) -> None:
    """P12: without the redaction in infra.logs a library that logs a request would leave its secrets in run.log; none does today."""
    more = {name: os.environ[name] for name in ("RAY_AUTH_TOKEN",)}
    code, out, err = vidmill(
        "run", *flags(planted), "--embed", "mobilenet-v2", "--cluster.cpus", "1", "--json", cwd=tmp_path, **more, PREFECT_API_KEY=PREFECT_KEY
    )
    assert code == 0, err
    assert '"CORRUPT"' in out
    published = everything_published(f"s3://{planted}/out")
    assert any(name.endswith("run.log") for name in published)
    left = everything_in(corner)
    assert any("/logs/" in name for name in left), "Ray's logs are elsewhere"
    assert found_in({"stdout": out.encode(), "stderr": err.encode(), **published, **left}) == []


REFUSED = {
    "no such bucket": ({"source.uri": "s3://no-such-bucket-here/x"}, {}),
    "credentials in the source": ({"source.uri": f"s3://{KEY}:{UNKNOWN}@bucket/x"}, {}),
    "quoted credentials in the source": ({"source.uri": f"s3://{KEY}:{quote(UNKNOWN, safe='')}@bucket/x"}, {}),
    "credentials in the output": ({"output": f"s3://{KEY}:{UNKNOWN}@bucket/x"}, {}),
    "credentials in the annotations": ({"source.annotations": f"s3://{KEY}:{UNKNOWN}@bucket/x.csv"}, {}),
    "credentials in the replacements": ({"source.replacements": f"s3://{KEY}:{UNKNOWN}@bucket/x.tar"}, {}),
    "a password in an https source": ({"source.uri": f"https://me:{UNKNOWN}@host/x"}, {}),
    "a password in the endpoint": ({}, {"AWS_ENDPOINT_URL": f"http://me:{PASSWORD.replace('/', '%2F')}@127.0.0.1:1"}),
    "a password in a broken endpoint": ({}, {"AWS_ENDPOINT_URL": f"me:{PASSWORD}@127.0.0.1"}),
    "a secret for a fields value": ({"limits.max-pixels": SECRET}, {}),
    "a secret for a model": ({"embed": SECRET}, {}),
}


@pytest.mark.parametrize("refused", REFUSED)
def test_a_command_that_fails_repeats_no_secret(
    planted: str, corner: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], refused: str
) -> None:
    """P12: without the redaction in flows.console.print_error or _shown in infra.s3_error this fails."""
    changed, environment = REFUSED[refused]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for command in ("plan", "run"):
        assert execute([command, *flags(planted, **changed)]) == 2
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        assert err.startswith("vidmill: error: ")
        assert found_in({"stdout": out.encode(), "stderr": err.encode(), **everything_in(corner)}) == []


def test_a_secret_in_a_configuration_file_is_not_shown_with_its_line(
    planted: str, corner: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """P12: as above; errors of a file show where they are."""
    config = tmp_path / "run.yaml"
    weights = f"  uri: s3://a/b\nmodels: [{{name: m, factory: 'a:b', weights: 'https://me:{UNKNOWN}@host/w', sha256: {'0' * 64}}}]\nembed: [m]"
    for line in (f"  uri: s3://{KEY}:{UNKNOWN}@bucket/x", f"  uri: [{SECRET}]", f"  uri: s3://a/b\n  {SECRET}: 1", weights):
        config.write_text(f"source:\n  kind: kinetics\n{line}\noutput: {tmp_path}/out\n")
        assert execute(["run", str(config)]) == 2
        out, err = capfd.readouterr()
        assert found_in({"stdout": out.encode(), "stderr": err.encode(), **everything_in(corner)}) == []


def test_an_unforeseen_error_that_holds_a_secret_is_told_without_it(
    planted: str, corner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """P12: without Secrets in infra.logs, flows.run, flows.crash and print_error the error's text brings it to the screen and into the log."""
    here.without_ray(monkeypatch)

    def fail(*_: object) -> None:
        print(f"printed {SECRET}")
        os.write(2, f"written {quote(TOKEN, safe='')}\n".encode())
        try:
            raise KeyError(TOKEN)
        except KeyError:
            traceback.print_exc()
        raise RuntimeError(f"signed with {SECRET} and {TOKEN}")

    monkeypatch.setattr(here.flow, "delete_leftovers", fail)
    assert execute(["run", *flags(planted)]) == 1
    out, err = capfd.readouterr()
    assert "[AWS_SECRET_ACCESS_KEY]" in err
    published = everything_published(f"s3://{planted}/out")
    (log,) = [data for name, data in published.items() if name.endswith("run.log")]
    assert log.count(b"[AWS_SECRET_ACCESS_KEY]") >= 2
    assert found_in({"stdout": out.encode(), "stderr": err.encode(), **published, **everything_in(corner)}) == []


def test_rows_and_records_of_a_run_hold_no_secret(planted: str, corner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P12: the record and Prefect's parameters hold the whole configuration, so infra.settings refuses addresses with credentials in them."""
    for field in ("uri", "annotations", "replacements"):
        with pytest.raises(ValueError, match="credentials in it, user or password, is refused") as caught:
            settings(tmp_path, {"kind": "kinetics", "uri": "x", field: f"s3://{KEY}:{UNKNOWN}@bucket/x"})
        assert UNKNOWN not in str(caught.value)
    here.without_ray(monkeypatch)
    config = settings(tmp_path, {"kind": "kinetics", "uri": f"s3://{planted}/corpus/part_*.tar.gz"})
    config = config.model_copy(update={"output": f"s3://{planted}/out"})
    assert here.run(config).status == "done"
    assert len(contents(config.output)["failures"]) == 1
    assert found_in(everything_published(config.output) | everything_in(corner)) == []
