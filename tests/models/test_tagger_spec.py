"""Where a trained tagger lies and what it reads; whatever is wrong with it is one line that says so."""

import hashlib
from pathlib import Path

import pytest

from infra import storage
from infra.problem import Problem
from infra.settings import UserModel
from models.tagger_spec import tagger_spec
from tests.tasks.taggers import RECORDS, entry, tagger


def of(**values: object) -> UserModel:
    return UserModel.model_validate(values)


def test_a_file_here_needs_no_digest_and_may_be_named_in_any_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tagger(tmp_path / "t.safetensors", *RECORDS)
    monkeypatch.chdir(tmp_path)
    specs = {tagger_spec(of(name="mine", tagger=address)) for address in (str(path), "t.safetensors", f"file:{path}", "file:t.safetensors")}
    (spec,) = specs
    assert (spec.weights, spec.inputs) == (f"file:{path}", ("yt8m-inception3", "yt8m-vggish"))
    assert spec.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_one_in_a_bucket_is_fetched_once_and_only_with_its_digest(tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDMILL_CACHE", str(tmp_path / "cache"))
    data, uri = tagger(tmp_path / "t.safetensors", *RECORDS).read_bytes(), f"s3://{bucket}/t.safetensors"
    storage.write_bytes(uri, data)
    with pytest.raises(Problem, match=r"models: mine: tagger s3://.* is fetched, but no sha256 is given; set it to what sha256sum prints"):
        tagger_spec(of(name="mine", tagger=uri))
    found = of(name="mine", tagger=uri, sha256=hashlib.sha256(data).hexdigest())
    first = tagger_spec(found)
    storage.delete(uri)
    assert tagger_spec(found) == first


def test_what_is_no_tagger_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    with pytest.raises(Problem, match="there is no such file"):
        tagger_spec(of(**entry(path)))
    path.write_bytes(b"no tagger")
    with pytest.raises(Problem, match=r"models: mine: tagger .*t.safetensors"):
        tagger_spec(of(**entry(path)))
    with pytest.raises(Problem, match=r"the sha256 is .*, expected 0000"):
        tagger_spec(of(**entry(path, sha256="0" * 64)))
