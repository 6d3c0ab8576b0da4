"""Secrets are known wherever people keep them, and found however they are written."""

import base64
from pathlib import Path
from urllib.parse import quote

import pytest

from infra.secret import Secrets

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


def files(folder: Path) -> dict[str, tuple[str, str]]:
    """Places in files, by the name a secret gets."""
    return {
        ".aws/credentials": ("AWS_SECRET_ACCESS_KEY", f"[default]\naws_access_key_id = A\naws_secret_access_key = {SECRET}\n"),
        ".aws/config": ("AWS_SESSION_TOKEN", f"[profile x]\nregion = r\naws_session_token={SECRET}\n"),
        ".prefect/profiles.toml": ("PREFECT_API_KEY", f'active = "c"\n[profiles.c]\nPREFECT_API_KEY = "{SECRET}"\n'),
        ".ray/auth_token": ("RAY_AUTH_TOKEN", f"{SECRET}\n"),
    }


@pytest.mark.parametrize("place", files(Path()))
def test_what_lies_in_files_of_the_user_is_known(tmp_path: Path, place: str) -> None:
    name, text = files(tmp_path)[place]
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).write_text(text)
    assert Secrets({"HOME": str(tmp_path)}).redact(f"a {SECRET} b") == f"a [{name}] b"


def test_files_that_are_named_by_variables_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text(f"[a]\naws_secret_access_key={SECRET}\n[a]\nbroken\n")
    assert Secrets({"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "mine")}).redact(SECRET) == "[AWS_SECRET_ACCESS_KEY]"


@pytest.mark.parametrize("text", ["", "no section", "\0\xff", "[a\nb", "[profiles]\nx"])
def test_damaged_files_hold_no_secrets_and_stop_nobody(tmp_path: Path, text: str) -> None:
    for place in files(tmp_path):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(text, encoding="latin-1")
    assert Secrets({"HOME": str(tmp_path)}).redact("a") == "a"


def test_every_form_is_found() -> None:
    secrets = Secrets({"AWS_SECRET_ACCESS_KEY": SECRET})
    for form in (SECRET, quote(SECRET), quote(SECRET, safe=""), base64.b64encode(SECRET.encode()).decode()):
        assert secrets.redact(f"<{form}>") == "<[AWS_SECRET_ACCESS_KEY]>"


def test_passwords_in_addresses_and_variables_set_later_count() -> None:
    environment = {"AWS_ENDPOINT_URL": "http://me:very%20secret@host:1/x", "HTTPS_PROXY": "http://[broken"}
    secrets = Secrets(environment)
    assert secrets.redact("http://me:very%20secret@host or very secret") == f"http://{'*' * 21}@host or [AWS_ENDPOINT_URL]"
    environment["RAY_AUTH_TOKEN"] = SECRET
    assert secrets.redact(SECRET) == "[RAY_AUTH_TOKEN]"


def test_short_dummies_are_no_secrets() -> None:
    assert Secrets({"AWS_SECRET_ACCESS_KEY": "testing"}).redact("testing") == "testing"


def test_a_user_and_password_in_an_address_are_hidden_whosoever_they_are() -> None:
    secrets = Secrets({})
    assert secrets.redact("uri: s3://AKIA:a/b+c@bucket/x:y@z") == "uri: s3://" + "*" * 10 + "@bucket/x:y@z"
    for text in ("s3://bucket/a:b@c", "http://host:80/x@y", "s3://bucket/me@home.tar", "a://b c:d@e"):
        assert secrets.redact(text) == text
