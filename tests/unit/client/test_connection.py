"""The address, the token and the transport of a client."""

import ssl
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.unit.access.certificates import Authority
from trioder.client import HeadendClient, HeadendUnavailable
from trioder.client.connection import connection_of


def requests_of(url: str, token: str | None, **options: Any) -> list[httpx2.Request]:
    requests: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        requests.append(request)
        return httpx2.Response(200, json=[])

    with HeadendClient(url, token=token, transport=httpx2.MockTransport(answer), **options) as client:
        client.sites()
    return requests


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://localhost:3001", "http://localhost:3001/sites"),
        ("https://headend.example/", "https://headend.example/sites"),
        ("https://console.example/api", "https://console.example/api/sites"),
        ("http://[::1]:3001", "http://[::1]:3001/sites"),
    ],
)
def test_routes_are_below_the_address(url: str, asked: str) -> None:
    assert str(requests_of(url, None)[0].url) == asked


@pytest.mark.parametrize(
    "url",
    [
        *("localhost:3001", "", "ftp://headend", "http://", "/api", "http://a:b"),
        *("http://headend?a=b", "http://headend#part"),
    ],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="url is "):
        HeadendClient(url)


def test_the_token_is_the_argument_or_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRIODER_TOKEN", raising=False)
    assert "authorization" not in requests_of("http://h", None)[0].headers
    monkeypatch.setenv("TRIODER_TOKEN", "from-environment")
    assert requests_of("http://h", None)[0].headers["authorization"] == "Bearer from-environment"
    assert requests_of("http://h", "argument")[0].headers["authorization"] == "Bearer argument"
    assert "authorization" not in requests_of("http://h", "")[0].headers


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "ключ"])
def test_a_token_that_is_none_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(ValueError, match="the token has characters that no token has") as raised:
        HeadendClient("http://h", token=token)
    assert token not in str(raised.value)


def test_the_error_does_not_show_the_token_or_the_parameters() -> None:
    def fail(_request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    transport = httpx2.MockTransport(fail)
    client = HeadendClient("http://h", token="secret", retries=0, transport=transport)
    with client, pytest.raises(HeadendUnavailable) as raised:
        client.schedules(limit=5)
    assert str(raised.value) == "GET http://h/schedules: ConnectError: refused"


def test_retries_are_not_negative() -> None:
    with pytest.raises(ValueError, match="retries is -1; it must be at least 0"):
        HeadendClient("http://h", retries=-1)


def test_a_ca_file_replaces_the_authorities_of_the_system(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    connection = connection_of("https://h", token=None, ca_file=authority.file, timeouts=None)
    assert isinstance(connection.verify, ssl.SSLContext)
    assert len(connection.verify.get_ca_certs()) == 1
    with pytest.raises(FileNotFoundError):
        HeadendClient("https://h", ca_file=tmp_path / "missing")


def test_the_transport_has_its_own_time_limits_or_the_caller_s() -> None:
    [request] = requests_of("http://h", None)
    assert request.extensions["timeout"] == {"connect": 10.0, "read": 60.0, "write": 10.0, "pool": None}
    [request] = requests_of("http://h", None, transport_timeouts=httpx2.Timeout(1.0))
    assert set(request.extensions["timeout"].values()) == {1.0}


def test_a_user_in_the_address_is_refused_without_showing_its_secret() -> None:
    with pytest.raises(ValueError, match="url has a user") as raised:
        HeadendClient("http://somebody:secret@headend")
    assert "secret" not in str(raised.value)
