"""Options of TLS and access control: what is refused, warned of and read."""

import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import structlog

from tests.unit.access.certificates import Authority
from trioder.access.document import AccessDocument, AccessFileError, TokenEntry
from trioder.access.tls import TlsConfigurationError
from trioder.headend.security import Security, SecurityError, SecurityOptions, configure_security
from trioder.process.addresses import Address

LOOPBACK = Address("127.0.0.1", 1)
EVERYWHERE = Address("0.0.0.0", 1)


@pytest.fixture
def logs() -> Iterator[list[dict[str, object]]]:
    with structlog.testing.capture_logs() as entries:
        yield entries  # type: ignore[misc]


@pytest.fixture
def protected(tmp_path: Path) -> SecurityOptions:
    authority = Authority(tmp_path)
    server = authority.issue("localhost")
    server.key.chmod(0o600)
    write_access(tmp_path)
    return SecurityOptions(
        access_dir=tmp_path,
        tls_cert=server.cert,
        tls_key=server.key,
        tls_client_ca=authority.file,
        http_tls_cert=server.cert,
        http_tls_key=server.key,
    )


def write_access(directory: Path, *, tokens: int = 1) -> None:
    document = AccessDocument(
        tokens=tuple(
            TokenEntry(
                name=f"token-{number}",
                sha256=f"{number:064x}",
                role="viewer",
                tenant="default",
                created_at="2026-01-01T00:00:00Z",
            )
            for number in range(tokens)
        )
    )
    file = directory / "access.json"
    file.write_bytes(msgspec.json.encode(document))
    file.chmod(0o600)


def configure(
    options: SecurityOptions,
    *,
    grpc: Address = LOOPBACK,
    http: Address = LOOPBACK,
    state_dir: Path = Path(),
    has_issuer: bool = False,
) -> Security:
    return configure_security(
        options, state_dir=state_dir, grpc_addr=grpc, http_addr=http, has_issuer=has_issuer
    )


def without(options: SecurityOptions, *fields: str) -> SecurityOptions:
    return replace(options, **dict.fromkeys(fields))


def test_protected_ports_may_be_reachable(protected: SecurityOptions, logs: list[dict[str, object]]) -> None:
    security = configure(protected, grpc=EVERYWHERE, http=EVERYWHERE)
    assert security.grpc_tls is not None
    assert security.grpc_tls.context.verify_mode is ssl.CERT_REQUIRED
    assert security.http_tls is not None
    assert security.http_tls.context.verify_mode is ssl.CERT_NONE
    assert security.access.has_tokens
    assert not logs


@pytest.mark.parametrize(
    ("port", "fields", "missing"),
    [
        ("grpc", ("tls_client_ca",), "needs HEADEND_TLS_CLIENT_CA ("),
        (
            "grpc",
            ("tls_cert", "tls_key", "tls_client_ca"),
            "needs HEADEND_TLS_CERT and HEADEND_TLS_KEY, HEADEND_TLS_CLIENT_CA (",
        ),
        ("http", ("http_tls_cert", "http_tls_key"), "needs HEADEND_HTTP_TLS_CERT and HEADEND_HTTP_TLS_KEY ("),
    ],
)
def test_what_a_reachable_port_lacks_is_named(
    protected: SecurityOptions, port: str, fields: tuple[str, ...], missing: str
) -> None:
    with pytest.raises(SecurityError) as caught:
        configure(without(protected, *fields), **{port: EVERYWHERE})
    assert missing in str(caught.value)


def test_a_reachable_rest_port_needs_a_token(protected: SecurityOptions, tmp_path: Path) -> None:
    write_access(tmp_path, tokens=0)
    with pytest.raises(SecurityError, match=r"HEADEND_HTTP_ADDR 0\.0\.0\.0:1 needs a token"):
        configure(protected, http=EVERYWHERE)


def test_or_an_openid_issuer(protected: SecurityOptions, tmp_path: Path) -> None:
    write_access(tmp_path, tokens=0)
    assert configure(protected, http=EVERYWHERE, has_issuer=True).http_tls is not None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "headend.example"])
def test_these_hosts_are_reachable(tmp_path: Path, host: str) -> None:
    with pytest.raises(SecurityError):
        configure(SecurityOptions(), grpc=Address(host, 1), state_dir=tmp_path)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_these_hosts_are_not(tmp_path: Path, host: str) -> None:
    security = configure(SecurityOptions(), grpc=Address(host, 1), http=Address(host, 1), state_dir=tmp_path)
    assert (security.grpc_tls, security.http_tls) == (None, None)
    assert not security.access.has_tokens


