"""TLS contexts from files: what is accepted, what is refused and why, and files that change."""

import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
import trio
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.unit.access.certificates import Authority, Pair, der_of, handshake
from trioder.access.certificate_fields import read_certificate
from trioder.access.tls import ClientTls, ServerTls, TlsConfigurationError, explain


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def server(authority: Authority) -> Pair:
    return authority.issue("localhost", "127.0.0.1", file="server")


@pytest.fixture
def agent(authority: Authority) -> Pair:
    return authority.issue("agent-7.example", file="agent")


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def logs() -> Iterator[list[dict[str, object]]]:
    with structlog.testing.capture_logs() as entries:
        yield entries  # type: ignore[misc]


def test_both_sides_see_the_certificate_of_the_other_over_tls_1_3(
    authority: Authority, server: Pair, agent: Pair
) -> None:
    ended = handshake(ServerTls(*server, authority.file).context, ClientTls(*agent, authority.file).context)
    assert (ended.server_sees, ended.client_sees, ended.protocol) == (
        der_of(agent.cert),
        der_of(server.cert),
        "TLSv1.3",
    )


def test_without_a_client_ca_no_certificate_is_required(authority: Authority, server: Pair) -> None:
    ended = handshake(ServerTls(*server).context, ClientTls(None, None, authority.file).context)
    assert ended[:3] == (None, None, None)


def test_a_tls_1_2_client_is_refused(authority: Authority, server: Pair) -> None:
    client = ClientTls(None, None, authority.file, min_version="1.2").context
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    ended = handshake(ServerTls(*server).context, client)
    for error in ended[:2]:
        assert error is not None
        assert "no TLS version in common" in explain(error)


def test_a_tls_1_2_client_is_accepted_where_that_is_the_minimum(authority: Authority, server: Pair) -> None:
    client = ClientTls(None, None, authority.file, min_version="1.2").context
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert handshake(ServerTls(*server, min_version="1.2").context, client).protocol == "TLSv1.2"


# Failures of handshakes, explained.


def refusals(server: ServerTls, client: ClientTls, host: str = "localhost") -> tuple[str, str]:
    ended = handshake(server.context, client.context, host)
    assert ended.server is not None
    assert ended.client is not None
    return explain(ended.server), explain(ended.client)


def test_an_expired_agent_is_explained_at_both_sides(authority: Authority, server: Pair) -> None:
    agent = authority.issue("agent", file="agent", from_h=-2, to_h=-1)
    at_server, at_client = refusals(ServerTls(*server, authority.file), ClientTls(*agent, authority.file))
    assert "the peer's certificate has expired" in at_server
    assert "this side's certificate has expired" in at_client


def test_a_certificate_of_the_future_is_explained_by_the_clocks(authority: Authority, server: Pair) -> None:
    agent = authority.issue("agent", file="agent", from_h=1)
    at_server, at_client = refusals(ServerTls(*server, authority.file), ClientTls(*agent, authority.file))
    assert "not valid yet: set the clocks" in at_server
    assert "not valid yet by the peer's clock" in at_client


def test_an_agent_of_another_ca_is_explained_at_both_sides(
    tmp_path: Path, authority: Authority, server: Pair
) -> None:
    other = Authority(tmp_path, "other").issue("agent", file="agent")
    at_server, at_client = refusals(ServerTls(*server, authority.file), ClientTls(*other, authority.file))
    assert "from another CA" in at_server
    assert "does not trust the CA of this side's certificate" in at_client


def test_a_server_of_another_ca_is_explained_at_both_sides(tmp_path: Path, server: Pair, agent: Pair) -> None:
    other = Authority(tmp_path, "other")
    at_server, at_client = refusals(ServerTls(*server), ClientTls(*agent, other.file))
    assert "does not trust the CA of this side's certificate" in at_server
    assert "from another CA" in at_client


@pytest.mark.parametrize(
    ("host", "words"), [("headend.example", "other names"), ("10.0.0.1", "other addresses")]
)
def test_another_name_is_explained(
    authority: Authority, server: Pair, agent: Pair, host: str, words: str
) -> None:
    _, at_client = refusals(ServerTls(*server), ClientTls(*agent, authority.file), host)
    assert words in at_client


