"""The access directory: what each command makes, and what it refuses."""

import errno
import os
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from ssl import PEM_cert_to_DER_cert

import msgspec
import pytest
from cryptography.x509 import load_pem_x509_certificate

from tests.unit.access.documents import ASSET, OTHER_ASSET, OTHER_SITE, SITE
from tests.unit.access.fleets import UNKNOWN, two_tenants
from trioder.access.ca import CA_CERTIFICATE, CA_KEY, AccessError, make_ca
from trioder.access.directory import AccessDirectory
from trioder.access.document import AccessDocument, AccessFileError, read_document, write_document
from trioder.access.grants import AgentRequest
from trioder.access.identity import AgentIdentity, certified_agent
from trioder.access.listing import certificate_state, token_state
from trioder.access.table import AccessTable, TokenError
from trioder.process.rfc3339 import format_ms, parse_ms

A1 = AgentRequest(agent="a1", tenant="alpha", site_ids=(SITE,))
IDENTITY = AgentIdentity(trust_domain="example.org", tenant="alpha", agent="a1")


@pytest.fixture
def directory(tmp_path: Path) -> AccessDirectory:
    made = AccessDirectory(tmp_path / "access", user="ann", fleet=two_tenants())
    made.initialise("example.org", days=100)
    return made


def serials(directory: AccessDirectory) -> list[str]:
    return [entry.serial for entry in read_document(directory.path).certificates]


def now_ms() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)


def der_of(path: Path) -> bytes:
    return PEM_cert_to_DER_cert(path.read_text())


def test_keys_and_the_access_file_can_be_read_by_their_owner_only(directory: AccessDirectory) -> None:
    directory.issue_server(["localhost"])
    directory.issue_agents([A1])
    for path in (directory.folder, *directory.folder.glob("*/")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    keys = [*directory.folder.glob("**/*.key"), directory.path]
    assert len(keys) == 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o600}


def test_a_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("a project")
    tmp_path.chmod(0o755)
    with pytest.raises(AccessError, match=r"has other files: README\.md; .* must be one of its own"):
        AccessDirectory(tmp_path, user="ann").initialise("example.org")
    assert [file.name for file in tmp_path.iterdir()] == ["README.md"]
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_an_empty_folder_is_used_as_it_is_and_what_is_made_in_it_is_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    AccessDirectory(tmp_path, user="ann").initialise("example.org")
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes.pop(CA_CERTIFICATE) == 0o644
    assert set(modes.values()) == {0o600, 0o700}


def test_what_a_killed_command_has_left_is_no_other_file(tmp_path: Path) -> None:
    for name in (".lock", "ca.key", "access.json.new"):
        (tmp_path / name).touch()
    AccessDirectory(tmp_path, user="ann").initialise("example.org")
    assert (tmp_path / CA_CERTIFICATE).exists()


def test_an_authority_is_never_overwritten(directory: AccessDirectory) -> None:
    before = (directory.folder / CA_KEY).read_bytes()
    with pytest.raises(AccessError, match="has a CA already; another one needs another"):
        directory.initialise("example.org")
    assert (directory.folder / CA_KEY).read_bytes() == before


def test_entries_without_the_authority_are_never_overwritten(directory: AccessDirectory) -> None:
    directory.create_token("console", role="viewer", tenant="*")
    (directory.folder / CA_CERTIFICATE).unlink()
    with pytest.raises(AccessError, match="has a CA already"):
        directory.initialise("example.org")


@pytest.mark.parametrize("name", ["", "Example.org", "a/b", "x" * 256])
def test_a_trust_domain_that_breaks_its_rule_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(AccessError, match=r"the trust domain is .*; it must be 1 to 255"):
        AccessDirectory(tmp_path, user="ann").initialise(name)


def test_an_agents_certificate_names_it_and_is_on_file_with_its_grant(directory: AccessDirectory) -> None:
    (files,) = directory.issue_agents([A1], days=10)
    agent = certified_agent(der_of(files.certificate))
    document = read_document(directory.path)
    assert agent.identity == IDENTITY
    assert [(entry.serial, entry.kind, entry.name) for entry in document.certificates] == [
        (agent.serial, "agent", "a1")
    ]
    assert parse_ms(document.certificates[0].expires_at) == agent.expires_ms
    grant = AccessTable(document).grant_of(IDENTITY)
    assert grant is not None
    assert grant.covers(asset_id=ASSET, site_id=SITE)