def test_an_intended_lack_of_protection_is_a_warning(tmp_path: Path, logs: list[dict[str, object]]) -> None:
    configure(SecurityOptions(insecure=True), grpc=EVERYWHERE, state_dir=tmp_path)
    (entry,) = logs
    assert entry["log_level"] == "warning"
    assert "HEADEND_GRPC_ADDR 0.0.0.0:1 needs HEADEND_TLS_CERT" in str(entry["reason"])


def test_an_open_headend_on_loopback_says_so(tmp_path: Path, logs: list[dict[str, object]]) -> None:
    configure(SecurityOptions(), state_dir=tmp_path)
    (entry,) = logs
    assert entry["log_level"] == "info"
    assert "open to every program on this machine" in str(entry["event"])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (("tls_key", "tls_client_ca"), "HEADEND_TLS_CERT is set without HEADEND_TLS_KEY"),
        (("tls_cert", "tls_client_ca"), "HEADEND_TLS_KEY is set without HEADEND_TLS_CERT"),
        (("http_tls_key",), "HEADEND_HTTP_TLS_CERT is set without HEADEND_HTTP_TLS_KEY"),
        (("http_tls_cert",), "HEADEND_HTTP_TLS_KEY is set without HEADEND_HTTP_TLS_CERT"),
        (
            ("tls_cert", "tls_key"),
            "HEADEND_TLS_CLIENT_CA is set without HEADEND_TLS_CERT",
        ),
    ],
)
def test_half_a_configuration_is_refused(
    protected: SecurityOptions, fields: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SecurityError, match=said):
        configure(without(protected, *fields))


def test_a_client_ca_needs_the_access_file(protected: SecurityOptions, tmp_path: Path) -> None:
    (tmp_path / "access.json").unlink()
    with pytest.raises(AccessFileError, match="does not exist"):
        configure(protected)


def test_a_faulty_access_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "access.json").write_text("{")
    with pytest.raises(AccessFileError):
        configure(SecurityOptions(access_dir=tmp_path))


def test_the_access_file_is_in_the_state_directory_by_default(tmp_path: Path) -> None:
    (tmp_path / "access").mkdir()
    write_access(tmp_path / "access")
    security = configure(SecurityOptions(), state_dir=tmp_path)
    assert security.access is not None
    assert security.access.has_tokens


def test_an_access_directory_that_is_named_must_have_an_access_file(tmp_path: Path) -> None:
    with pytest.raises(AccessFileError, match=r"access\.json does not exist; run python -m trioder\.access"):
        configure(SecurityOptions(access_dir=tmp_path / "acces"))


def test_private_files_that_others_can_read_are_named_with_what_to_do(
    protected: SecurityOptions, tmp_path: Path, logs: list[dict[str, object]]
) -> None:
    assert protected.tls_key is not None
    protected.tls_key.chmod(0o640)
    (tmp_path / "access.json").chmod(0o604)
    configure(protected)
    warned = [entry for entry in logs if entry["event"] == "a private file can be read by others"]
    # The same key is that of both ports.
    assert [(entry["file"], entry["reason"]) for entry in warned] == [
        (str(path), f"its mode is {mode}; run: chmod 600 {path}")
        for path, mode in ((protected.tls_key, "0640"), (tmp_path / "access.json", "0604"))
    ]


def test_private_files_of_the_user_alone_are_not_warned_of(
    protected: SecurityOptions, logs: list[dict[str, object]]
) -> None:
    configure(protected)
    assert logs == []


def test_faulty_certificates_are_refused(protected: SecurityOptions) -> None:
    assert protected.http_tls_key is not None
    protected.http_tls_key.write_text("")
    with pytest.raises(TlsConfigurationError):
        configure(protected)


def test_without_an_access_file_nobody_has_access_until_there_is_one(tmp_path: Path) -> None:
    security = configure(SecurityOptions(), state_dir=tmp_path)
    assert security.access_path == tmp_path / "access" / "access.json"
    assert not security.access.has_tokens


@pytest.mark.parametrize("target", ["access.json", "missing.json"])
def test_an_access_file_that_is_a_link_to_nowhere_opens_nothing(tmp_path: Path, target: str) -> None:
    (tmp_path / "access.json").symlink_to(target)
    with pytest.raises(AccessFileError):
        configure(SecurityOptions(access_dir=tmp_path))


def test_nor_does_an_access_directory_that_is_one(tmp_path: Path) -> None:
    (tmp_path / "access").symlink_to("missing")
    with pytest.raises(AccessFileError):
        configure(SecurityOptions(), state_dir=tmp_path)


def test_nor_one_that_cannot_be_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_path: Path, *_arguments: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    # Tests may run as root, whom no mode refuses.
    for function in ("lstat", "stat", "read_bytes"):
        monkeypatch.setattr(Path, function, refused)
    with pytest.raises(AccessFileError, match="cannot be read: Permission denied"):
        configure(SecurityOptions(access_dir=tmp_path))