def test_a_missing_client_certificate_is_explained_at_both_sides(authority: Authority, server: Pair) -> None:
    at_server, at_client = refusals(ServerTls(*server, authority.file), ClientTls(None, None, authority.file))
    assert "presented no client certificate" in at_server
    assert "requires a client certificate" in at_client


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "does not speak TLS"),
        (b"GET /health HTTP/1.1\r\n\r\n", "plain HTTP to a TLS port"),
        (b"\x00" * 50, "does not speak TLS"),
    ],
)
def test_a_plain_client_is_explained(server: Pair, sent: bytes, words: str) -> None:
    received, unsent = ssl.MemoryBIO(), ssl.MemoryBIO()
    received.write(sent)
    with pytest.raises(ssl.SSLError) as caught:
        ServerTls(*server).context.wrap_bio(received, unsent, server_side=True).do_handshake()
    assert words in explain(caught.value)


def test_a_plain_server_is_explained(authority: Authority) -> None:
    received, unsent = ssl.MemoryBIO(), ssl.MemoryBIO()
    received.write(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64")
    client = ClientTls(None, None, authority.file).context
    with pytest.raises(ssl.SSLError) as caught:
        client.wrap_bio(received, unsent, server_hostname="localhost").do_handshake()
    assert "does not speak TLS" in explain(caught.value)


def test_the_cause_of_a_stream_s_error_is_explained(authority: Authority) -> None:
    broken = trio.BrokenResourceError()
    broken.__cause__ = ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert")
    broken.__cause__.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    assert "requires a client certificate" in explain(broken)


# Faulty configurations.


def test_a_missing_file_is_named(authority: Authority, server: Pair, tmp_path: Path) -> None:
    absent = tmp_path / "absent.pem"
    for make, kind in [
        (lambda: ServerTls(absent, server.key), "certificate"),
        (lambda: ServerTls(server.cert, absent), "key"),
        (lambda: ServerTls(*server, absent), "CA"),
        (lambda: ClientTls(None, None, absent), "CA"),
    ]:
        with pytest.raises(TlsConfigurationError, match=rf"the TLS {kind} {absent} does not exist"):
            make()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["directory", "named pipe"])