def test_a_renewal_replaces_the_grant_and_leaves_the_earlier_certificate(directory: AccessDirectory) -> None:
    directory.issue_agents([A1])
    directory.issue_agents([msgspec.structs.replace(A1, site_ids=(), asset_ids=(ASSET,))])
    document = read_document(directory.path)
    assert [(entry.site_ids, entry.asset_ids) for entry in document.agents] == [((), (ASSET,))]
    assert [entry.revoked_at for entry in document.certificates] == [None, None]


def test_a_renewal_without_sites_and_assets_keeps_the_grant(directory: AccessDirectory) -> None:
    directory.issue_agents([A1])
    directory.issue_agents([AgentRequest(agent="a1", tenant="alpha")])
    assert [entry.site_ids for entry in read_document(directory.path).agents] == [(SITE,)]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            AgentRequest(agent="a1", tenant="beta", site_ids=(OTHER_SITE,)),
            "agent a1 is of the tenant alpha, not",
        ),
        (AgentRequest(agent="a2", tenant="alpha"), "agent a2 is new and has neither a site nor an asset"),
        (AgentRequest(agent="a/2", tenant="alpha", site_ids=(SITE,)), "agent is 'a/2'; it must be 1 to 128"),
        (AgentRequest(agent="a2", tenant="*", site_ids=(SITE,)), r"tenant is '\*'; it must be 1 to 64"),
        (AgentRequest(agent="a2", tenant="alpha", site_ids=(UNKNOWN,)), f"site is '{UNKNOWN}'; no site"),
        (
            AgentRequest(agent="a2", tenant="alpha", site_ids=(OTHER_SITE,)),
            f"site {OTHER_SITE} is of the .* beta",
        ),
        (AgentRequest(agent="a2", tenant="alpha", asset_ids=(UNKNOWN,)), f"asset is '{UNKNOWN}'; no asset"),
        (
            AgentRequest(agent="a2", tenant="alpha", asset_ids=(OTHER_ASSET,)),
            f"asset {OTHER_ASSET} is of the .* beta",
        ),
    ],
)
def test_an_agent_that_breaks_a_rule_is_refused_and_nothing_changes(
    directory: AccessDirectory, request_: AgentRequest, message: str
) -> None:
    directory.issue_agents([A1])
    before = directory.path.read_bytes()
    with pytest.raises(AccessError, match=message):
        directory.issue_agents([msgspec.structs.replace(A1, agent="a3"), request_])
    assert directory.path.read_bytes() == before
    assert [path.name for path in directory.folder.glob("agents/*.crt")] == ["a1.crt"]


def test_an_agent_given_twice_is_refused(directory: AccessDirectory) -> None:
    with pytest.raises(AccessError, match="the agent a1 is given twice"):
        directory.issue_agents([A1, A1])


def test_an_agent_of_the_past_keeps_its_tenant(directory: AccessDirectory) -> None:
    directory.issue_agents([A1])
    directory.revoke("a1")
    with pytest.raises(AccessError, match="the agent a1 is of the tenant alpha, not beta"):
        directory.issue_agents([AgentRequest(agent="a1", tenant="beta", site_ids=(OTHER_SITE,))])


def test_without_a_fleet_file_ids_are_not_checked_against_it(directory: AccessDirectory) -> None:
    AccessDirectory(directory.folder, user="ann").issue_agents(
        [AgentRequest(agent="a2", site_ids=(UNKNOWN,))]
    )
    assert len(serials(directory)) == 1


def test_good_certificates_are_kept_if_that_is_asked(directory: AccessDirectory) -> None:
    for _ in range(2):
        agents = directory.issue_agents([A1], if_needed=True)
        server = directory.issue_server(["localhost", "127.0.0.1"], if_needed=True)
    assert [file.issued for file in (*agents, server)] == [False, False]
    assert len(serials(directory)) == 2


