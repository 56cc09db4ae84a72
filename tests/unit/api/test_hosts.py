"""Which hosts a port answers for."""

import pytest

from trioder.api.http.hosts import KnownHosts, parse_host


@pytest.mark.parametrize(
    ("bound", "local", "known"),
    [
        ("10.0.0.5", "10.0.0.5", ["10.0.0.5", "10.0.0.5:3001", "localhost", "127.0.0.1:3001", "[::1]"]),
        ("headend.lan", "10.0.0.5", ["HEADEND.lan", "headend.lan:3001", "10.0.0.5", "localhost"]),
        # Bound to every address, it is known by the one that the client has found it at.
        ("0.0.0.0", "192.0.2.7", ["192.0.2.7:3001", "localhost:3001"]),  # not listened on
        ("::", "fe80::1%eth0", ["[fe80::1]:3001", "[FE80:0:0:0:0:0:0:1]"]),
    ],
)
def test_by_default_a_port_is_known_by_its_address_and_those_of_loopback(
    bound: str, local: str, known: list[str]
) -> None:
    hosts = KnownHosts.of_address(bound)
    assert [host for host in known if not hosts.knows(host, local_address=local)] == []
    assert not hosts.knows("192.0.2.8", local_address=local)
    assert not hosts.knows("evil.example", local_address=local)


def test_a_host_with_a_port_is_known_on_that_port_only() -> None:
    hosts = KnownHosts(["a.example:3001", "b.example", "c.example:80"])
    known = ["a.example:3001", "b.example", "b.example:1", "c.example", "c.example:80"]
    unknown = ["a.example", "a.example:3002", "c.example:443", "localhost"]
    assert [hosts.knows(host, local_address="127.0.0.1") for host in known + unknown] == [True] * 5 + [
        False
    ] * 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a b",
        "http://a",
        "a/b",
        "a@b",
        "a:",
        "a:x",
        "a:99999",
        "[::1",
        "::1",
        "[zz]",
        "[1.2.3]",
        "-",
        "é",
        "*",
    ],
)
def test_what_is_no_host_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a host|has the port|not an IPv6 address"):
        parse_host(text)
    assert not KnownHosts.of_address("localhost").knows(text, local_address=None)
