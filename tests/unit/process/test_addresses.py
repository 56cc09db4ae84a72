import contextlib

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from trioder.process.addresses import (
    Address,
    AddressType,
    Endpoint,
    EndpointType,
    host_of_peer,
    parse_address,
    parse_endpoint,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:50051", Address("127.0.0.1", 50051)),
        ("localhost:0", Address("localhost", 0)),
        ("http://headend.example:65535", Address("headend.example", 65535)),
        ("HTTP://headend_1:80/", Address("headend_1", 80)),
        ("[::1]:50051", Address("::1", 50051)),
        ("http://[2001:db8::1]:1", Address("2001:db8::1", 1)),
        (" a:1 ", Address("a", 1)),
    ],
)
def test_addresses_are_read(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "must be host:port"),
        ("localhost", "must be host:port"),
        ("localhost:", "must be host:port"),
        ("localhost:http", "must be host:port"),
        ("localhost:-1", "must be host:port"),
        ("::1:50051", "must be host:port"),
        ("https://localhost:1", "must be host:port"),
        ("http://localhost:1/path", "must be host:port"),
        ("localhost:65536", r"in 0\.\.65535"),
        (":50051", "must be a name or an IP address"),
        ("a b:1", "must be a name or an IP address"),
        ("user@host:1", "must be a name or an IP address"),
        ("[localhost]:1", "not an IPv6 address"),
        ("[]:1", "not an IPv6 address"),
        ("localhost:٣", "must be host:port"),
    ],
)
def test_what_is_no_address_is_refused_by_value_and_rule(text: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule) as refusal:
        parse_address(text)
    assert repr(text) in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("headend:50051", Endpoint("headend", 50051)),
        ("http://headend:50051", Endpoint("headend", 50051)),
        ("https://headend:50051", Endpoint("headend", 50051, tls=True)),
        (" HTTPS://[2001:db8::1]:443/ ", Endpoint("2001:db8::1", 443, tls=True)),
    ],
)
def test_https_makes_an_endpoint_tls(text: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(text) == endpoint


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("headend", "must be host:port"),
        ("https://headend", "must be host:port"),
        ("https://https://h:1", "must be https://host:port"),
        ("https://http://h:1", "must be https://host:port"),
        ("ftp://h:1", "must be host:port"),
        ("https://h:0", r"in 1\.\.65535"),
        ("https://h:65536", r"in 0\.\.65535"),
    ],
)
def test_what_is_no_endpoint_is_refused_by_rule(text: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        parse_endpoint(text)


@given(st.ip_addresses(), st.integers(1, 65535), st.booleans())
def test_an_endpoint_that_is_written_is_read_back(host: object, port: int, tls: bool) -> None:
    endpoint = Endpoint(str(host), port, tls)
    assert parse_endpoint(str(endpoint)) == endpoint
    assert endpoint.authority == str(Address(str(host), port))


@given(st.ip_addresses(), st.integers(0, 65535))
def test_what_is_written_is_read_back(host: object, port: int) -> None:
    address = Address(str(host), port)
    assert parse_address(str(address)) == address


@given(st.text(max_size=60))
def test_no_text_makes_it_raise_anything_else(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse_address(text)


@click.command()
@click.option("--at", type=AddressType(), default=Address("::1", 7), show_default=True)
def command(at: Address) -> None:
    click.echo(f"{at.host} {at.port}")


def test_an_option_yields_the_address() -> None:
    assert CliRunner().invoke(command, ["--at", "http://a:1"]).output == "a 1\n"


def test_the_default_may_be_an_address() -> None:
    assert CliRunner().invoke(command, []).output == "::1 7\n"


def test_an_option_with_a_wrong_address_is_a_usage_error() -> None:
    result = CliRunner().invoke(command, ["--at", "a:70000"])
    assert result.exit_code == 2
    assert "'a:70000' has the port 70000" in result.output


def test_an_option_yields_the_endpoint() -> None:
    @click.command()
    @click.option("--at", type=EndpointType())
    def connected(at: Endpoint) -> None:
        click.echo(f"{at.host} {at.port} {at.tls}")

    assert CliRunner().invoke(connected, ["--at", "https://a:1"]).output == "a 1 True\n"
    result = CliRunner().invoke(connected, ["--at", "https://a:0"])
    assert (result.exit_code, "has the port 0" in result.output) == (2, True)


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("10.0.0.1:4711", "10.0.0.1"),
        ("[2001:db8:1:2:3:4:5:6]:4711", "2001:db8:1:2::/64"),
        ("[fe80::1%eth0]:4711", "fe80::/64"),
        ("[::ffff:10.0.0.1]:4711", "10.0.0.1"),
        ("[::1]:1", "::/64"),
        ("in memory", ""),
        ("", ""),
    ],
)
def test_limits_count_by_host_and_by_network_of_ipv6(peer: str, host: str) -> None:
    assert host_of_peer(peer) == host
