"""Which TLS failures of a client mean that the server refuses the client's certificate."""

import ssl
from pathlib import Path

import pytest

from tests.unit.access.certificates import Authority, handshake
from trioder.access.tls import ClientTls, ServerTls
from trioder.access.tls_errors import is_certificate_refused


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def server(authority: Authority) -> ssl.SSLContext:
    return ServerTls(*authority.issue("localhost"), authority.file).context


def failure(server: ssl.SSLContext, client: ClientTls, host: str = "localhost") -> ssl.SSLError:
    error = handshake(server, client.context, host).client
    assert error is not None
    return error


def test_an_expired_one_is_refused(authority: Authority, server: ssl.SSLContext) -> None:
    expired = authority.issue("agent", file="agent", from_h=-2, to_h=-1)
    assert is_certificate_refused(failure(server, ClientTls(*expired, authority.file)))


def test_one_of_another_ca_is_refused(authority: Authority, server: ssl.SSLContext, tmp_path: Path) -> None:
    foreign = Authority(tmp_path, "other").issue("agent")
    assert is_certificate_refused(failure(server, ClientTls(*foreign, authority.file)))


def test_none_is_refused_where_one_is_required(authority: Authority, server: ssl.SSLContext) -> None:
    assert is_certificate_refused(failure(server, ClientTls(None, None, authority.file)))


def test_a_server_that_the_client_refuses_refuses_nothing(
    authority: Authority, server: ssl.SSLContext
) -> None:
    pair = authority.issue("agent", file="agent")
    assert not is_certificate_refused(failure(server, ClientTls(*pair, authority.file), "headend.example"))


def test_other_failures_of_a_connection_are_no_refusal() -> None:
    assert not is_certificate_refused(ConnectionResetError())
    assert not is_certificate_refused(ssl.SSLEOFError())
