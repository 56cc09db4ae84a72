"""Completes the names of assets and sites from the headend, within a short time or not at all."""

import os
import shlex
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class

from trioder.cli.exit_codes import ConfigurationError
from trioder.cli.options import settings_of
from trioder.cli.printable import printable
from trioder.cli.settings import Settings

if TYPE_CHECKING:
    from trioder.client import HeadendClient

# For the headend's answer, for which the shell waits.
WITHIN_S = 1.0
_MAX_LENGTH = 80
_MAX_ITEMS = 200
# Beginnings of ids are completed from here on: with less, all names are listed.
_MIN_ID = 2

# Id, name and a description.
_Found = tuple[str, str, str]


class _Name(click.types.StringParamType):
    def read(self, client: "HeadendClient") -> list[_Found]:
        """Return all of them."""
        raise NotImplementedError

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002  # click's
        incomplete: str,
    ) -> list[CompletionItem]:
        """Return the names that begin so, and the ids."""
        try:
            settings = settings_of(ctx)
        except ConfigurationError:
            # Of a shell that completes nobody sees an error.
            return []
        return _items(_read_within(self.read, settings), incomplete)


class AssetName(_Name):
    """An asset: its exact name, its id, or the beginning of it."""

    name = "asset"

    def read(self, client: "HeadendClient") -> list[_Found]:
        """Return id, name and site of each."""
        return [(row.id, row.name, row.site_name) for row in client.assets()]


class SiteName(_Name):
    """A site: its exact name, its id, or the beginning of it."""

    name = "site"

    def read(self, client: "HeadendClient") -> list[_Found]:
        """Return id, name and location of each."""
        return [(row.id, row.name, row.location) for row in client.sites()]


class _QuotingBash(BashComplete):
    """Completion in bash, which inserts what it gets as it is: spaces of a name are escaped here."""

    def format_completion(self, item: CompletionItem) -> str:
        """Return a line of the answer."""
        typed = os.environ.get("COMP_WORDS", "")
        # In a word that begins with a quote bash inserts after it.
        is_quoted = typed.count('"') % 2 == 1 or typed.count("'") % 2 == 1
        if is_quoted or item.type != "plain":
            return super().format_completion(item)
        # The script reads it with `read`, which takes one backslash of two.
        return f"{item.type},{_escaped(item.value)}".replace("\\", "\\\\")


def install_completion() -> None:
    """Make click's completion in bash escape what it inserts."""
    add_completion_class(_QuotingBash)


def _escaped(text: str) -> str:
    return (
        text
        if shlex.quote(text) == text
        else "".join(
            character if character.isalnum() or character in "-_./+@%:," else f"\\{character}"
            for character in text
        )
    )


def _items(found: Iterable[_Found], incomplete: str) -> list[CompletionItem]:
    wanted = incomplete.lower()
    items = []
    for row_id, name, description in found:
        # A name that a shell or a terminal could obey is not offered: its id is.
        offered = name if 0 < len(name) <= _MAX_LENGTH and printable(name) == name else ""
        help_text = printable(description[:_MAX_LENGTH])
        if offered and name.lower().startswith(wanted):
            items.append(CompletionItem(name, help=help_text))
        elif len(wanted) >= _MIN_ID and row_id.startswith(wanted):
            items.append(CompletionItem(row_id, help=offered or help_text))
        if len(items) >= _MAX_ITEMS:
            break
    return items


def _read_within(read: "Callable[[HeadendClient], list[_Found]]", settings: Settings) -> list[_Found]:
    # Not within the time: importing depends on the machine alone.
    from trioder.cli.connection import open_client_once  # noqa: PLC0415  # other completions do without

    try:
        opened = open_client_once(settings)
    except ConfigurationError:
        return []
    found: list[_Found] = []

    def run() -> None:
        try:
            with opened as client:
                found.extend(read(client))
        except Exception:  # noqa: BLE001  # without an answer there are no names
            return

    # A thread bounds all of it, also the search for the address; it ends with the process.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(WITHIN_S)
    return [] if thread.is_alive() else found
