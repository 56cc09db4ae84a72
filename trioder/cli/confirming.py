"""Asks before a command to the whole fleet."""

import sys

import click

from trioder.cli.exit_codes import FAILED, CommandError
from trioder.cli.output import is_terminal


def confirm(question: str, *, yes: bool) -> None:
    """Return if the user agrees.

    Args:
        question: what will be done.
        yes: the option that agrees beforehand.

    Raises:
        CommandError: the user does not agree.
        UsageError: there is nobody to ask.
    """
    if yes:
        return
    if not is_terminal(sys.stdin):
        raise click.UsageError("standard input is no terminal, where you could confirm; add --yes")
    if not click.confirm(question, err=True):
        raise CommandError("nothing was done", FAILED)
