"""Other libraries are led to the S3 that vidmill reaches, and secrets are in no text."""

from pathlib import Path

import pytest

from infra.s3_access import s3_access


def test_profile_region_and_endpoint_are_found_and_the_secret_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "credentials").write_text("[lab]\naws_access_key_id = KEY\naws_secret_access_key = hush\naws_session_token = shush\n")
    (tmp_path / "config").write_text("[profile lab]\nregion = eu-north-1\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store:9000")
    found = s3_access()
    assert (found.endpoint, found.region, found.key_id, found.secret, found.token) == ("http://store:9000", "eu-north-1", "KEY", "hush", "shush")
    assert "hush" not in repr(found)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3:9000")
    assert s3_access().endpoint == "http://s3:9000"
