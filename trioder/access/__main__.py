"""`python -m trioder.access`: the private CA, certificates of servers and agents, and tokens."""

import getpass
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar, cast

import click
import msgspec

from trioder.access.ca import CA_KEY, EXPIRES_SOON, AccessError, load_ca_certificate
from trioder.access.directory import (
    AGENT_DAYS,
    CA_DAYS,
    SERVER_DAYS,
    AccessDirectory,
    CertificateFiles,
)
from trioder.access.document import (
    DEFAULT_TRUST_DOMAIN,
    AccessFileError,
    read_document,
)
from trioder.access.grants import AgentRequest
from trioder.access.listing import format_entries, format_tokens
from trioder.access.private_files import exposure
from trioder.domain.access import DEFAULT_TENANT, ROLES, Role
from trioder.domain.fleet import Fleet
from trioder.fleet import FleetFileError, load_fleet

Command = TypeVar("Command", bound=Callable[..., object])
_DAYS = click.IntRange(min=1, max=36500)
_FLEET_FILE = "assets.yaml"


class _Refused(click.ClickException):
    """Wrong usage or configuration."""

    exit_code = 2


@contextmanager
def _readable_errors() -> Iterator[None]:
    try:
        yield
    except (AccessError, AccessFileError, FleetFileError) as error:
        raise _Refused(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{error.filename or ''}: {error.strerror}") from None


def _folder_options(command: Command) -> Command:
    access_dir = click.option(
        "--access-dir",
        envvar="ACCESS_DIR",
        type=click.Path(file_okay=False, path_type=Path),
        show_envvar=True,
        help="The access directory.  [default: access in the state directory]",
    )
    state_dir = click.option(
        "--state-dir",
        envvar="STATE_DIR",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("var"),
        show_default=True,
        show_envvar=True,
        help="Where the headend keeps its data.",
    )
    return access_dir(state_dir(command))


def _fleet_option(command: Command) -> Command:
    return click.option(
        "--assets-path",
        envvar="ASSETS_PATH",
        type=click.Path(path_type=Path),
        show_envvar=True,
        help="The fleet file, against which sites and assets are checked.  "
        f"[default: {_FLEET_FILE}, if it exists]",
    )(command)


def _days_option(default: int) -> Callable[[Command], Command]:
    return click.option(
        "--days", type=_DAYS, help=f"Days until it expires.  [default: {default}, at most the CA's]"
    )


_if_needed = click.option(
    "--if-needed", is_flag=True, help="Keep a certificate that is good for 30 days or more."
)


def _directory(access_dir: Path | None, state_dir: Path, *, fleet: Fleet | None = None) -> AccessDirectory:
    directory = AccessDirectory(access_dir or state_dir / "access", user=_user(), fleet=fleet)
    for path in (directory.folder / CA_KEY, directory.path):
        if (reason := exposure(path)) is not None:
            click.echo(f"Warning: {path} can be read by others: {reason}", err=True)
    return directory


def _read_fleet(path: Path | None) -> Fleet | None:
    if path is None:
        path = Path(_FLEET_FILE)
        if not path.exists():
            click.echo(f"{path} does not exist: sites and assets are not checked", err=True)
            return None
    return load_fleet(path)


def _user() -> str:
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        # In a container without a password file.
        return f"uid {os.getuid()}"


@click.group(context_settings={"max_content_width": 100})
def main() -> None:
    """Issue, list and revoke certificates and tokens.

    A headend that runs reads the changes within a second. Exit codes: 2 is wrong usage or configuration,
    1 anything else that failed.
    """


@main.command()
@_folder_options
@click.option(
    "--trust-domain",
    default=DEFAULT_TRUST_DOMAIN,
    show_default=True,
    help="The first part of agents' identities; the CA can issue no others.",
)
@click.option("--days", type=_DAYS, default=CA_DAYS, show_default=True, help="Days until the CA expires.")
def init(*, access_dir: Path | None, state_dir: Path, trust_domain: str, days: int) -> None:
    """Make a private CA and an access file without entries."""
    directory = _directory(access_dir, state_dir)
    with _readable_errors():
        directory.initialise(trust_domain, days=days)
    click.echo(directory.folder / "ca.crt")
    click.echo("This certificate is for agents and clients; the key beside it stays here.", err=True)


@main.command("issue-server", short_help="Issue a headend's certificate.")
@_folder_options
@click.argument("hosts", metavar="HOST...", nargs=-1, required=True)
@_days_option(SERVER_DAYS)
@_if_needed
def issue_server(
    *, access_dir: Path | None, state_dir: Path, hosts: tuple[str, ...], days: int | None, if_needed: bool
) -> None:
    """Issue a certificate for a headend that is reached by these DNS names and IP addresses."""
    directory = _directory(access_dir, state_dir)
    with _readable_errors():
        files = directory.issue_server(hosts, days=days, if_needed=if_needed)
        _report([files], directory)


@main.command("issue-agent", short_help="Issue an agent's certificate, and grant it assets.")
@_folder_options
@_fleet_option
@click.argument("agent")
@click.option("--tenant", default=DEFAULT_TENANT, show_default=True, help="Whose assets.")
@click.option(
    "--site", "site_ids", metavar="ID", multiple=True, help="It speaks for all assets of this site."
)
@click.option("--asset", "asset_ids", metavar="ID", multiple=True, help="It speaks for this asset.")
@_days_option(AGENT_DAYS)
@_if_needed
def issue_agent(
    *,
    access_dir: Path | None,
    state_dir: Path,
    assets_path: Path | None,
    agent: str,
    tenant: str,
    site_ids: tuple[str, ...],
    asset_ids: tuple[str, ...],
    days: int | None,
    if_needed: bool,
) -> None:
    """Issue a certificate for an agent, and grant it sites or assets.

    A known agent gets another certificate and, if sites or assets are given, these in place of its others.
    Its earlier certificate stays valid until it expires or is revoked.
    """
    request = AgentRequest(
        agent=agent,
        tenant=tenant,
        site_ids=tuple(site_id.lower() for site_id in site_ids),
        asset_ids=tuple(asset_id.lower() for asset_id in asset_ids),
    )
    with _readable_errors():
        directory = _directory(access_dir, state_dir, fleet=_read_fleet(assets_path))
        _report(directory.issue_agents([request], days=days, if_needed=if_needed), directory)


@main.command("issue-agents", short_help="The same for all agents on standard input.")
@_folder_options
@_fleet_option
@_days_option(AGENT_DAYS)
@_if_needed
def issue_agents(
    *,
    access_dir: Path | None,
    state_dir: Path,
    assets_path: Path | None,
    days: int | None,
    if_needed: bool,
) -> None:
    """Issue certificates for all agents on standard input, or for none.

    Each line is an object of JSON, such as {"agent": "a1", "tenant": "default", "site_ids": [],
    "asset_ids": ["..."]}.
    """
    with _readable_errors():
        requests = _read_requests(sys.stdin.buffer.read())
        directory = _directory(access_dir, state_dir, fleet=_read_fleet(assets_path))
        _report(directory.issue_agents(requests, days=days, if_needed=if_needed), directory)


def _read_requests(text: bytes) -> list[AgentRequest]:
    decoder = msgspec.json.Decoder(AgentRequest)
    requests = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            requests.append(decoder.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise AccessError(f"standard input, line {number}: {error}") from None
    if not requests:
        raise AccessError("standard input has no agent; each line must be an object of JSON")
    return requests


@main.command(short_help="Revoke a certificate, or an agent.")
@_folder_options
@click.argument("what", metavar="SERIAL|AGENT")
def revoke(*, access_dir: Path | None, state_dir: Path, what: str) -> None:
    """Revoke one certificate, or all of an agent's together with what it was granted."""
    with _readable_errors():
        revoked = _directory(access_dir, state_dir).revoke(what)
    for entry in revoked:
        click.echo(f"revoked {entry.kind} {entry.name} {entry.serial}")
    if not revoked:
        click.echo(f"{what} has no certificate that was not revoked before", err=True)
    if any(entry.kind == "server" for entry in revoked):
        click.echo(
            "Agents and clients do not read revocations: they accept a server's certificate until it "
            "expires, or until they no longer trust the CA.",
            err=True,
        )


@main.command("list", short_help="List agents, their grants, and certificates.")
@_folder_options
@click.option("--json", "as_json", is_flag=True, help="Print one object of JSON.")
def list_all(*, access_dir: Path | None, state_dir: Path, as_json: bool) -> None:
    """List the CA, the agents and what they are granted, and all certificates."""
    directory = _directory(access_dir, state_dir)
    with _readable_errors():
        document = read_document(directory.path)
        ca = load_ca_certificate(directory.folder)
    click.echo(format_entries(document, ca, as_json=as_json))


@main.group()
def token() -> None:
    """Create, list and revoke tokens for REST."""


@token.command("create")
@_folder_options
@_fleet_option
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True, help="What it may do.")
@click.option("--tenant", required=True, help="Whose sites it sees; '*' for all.")
@click.option(
    "--site",
    "site_ids",
    metavar="ID",
    multiple=True,
    help="It sees this site.  [default: all of the tenant's]",
)
@click.option("--expires-days", type=_DAYS, help="Days until it expires.  [default: never]")
def create_token(
    *,
    access_dir: Path | None,
    state_dir: Path,
    assets_path: Path | None,
    name: str,
    role: str,
    tenant: str,
    site_ids: tuple[str, ...],
    expires_days: int | None,
) -> None:
    """Create a token and print it, once: the access file has its digest only."""
    with _readable_errors():
        fleet = _read_fleet(assets_path) if site_ids else None
        secret = _directory(access_dir, state_dir, fleet=fleet).create_token(
            name,
            role=cast("Role", role),
            tenant=tenant,
            site_ids=[site_id.lower() for site_id in site_ids],
            expires_days=expires_days,
        )
    try:
        click.echo(secret)
    except OSError as error:
        raise click.ClickException(
            f"the token {name} was made, and cannot be printed: {error.strerror}; revoke it"
        ) from None
    click.echo("It is not shown again. Use: curl -H 'Authorization: Bearer TOKEN'", err=True)


@token.command("list")
@_folder_options
@click.option("--json", "as_json", is_flag=True, help="Print one array of JSON.")
def list_tokens(*, access_dir: Path | None, state_dir: Path, as_json: bool) -> None:
    """List all tokens, also expired and revoked ones."""
    with _readable_errors():
        tokens = read_document(_directory(access_dir, state_dir).path).tokens
    click.echo(format_tokens(tokens, as_json=as_json))


@token.command("revoke")
@_folder_options
@click.argument("name")
def revoke_token(*, access_dir: Path | None, state_dir: Path, name: str) -> None:
    """Revoke a token."""
    with _readable_errors():
        _directory(access_dir, state_dir).revoke_token(name)
    click.echo(f"revoked {name}")


def _report(files: list[CertificateFiles], directory: AccessDirectory) -> None:
    """Print each certificate's path on standard output, and the rest on standard error."""
    for file in files:
        click.echo(file.certificate)
    issued = [file for file in files if file.issued]
    click.echo(
        f"{len(issued)} issued, {len(files) - len(issued)} kept; the keys are beside them (.key)", err=True
    )
    ca_end = load_ca_certificate(directory.folder).not_valid_after_utc
    if ca_end - datetime.now(UTC) < EXPIRES_SOON:
        click.echo(
            f"Warning: the CA expires at {ca_end:%Y-%m-%dT%H:%M:%SZ}, and all of these with it.", err=True
        )


if __name__ == "__main__":
    main()
