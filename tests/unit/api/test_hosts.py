"""Which hosts the REST port accepts."""

import pytest

from trioder.api.http.hosts import AllowedHosts, parse_host


@pytest.mark.parametrize(
    ("bound", "local", "allowed"),
    [
        ("10.0.0.5", "10.0.0.5", ["10.0.0.5", "10.0.0.5:3001", "localhost", "127.0.0.1:3001", "[::1]"]),
        ("headend.lan", "10.0.0.5", ["HEADEND.lan", "headend.lan:3001", "10.0.0.5", "localhost"]),
        # Bound to every address: the local address of the connection is allowed.
        ("0.0.0.0", "192.0.2.7", ["192.0.2.7:3001", "localhost:3001"]),  # not listened on
        ("::", "fe80::1%eth0", ["[fe80::1]:3001", "[FE80:0:0:0:0:0:0:1]"]),
    ],
)
def test_the_bound_address_and_loopback_are_allowed_by_default(
    bound: str, local: str, allowed: list[str]
) -> None:
    hosts = AllowedHosts.of_address(bound)
    assert [host for host in allowed if not hosts.allows(host, local_address=local)] == []
    assert not hosts.allows("192.0.2.8", local_address=local)
    assert not hosts.allows("evil.example", local_address=local)


def test_a_host_with_a_port_is_allowed_on_that_port_only() -> None:
    hosts = AllowedHosts(["a.example:3001", "b.example", "c.example:80"])
    allowed = ["a.example:3001", "b.example", "b.example:1", "c.example", "c.example:80"]
    refused = ["a.example", "a.example:3002", "c.example:443", "localhost"]
    assert [hosts.allows(host, local_address="127.0.0.1") for host in allowed + refused] == [True] * 5 + [
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
def test_text_that_is_not_a_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a host|has the port|not an IPv6 address"):
        parse_host(text)
    assert not AllowedHosts.of_address("localhost").allows(text, local_address=None)