def test_a_full_disk_leaves_a_key_with_its_certificate(
    directory: AccessDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    (before,) = directory.issue_agents([A1])
    sync, synced = os.fsync, []

    def full(descriptor: int) -> None:
        # The access file, its directory and the key are written; there is no room for the certificate.
        synced.append(descriptor)
        if len(synced) == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        directory.issue_agents([A1])
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(before.certificate, before.key)
    assert not [*directory.folder.glob("agents/*.new")]


def test_another_certificate_is_issued_if_the_present_one_is_revoked(directory: AccessDirectory) -> None:
    directory.issue_agents([A1])
    directory.revoke("a1")
    (files,) = directory.issue_agents([A1], if_needed=True)
    assert files.issued


def test_another_certificate_is_issued_if_the_server_has_another_host(directory: AccessDirectory) -> None:
    directory.issue_server(["localhost"])
    assert directory.issue_server(["localhost", "::1"], if_needed=True).issued


def test_another_certificate_is_issued_if_the_key_is_of_another(directory: AccessDirectory) -> None:
    (files,) = directory.issue_agents([A1])
    files.key.write_bytes(directory.issue_server(["localhost"]).key.read_bytes())
    (again,) = directory.issue_agents([A1], if_needed=True)
    assert again.issued


def test_no_certificate_outlives_the_authority(directory: AccessDirectory) -> None:
    (files,) = directory.issue_agents([A1])
    assert (
        timedelta(days=99)
        < timedelta(milliseconds=parse_ms(files.expires_at) - now_ms())
        <= timedelta(days=100, minutes=10)
    )
    with pytest.raises(AccessError, match=r"--days is 101; the CA expires at .*, in (99|100) days"):
        directory.issue_server(["localhost"], days=101)


def test_an_expired_authority_says_so(directory: AccessDirectory) -> None:
    key, certificate = make_ca("example.org", days=1, now=datetime.now(UTC) - timedelta(days=2))
    (directory.folder / CA_KEY).write_bytes(key)
    (directory.folder / CA_CERTIFICATE).write_bytes(certificate)
    with pytest.raises(AccessError, match=r"the CA expired at \d{4}.*; make a new one"):
        directory.issue_server(["localhost"])


def test_the_key_of_another_authority_is_refused(directory: AccessDirectory) -> None:
    key, _ = make_ca("example.org", days=1, now=datetime.now(UTC))
    (directory.folder / CA_KEY).write_bytes(key)
    with pytest.raises(AccessError, match=r"ca\.key is not the key of .*ca\.crt"):
        directory.issue_server(["localhost"])


def test_agents_of_a_trust_domain_that_the_authority_does_not_permit_are_refused(
    directory: AccessDirectory,
) -> None:
    write_document(directory.path, AccessDocument(trust_domain="example.com"))
    with pytest.raises(AccessError, match=r"trust domain example\.com; the CA permits example\.org only"):
        directory.issue_agents([A1])


@pytest.mark.parametrize(
    "host", ["", "a b", "http://a", "10.0.0", "-a", "a..b", "x" * 64, "a*.b", "é.example"]
)
def test_what_is_no_host_is_refused(directory: AccessDirectory, host: str) -> None:
    with pytest.raises(AccessError, match=r"the host is .*; it must be a DNS name or an IP address"):
        directory.issue_server([host])


def test_one_certificate_is_revoked_by_its_serial_in_any_form(directory: AccessDirectory) -> None:
    directory.issue_agents([A1])
    directory.issue_agents([A1])
    first, second = serials(directory)
    directory.revoke("00" + ":".join(first[i : i + 2] for i in range(0, len(first), 2)).upper())
    table = AccessTable(read_document(directory.path))
    assert [table.is_revoked(serial) for serial in (first, second)] == [True, False]
    assert table.grant_of(IDENTITY) is not None


def test_an_agent_is_revoked_with_all_certificates_and_its_grant(directory: AccessDirectory) -> None:
    directory.issue_agents([A1, msgspec.structs.replace(A1, agent="a2")])
    directory.issue_agents([A1])
    revoked = directory.revoke("a1")
    table = AccessTable(read_document(directory.path))
    assert {entry.name for entry in revoked} == {"a1"}
    assert [table.is_revoked(serial) for serial in serials(directory)] == [True, False, True]
    assert table.grant_of(IDENTITY) is None
    assert directory.revoke("a1") == []


@pytest.mark.parametrize("what", ["", "a2", "ffff", "localhost"])
def test_what_is_not_on_file_cannot_be_revoked(directory: AccessDirectory, what: str) -> None:
    directory.issue_server(["localhost"])
    with pytest.raises(AccessError, match="no agent and no certificate is"):
        directory.revoke(what)


def test_a_token_is_random_and_only_its_digest_is_on_file(directory: AccessDirectory) -> None:
    one, two = (directory.create_token(name, role="viewer", tenant="alpha") for name in ("one", "two"))
    assert one != two
    assert one.startswith("trd_")
    assert len(one) == len("trd_") + 43
    assert one.removeprefix("trd_") not in directory.path.read_text()
    assert AccessTable(read_document(directory.path)).authenticate(one, now_ms=now_ms()).name == "one"


def test_a_token_expires(directory: AccessDirectory) -> None:
    secret = directory.create_token("one", role="viewer", tenant="alpha", expires_days=1)
    table = AccessTable(read_document(directory.path))
    table.authenticate(secret, now_ms=now_ms() + 86_000_000)
    with pytest.raises(TokenError, match="expired"):
        table.authenticate(secret, now_ms=now_ms() + 88_000_000)


@pytest.mark.parametrize(
    ("name", "tenant", "sites", "message"),
    [
        ("", "alpha", (), "the token's name is empty"),
        ("a\nb", "alpha", (), "the token's name is"),
        ("x", "Alpha", (), r"tenant is 'Alpha'; it must be .*, or \* for all"),
        ("x", "alpha", (UNKNOWN,), "no site in the fleet file"),
        ("x", "alpha", (OTHER_SITE,), "is of the tenant beta, not alpha"),
        ("taken", "alpha", (), "the token taken exists; use another name, or revoke it first"),
    ],
)
def test_a_token_that_breaks_a_rule_is_refused(
    directory: AccessDirectory, name: str, tenant: str, sites: tuple[str, ...], message: str
) -> None:
    directory.create_token("taken", role="viewer", tenant="*", site_ids=[OTHER_SITE])
    with pytest.raises(AccessError, match=message):
        directory.create_token(name, role="viewer", tenant=tenant, site_ids=sites)


def test_the_name_of_a_revoked_token_can_be_used_again(directory: AccessDirectory) -> None:
    old = directory.create_token("one", role="viewer", tenant="alpha")
    directory.revoke_token("one")
    assert [token_state(entry) for entry in read_document(directory.path).tokens] == ["revoked"]
    new = directory.create_token("one", role="viewer", tenant="alpha")
    table = AccessTable(read_document(directory.path))
    assert table.authenticate(new, now_ms=now_ms()).name == "one"
    with pytest.raises(TokenError):
        table.authenticate(old, now_ms=now_ms())


def test_an_unknown_token_cannot_be_revoked(directory: AccessDirectory) -> None:
    with pytest.raises(AccessError, match="no token is named 'one'"):
        directory.revoke_token("one")


def test_without_init_every_command_names_it(tmp_path: Path) -> None:
    directory = AccessDirectory(tmp_path / "access", user="ann")
    for command in (
        lambda: directory.issue_server(["localhost"]),
        lambda: directory.issue_agents([A1]),
        lambda: directory.revoke("a1"),
        lambda: directory.create_token("one", role="viewer", tenant="*"),
        lambda: directory.revoke_token("one"),
    ):
        with pytest.raises(AccessFileError, match=r"run python -m trioder\.access init"):
            command()


def test_a_certificates_state_is_shown(directory: AccessDirectory) -> None:
    directory.issue_server(["localhost"])
    (entry,) = read_document(directory.path).certificates
    now = datetime.now(UTC).timestamp() * 1000
    states = {
        certificate_state(msgspec.structs.replace(entry, expires_at=format_ms(int(now + days * 86_400_000))))
        for days in (-1, 29, 31)
    }
    assert states == {"expired", "expires soon", "valid"}
    directory.revoke(entry.serial)
    assert certificate_state(read_document(directory.path).certificates[0]) == "revoked"


def test_an_authority_is_replaced_while_both_are_trusted(directory: AccessDirectory, tmp_path: Path) -> None:
    directory.issue_agents([A1])
    newer = AccessDirectory(tmp_path / "newer", user="ann")
    newer.initialise("example.org")
    old, new = ((each.folder / CA_CERTIFICATE).read_bytes() for each in (directory, newer))
    # Trusted first, then used.
    (directory.folder / CA_CERTIFICATE).write_bytes(old + new)
    assert not directory.issue_agents([A1], if_needed=True)[0].issued
    (directory.folder / CA_CERTIFICATE).write_bytes(new + old)
    (directory.folder / CA_KEY).write_bytes((newer.folder / CA_KEY).read_bytes())
    (files,) = directory.issue_agents([A1], if_needed=True)
    assert files.issued
    load_pem_x509_certificate(files.certificate.read_bytes()).verify_directly_issued_by(
        load_pem_x509_certificate(new)
    )
