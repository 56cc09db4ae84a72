"""The access file: what is refused and how it is said, and that it is replaced as a whole."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.unit.access.documents import (
    ASSET,
    LATER,
    agent_entry,
    certificate_entry,
    document_of,
    token_entry,
    write,
)
from trioder.access.document import (
    AccessDocument,
    AccessFileError,
    read_document,
    update_document,
    write_document,
)

FULL = document_of(agent_entry(asset_ids=(ASSET,)), certificate_entry(), token_entry(expires_at=LATER))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access.json"


def test_what_was_written_is_read(path: Path) -> None:
    write_document(path, FULL)
    assert read_document(path) == FULL
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_missing_file_says_how_to_make_one(path: Path) -> None:
    with pytest.raises(
        AccessFileError, match=r"access\.json does not exist; run python -m trioder\.access init"
    ):
        read_document(path)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "truncated"),
        (b'{"version": 1', "truncated"),
        (b"\xff\xfe", "malformed"),
        (b'{"version": 1, "trust_domain": "\xff"}', "utf-8"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "version is missing; it must be 1"),
        (b'{"version": 1, "tokens": [], "tokens": []}', "the key 'tokens' is given more than once"),
        (
            b'{"version": 1, "agents": [{"tenant": "a", "agent": "a1", "tenant": "b"}]}',
            "the key 'tenant' is given more than once in one object",
        ),
        (b'{"version": 2}', "version is 2; this version of trioder knows 1"),
        (b'{"token": []}', "unknown field `token`"),
        (b'{"tokens": [{"name": "x", "sha256": 1}]}', r"\$\.tokens\[0\]\.sha256"),
        (
            b'{"tokens": [{"name": "x", "sha256": "", "role": "root"}]}',
            r"'root' - at `\$\.tokens\[0\]\.role`",
        ),
    ],
)
def test_what_is_no_access_file_is_refused_with_the_place(path: Path, data: bytes, what: str) -> None:
    path.write_bytes(data)
    with pytest.raises(AccessFileError, match=f"access.json: .*{what}"):
        read_document(path)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (AccessDocument(trust_domain="Example"), "trust_domain is 'Example'; it must be 1 to 255 lower-case"),
        (document_of(agent_entry(tenant="*")), r"agents\[0\]\.tenant is '\*'; it must be 1 to 64"),
        (document_of(agent_entry(agent="a/b")), r"agents\[0\]\.agent is 'a/b'; it must be 1 to 128"),
        (document_of(agent_entry(site_ids=("x",))), r"agents\[0\]\.site_ids\[0\] is 'x'; it must be a UUID"),
        (document_of(agent_entry(asset_ids=(ASSET, "X"))), r"agents\[0\]\.asset_ids\[1\] is 'X'"),
        (document_of(agent_entry(), agent_entry(tenant="beta")), "agents has the agent 'a1' 2 times"),
        (document_of(certificate_entry(serial="0A")), r"certificates\[0\]\.serial is '0A'; it must be lower"),
        (document_of(certificate_entry(revoked_at="today")), r"certificates\[0\]\.revoked_at is 'today'"),
        (document_of(certificate_entry(tenant="")), r"certificates\[0\]\.tenant is ''"),
        (document_of(certificate_entry(), certificate_entry()), "certificates has the serial 'abc1' 2 times"),
        (document_of(token_entry(sha256="00")), r"tokens\[0\]\.sha256 is '00'; it must be 64"),
        (document_of(token_entry(tenant="")), r"tokens\[0\]\.tenant is ''; .*, or \* for all"),
        (document_of(token_entry(site_ids=("x",))), r"tokens\[0\]\.site_ids\[0\] is 'x'"),
        (document_of(token_entry(expires_at="2027-01-01")), r"tokens\[0\]\.expires_at is '2027-01-01'"),
        (document_of(token_entry(name="a\nb")), r"tokens\[0\]\.name is 'a\\nb'"),
        (document_of(token_entry(), token_entry(sha256="0" * 64)), "tokens has the name 'console' 2 times"),
        (document_of(token_entry(), token_entry(name="x")), "tokens has the sha256"),
    ],
)
def test_a_value_that_breaks_a_rule_is_named_with_it(
    path: Path, document: AccessDocument, message: str
) -> None:
    write(path, document)
    with pytest.raises(AccessFileError, match=message):
        read_document(path)


def test_a_change_that_breaks_a_rule_changes_nothing(path: Path) -> None:
    write_document(path, FULL)
    with pytest.raises(AccessFileError, match="trust_domain is ''"):
        update_document(path, lambda document: msgspec.structs.replace(document, trust_domain=""))
    assert read_document(path) == FULL


def test_a_change_that_raises_changes_nothing(path: Path) -> None:
    write_document(path, FULL)

    def fail(_document: AccessDocument) -> AccessDocument:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        update_document(path, fail)
    assert read_document(path) == FULL


def test_readers_see_a_whole_file_at_any_time(path: Path) -> None:
    write_document(path, AccessDocument())
    with path.open("rb") as before:
        update_document(path, lambda _document: FULL)
        # What was open is the file before, unchanged.
        assert msgspec.json.decode(before.read(), type=AccessDocument) == AccessDocument()


def test_what_a_killed_process_has_left_is_replaced(path: Path) -> None:
    left = path.with_name("access.json.new")
    left.write_bytes(b"{")
    left.chmod(0o644)
    write_document(path, FULL)
    assert read_document(path) == FULL
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not left.exists()


def test_without_the_folder_the_way_on_is_given(tmp_path: Path) -> None:
    with pytest.raises(AccessFileError, match=r"nowhere does not exist; run python -m trioder\.access init"):
        update_document(tmp_path / "nowhere" / "access.json", lambda document: document)


def test_a_file_that_cannot_be_written_is_named_and_leaves_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_document(path, AccessDocument())

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_document(path, FULL)
    assert caught.value.filename == str(path)
    assert read_document(path) == AccessDocument()
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["directory", "named pipe"])
def test_what_is_no_regular_file_is_refused(path: Path, make: Callable[[Path], None]) -> None:
    make(path)
    with pytest.raises(AccessFileError, match=r"access\.json cannot be read: it is not a regular file"):
        read_document(path)
