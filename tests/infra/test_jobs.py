"""Ray Jobs without a cluster: addresses, and lines out of pieces."""

import re
from itertools import pairwise
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.jobs import Jobs, _Lines, jobs_address
from infra.problem import Problem
from infra.settings import ClusterConfig
from tests.conftest import free_port


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


def test_the_configurations_address_wins_over_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://localhost:2")
    assert jobs_address(ClusterConfig(address="http://127.0.0.1:1")) == "http://127.0.0.1:1"
    assert jobs_address(ClusterConfig(address="127.0.0.1:6379")) == jobs_address(ClusterConfig()) == "http://localhost:2"


@pytest.mark.parametrize(("address", "told"), [(None, "cluster.address: is not given"), ("auto", "cluster.address auto: takes no jobs")])
def test_without_an_address_it_is_said_which(address: str | None, told: str) -> None:
    with pytest.raises(Problem, match=re.escape(told) + ".*http://HOST:8265, or set RAY_API_SERVER_ADDRESS"):
        jobs_address(ClusterConfig(address=address))


@pytest.mark.parametrize("address", ["http://192.0.2.7:8265", "https://head.example", "http://[2001:db8::7]:8265"])
def test_an_open_job_server_on_another_machine_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """P12: it runs commands of anyone who reaches it."""
    with pytest.raises(Problem, match=re.escape(f"cluster.address {address}: is another machine, and Ray's token authentication is off")):
        jobs_address(ClusterConfig(address=address))
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", address)
    with pytest.raises(Problem, match="token authentication is off"):
        jobs_address(ClusterConfig())
    assert jobs_address(ClusterConfig(insecure=True)) == address
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert jobs_address(ClusterConfig()) == address


def test_a_server_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else Ray's own variables name."""
    address = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.7:6379")
    with pytest.raises(Problem, match=f"^{address}: Failed to connect to Ray at address: {address}; start Ray there") as error:
        Jobs(address)
    assert "\n" not in str(error.value)
    assert urlsplit(address).port


@given(st.text(st.sampled_from("ab\n"), max_size=60), st.lists(st.integers(0, 60), max_size=6), st.integers(0, 60))
def test_lines_come_once_however_the_log_is_cut_and_begun_again(text: str, cuts: list[int], lost_at: int) -> None:
    taken: list[str] = []
    lines = _Lines(taken.append)
    for piece in pieces(text[:lost_at], cuts):
        lines.add(piece)
    lines.again()
    for piece in pieces(text, cuts):
        lines.add(piece)
    lines.end()
    *whole, rest = text.split("\n")
    assert taken == ([*whole, rest] if rest else whole)


def pieces(text: str, cuts: list[int]) -> list[str]:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return [text[start:end] for start, end in pairwise(places)]
