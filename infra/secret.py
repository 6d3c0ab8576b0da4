"""Values that must not be printed: which there are, and text without them.

    environment          AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, RAY_AUTH_TOKEN, PREFECT_API_KEY, passwords in addresses
    files of the user    AWS credentials and configuration, Prefect's profiles, Ray's token

Knows where they lie; keeps them in memory only, and asks no server.
"""

import base64
import configparser
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit

VARIABLES: Final = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "RAY_AUTH_TOKEN", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING")
ADDRESSES: Final = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "PREFECT_API_URL", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
IN_ADDRESS: Final = re.compile(r"(?<=://)[^\s/:@]+:(?!\d{1,5}/)[^\s@]+(?=@)")  # user:password, as long as it was: a caret may stand below
SHORTEST: Final = 8  # shorter values are test dummies such as "testing"; blotting those out would garble what is printed


class Secrets:
    """What is secret now; the environment is looked at again every time, because Ray's token is made while we run."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = environment
        self._in_files = dict(_in_files(environment))
        self._seen: tuple[str, ...] = ()
        self._forms: dict[str, str] = {}

    def redact(self, text: str) -> str:
        """`text` with `[NAME]` for each secret, however it is written, and stars for users and passwords in addresses."""
        for form, name in self._known().items():
            text = text.replace(form, f"[{name}]")
        return IN_ADDRESS.sub(lambda found: "*" * len(found[0]), text)

    def _known(self) -> Mapping[str, str]:
        seen = tuple(self._environment.get(name, "") for name in (*VARIABLES, *ADDRESSES))
        if seen != self._seen:
            self._seen = seen
            named = {**self._in_files, **dict(_in_environment(self._environment))}
            forms = {form: name for value, name in named.items() if len(value) >= SHORTEST for form in _forms(value)}
            self._forms = dict(sorted(forms.items(), key=lambda item: -len(item[0])))  # a value may begin another's
        return self._forms


def _forms(value: str) -> Iterator[str]:
    yield from (value, quote(value), quote(value, safe=""))
    yield base64.b64encode(value.encode()).decode()


def _in_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    yield from ((environment.get(name, ""), name) for name in VARIABLES)
    for name in ADDRESSES:
        with suppress(ValueError):  # not an address
            password = urlsplit(environment.get(name, "")).password or ""
            yield from ((password, name), (unquote(password), name))


def _in_files(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    home = Path(environment.get("HOME") or "/nonexistent")
    yield from _of_aws(Path(environment.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws" / "credentials"))
    yield from _of_aws(Path(environment.get("AWS_CONFIG_FILE") or home / ".aws" / "config"))
    prefect = Path(environment.get("PREFECT_HOME") or home / ".prefect")
    yield from _of_prefect(Path(environment.get("PREFECT_PROFILES_PATH") or prefect / "profiles.toml"))
    yield _text(Path(environment.get("RAY_AUTH_TOKEN_PATH") or home / ".ray" / "auth_token")).strip(), "RAY_AUTH_TOKEN"


def _of_aws(path: Path) -> Iterator[tuple[str, str]]:
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    with suppress(configparser.Error):
        parser.read_string(_text(path))
    for section in parser.sections():
        for key in ("aws_secret_access_key", "aws_session_token", "aws_security_token"):
            yield parser.get(section, key, fallback="") or "", key.upper()


def _of_prefect(path: Path) -> Iterator[tuple[str, str]]:
    with suppress(tomllib.TOMLDecodeError):
        profiles = tomllib.loads(_text(path)).get("profiles", {})
        for profile in profiles.values():
            yield from ((str(profile.get(name, "")), name) for name in ("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"))


def _text(path: Path) -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8", errors="replace")
    except (OSError, RuntimeError):
        return ""
