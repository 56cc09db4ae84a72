"""The headend's client for a command: opened with its settings, its errors with exit codes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from trioder.cli.exit_codes import (
    FAILED,
    FORBIDDEN,
    NOT_FOUND,
    UNREACHABLE,
    CommandError,
    ConfigurationError,
)
from trioder.cli.names import find_named, is_whole_id
from trioder.cli.options import settings_of
from trioder.cli.printable import line_of
from trioder.cli.settings import CA_VARIABLE, TOKEN_VARIABLE, URL_VARIABLE, Settings
from trioder.client import (
    Forbidden,
    HeadendClient,
    HeadendError,
    HeadendUnavailable,
    NotFound,
    Unauthorized,
)
from trioder.client.retries import RETRIES

if TYPE_CHECKING:
    from trioder.schemas.resources import AssetRow, SiteRow

# Of what the headend says.
_MAX_MESSAGE = 1000


@contextmanager
def open_client(context: click.Context) -> Iterator[HeadendClient]:
    """Yield a client of the headend that the options, the environment or the configuration file name.

    Raises:
        CommandError: a request did not succeed, or the settings cannot be used.
    """
    settings = settings_of(context)
    with headend_errors(settings), _client_of(settings) as client:
        yield client


@contextmanager
def headend_errors(settings: Settings) -> Iterator[None]:
    """Turn the client's errors into messages and exit codes.

    Raises:
        CommandError: instead of each.
    """
    try:
        yield
    except HeadendError as error:
        raise command_error(error, settings) from None


def command_error(error: HeadendError, settings: Settings) -> CommandError:
    """Return the message and the exit code of an error of the client."""
    text = line_of(str(error), _MAX_MESSAGE)
    match error:
        case HeadendUnavailable(status=None):
            return CommandError(
                f"the headend at {settings.url} cannot be reached: {text}\n"
                f"Its address is set by --url, {URL_VARIABLE} or a profile, its CA by --ca or {CA_VARIABLE}.",
                UNREACHABLE,
            )
        case HeadendUnavailable():
            return CommandError(f"the headend at {settings.url} cannot answer now: {text}", UNREACHABLE)
        case Unauthorized():
            hint = "" if settings.token else f"; set {TOKEN_VARIABLE}, --token-file or a profile"
            return CommandError(f"unauthorized: {text}{hint}", FORBIDDEN)
        case Forbidden():
            return CommandError(f"forbidden: {text}", FORBIDDEN)
        case NotFound():
            return CommandError(text, NOT_FOUND)
        case _:
            return CommandError(text, FAILED)


def find_assets(client: HeadendClient, names: tuple[str, ...]) -> list["AssetRow"]:
    """Return the assets that a user names.

    Raises:
        CommandError: a name is that of none, or of several.
    """
    if len(names) == 1 and is_whole_id(names[0]):
        return [client.asset(names[0].lower())]
    rows = list(client.assets())
    return [find_named(rows, name, "asset") for name in names]


def find_asset_id(client: HeadendClient, name: str) -> str:
    """Return the id of the asset that a user names; a whole id is not checked, the asset may be retired.

    Raises:
        CommandError: the name is that of none, or of several.
    """
    return name.lower() if is_whole_id(name) else find_assets(client, (name,))[0].id


def find_site(client: HeadendClient, name: str) -> "SiteRow":
    """Return the site that a user names.

    Raises:
        CommandError: the name is that of none, or of several.
    """
    return find_named(client.sites(), name, "site")


def asset_names(client: HeadendClient) -> dict[str, str]:
    """Return the names of all assets by their ids."""
    return {row.id: row.name for row in client.assets()}


def open_client_once(settings: Settings) -> HeadendClient:
    """Return a client that asks once: for completion, which waits for no headend that is away.

    Raises:
        ConfigurationError: the address or the CA cannot be used.
    """
    return _client_of(settings, retries=0)


@contextmanager
def configuration_errors(settings: Settings) -> Iterator[None]:
    """Turn errors of the address and the CA into usage errors.

    Raises:
        ConfigurationError: instead of each.
    """
    try:
        yield
    except ValueError as error:
        raise ConfigurationError(line_of(str(error))) from None
    except OSError as error:
        raise ConfigurationError(f"the CA {settings.ca} cannot be read: {error.strerror or error}") from None


def _client_of(settings: Settings, *, retries: int = RETRIES) -> HeadendClient:
    with configuration_errors(settings):
        # An empty token: the client itself would read the environment.
        return HeadendClient(settings.url, token=settings.token or "", ca_file=settings.ca, retries=retries)
