"""The files of agents' TLS: paths of each agent, and options or files that cannot be used."""

from pathlib import Path

import pytest

from tests.unit.access.certificates import Authority, Pair
from trioder.access.agent_tls import (
    TLS_VARIABLES,
    AgentTlsError,
    AgentTlsFiles,
    check_agent_tls,
    check_tls_options,
    open_agent_tls,
)
from trioder.process.addresses import Endpoint

TLS = Endpoint("localhost", 1, tls=True)
PLAIN = Endpoint("localhost", 1)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def pair(authority: Authority) -> Pair:
    return authority.issue("agent", file="agent")


def files_of(pair: Pair, authority: Authority) -> AgentTlsFiles:
    return AgentTlsFiles(cert=str(pair.cert), key=str(pair.key), ca=str(authority.file))


def faults_of(files: AgentTlsFiles, headend: Endpoint = TLS) -> tuple[str, ...]:
    with pytest.raises(AgentTlsError) as caught:
        open_agent_tls(files, headend, TLS_VARIABLES)
    return caught.value.faults


def test_each_agent_has_files_of_its_own() -> None:
    files = AgentTlsFiles(cert="a/{agent}.crt", key="a/{agent}.key", ca="ca.crt")
    assert files.of_agent("north 1/2") == AgentTlsFiles(
        cert="a/north 1%2F2.crt", key="a/north 1%2F2.key", ca="ca.crt"
    )


def test_files_that_fit_make_a_context(pair: Pair, authority: Authority) -> None:
    tls = open_agent_tls(files_of(pair, authority), TLS, TLS_VARIABLES)
    assert tls is not None
    assert len(tls.context.get_ca_certs()) == 1


def test_without_a_ca_the_systems_are_trusted(monkeypatch: pytest.MonkeyPatch, authority: Authority) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    tls = open_agent_tls(AgentTlsFiles(), TLS, TLS_VARIABLES)
    assert tls is not None
    assert len(tls.context.get_ca_certs()) == 1


def test_a_plain_headend_has_no_tls() -> None:
    assert open_agent_tls(AgentTlsFiles(), PLAIN, TLS_VARIABLES) is None


def test_files_for_a_plain_headend_are_an_error() -> None:
    faults = faults_of(AgentTlsFiles(cert="a.crt", key="a.key", ca="ca.crt"), PLAIN)
    assert [fault.split(" is ")[0] for fault in faults] == ["AGENT_TLS_CERT", "AGENT_TLS_KEY", "AGENT_TLS_CA"]
    assert "'ca.crt', but HEADEND_GRPC is localhost:1, which is plain" in faults[2]
    assert "it must be https://localhost:1 for TLS" in faults[2]


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        (AgentTlsFiles(cert="a"), "AGENT_TLS_CERT is 'a' without AGENT_TLS_KEY; both must be set"),
        (AgentTlsFiles(key="b"), "AGENT_TLS_KEY is 'b' without AGENT_TLS_CERT; both must be set"),
    ],
)
def test_a_certificate_and_its_key_belong_together(files: AgentTlsFiles, fault: str) -> None:
    with pytest.raises(AgentTlsError, match=fault):
        check_tls_options(files, TLS, TLS_VARIABLES)


def test_all_missing_files_are_reported_with_variable_and_path() -> None:
    assert faults_of(AgentTlsFiles(cert="no.crt", key="no.key", ca="no-ca.crt")) == (
        "AGENT_TLS_CERT is 'no.crt'; it must be a file that can be read: No such file or directory",
        "AGENT_TLS_KEY is 'no.key'; it must be a file that can be read: No such file or directory",
        "AGENT_TLS_CA is 'no-ca.crt'; it must be a file that can be read: No such file or directory",
    )


def test_a_key_of_another_certificate_is_reported(pair: Pair, authority: Authority) -> None:
    other = authority.issue("other", file="other")
    [fault] = faults_of(files_of(Pair(pair.cert, other.key), authority))
    assert fault.startswith("AGENT_TLS_CERT, AGENT_TLS_KEY: ")
    assert f"{other.key} does not belong to the certificate {pair.cert}" in fault


def test_a_faulty_ca_is_reported_by_its_variable(pair: Pair, tmp_path: Path) -> None:
    empty = tmp_path / "empty.crt"
    empty.touch()
    [fault] = faults_of(AgentTlsFiles(cert=str(pair.cert), key=str(pair.key), ca=str(empty)))
    assert fault.startswith("AGENT_TLS_CA: ")
    assert str(empty) in fault


def test_a_check_finds_what_opening_finds(pair: Pair, authority: Authority) -> None:
    without_ca = AgentTlsFiles(cert=str(pair.cert), key=str(pair.key))
    check_agent_tls(without_ca, TLS, TLS_VARIABLES)
    pair.cert.write_text("")
    with pytest.raises(AgentTlsError, match=r"AGENT_TLS_CERT, AGENT_TLS_KEY: .*no certificate"):
        check_agent_tls(without_ca, TLS, TLS_VARIABLES)