def test_what_is_no_regular_file_is_refused(
    server: Pair, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    key = tmp_path / "special.key"
    make(key)
    with pytest.raises(
        TlsConfigurationError, match=rf"the TLS key {key} cannot be read: it is not a regular file"
    ):
        ServerTls(server.cert, key)


def test_the_key_of_another_certificate_is_refused(server: Pair, agent: Pair) -> None:
    with pytest.raises(
        TlsConfigurationError, match=f"{agent.key} does not belong to the certificate {server.cert}"
    ):
        ServerTls(server.cert, agent.key)


def test_an_encrypted_key_is_refused_without_a_prompt(server: Pair) -> None:
    key = serialization.load_pem_private_key(server.key.read_bytes(), None)
    server.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(TlsConfigurationError, match="is encrypted"):
        ServerTls(*server)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\x00", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_file_without_a_certificate_is_refused(authority: Authority, server: Pair, content: bytes) -> None:
    authority.file.write_bytes(content)
    with pytest.raises(TlsConfigurationError, match=f"the TLS CA {authority.file}"):
        ServerTls(*server, authority.file)
    server.cert.write_bytes(content)
    with pytest.raises(TlsConfigurationError, match=f"the TLS certificate {server.cert}"):
        ServerTls(*server)


def test_a_file_without_a_key_is_refused(server: Pair) -> None:
    server.key.write_bytes(b"key")
    with pytest.raises(TlsConfigurationError, match=f"the TLS key {server.key} is no private key"):
        ServerTls(*server)


def test_a_certificate_without_its_key_is_refused(agent: Pair, authority: Authority) -> None:
    with pytest.raises(TlsConfigurationError, match="belong together"):
        ClientTls(agent.cert, None, authority.file)


@pytest.mark.parametrize(
    ("from_h", "to_h", "reason"), [(-2, -1, "it expired at 20"), (1, 2, "it is valid from 20"), (-1, 1, None)]
)
def test_a_certificate_that_is_not_valid_now_is_logged(
    authority: Authority, logs: list[dict[str, object]], from_h: float, to_h: float, reason: str | None
) -> None:
    ServerTls(*authority.issue("localhost", from_h=from_h, to_h=to_h))
    if reason is None:
        assert not logs
    else:
        assert reason in str(logs[0]["reason"])


# Files that change.


def test_new_files_are_used_within_a_second(authority: Authority, server: Pair) -> None:
    clock = Clock()
    tls = ServerTls(*server, clock=clock)
    client = ClientTls(None, None, authority.file).context
    first = der_of(server.cert)
    authority.issue("localhost", file="server")

    clock.now_s += 0.9
    assert handshake(tls.context, client).client_sees == first
    clock.now_s += 0.1
    assert handshake(tls.context, client).client_sees == der_of(server.cert) != first


def test_a_new_ca_is_used(tmp_path: Path, authority: Authority, server: Pair) -> None:
    clock = Clock()
    tls = ServerTls(*server, authority.file, clock=clock)
    other = Authority(tmp_path, "other")
    client = ClientTls(*other.issue("agent"), authority.file).context
    client.load_verify_locations(authority.file)
    assert handshake(tls.context, client).server is not None

    authority.file.write_bytes(other.file.read_bytes())
    clock.now_s += 1
    assert handshake(tls.context, client).server is None


def test_unchanged_files_are_not_read_again(server: Pair) -> None:
    clock = Clock()
    tls = ServerTls(*server, clock=clock)
    context = tls.context
    clock.now_s += 10
    assert tls.context is context


def test_a_reload_reads_at_once(authority: Authority, server: Pair) -> None:
    tls = ServerTls(*server, clock=Clock())
    authority.issue("localhost", file="server")
    tls.reload()
    client = ClientTls(None, None, authority.file).context
    assert handshake(tls.context, client).client_sees == der_of(server.cert)


def test_faulty_new_files_change_nothing_and_are_logged_once(
    server: Pair, agent: Pair, logs: list[dict[str, object]]
) -> None:
    clock = Clock()
    tls = ServerTls(*server, clock=clock)
    context = tls.context
    server.key.write_bytes(agent.key.read_bytes())
    for _ in range(3):
        clock.now_s += 1
        assert tls.context is context
    (entry,) = logs
    assert "does not belong to the certificate" in str(entry["reason"])


def test_files_that_were_faulty_are_used_once_they_are_repaired(authority: Authority, server: Pair) -> None:
    clock = Clock()
    tls = ServerTls(*server, clock=clock)
    server.cert.unlink()
    clock.now_s += 1
    context = tls.context
    authority.issue("localhost", file="server")
    clock.now_s += 1
    assert tls.context is not context


async def test_a_watch_reads_changed_files_without_a_connection(
    authority: Authority, server: Pair, logs: list[dict[str, object]]
) -> None:
    tls = ServerTls(*server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tls.watch)
        authority.issue("localhost", file="server")
        with trio.fail_after(10):
            while not logs:
                await trio.sleep(0.05)
        nursery.cancel_scope.cancel()
    assert logs[0]["event"] == "TLS files were read again"


# Fields of certificates.


def test_serial_and_validity_are_those_that_cryptography_reads(server: Pair) -> None:
    expected = x509.load_pem_x509_certificate(server.cert.read_bytes())
    fields = read_certificate(der_of(server.cert))
    assert fields.serial == f"{expected.serial_number:x}"
    assert fields.not_before_s == expected.not_valid_before_utc.timestamp()
    assert fields.not_after_s == expected.not_valid_after_utc.timestamp()


def test_a_ca_valid_beyond_2049_is_read(authority: Authority) -> None:
    # trustme's CAs are valid until 3000: a GeneralizedTime.
    expected = x509.load_pem_x509_certificate(authority.file.read_bytes())
    assert read_certificate(der_of(authority.file)).not_after_s == expected.not_valid_after_utc.timestamp()


def test_every_truncated_certificate_is_refused_as_such(server: Pair) -> None:
    der = der_of(server.cert)
    for end in range(len(der)):
        with pytest.raises(ValueError, match="not a certificate"):
            read_certificate(der[:end])
