"""Groups whose commands are imported when they are used: `trioder --help` imports none of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module

import click
from click.shell_completion import CompletionItem


@dataclass(frozen=True, slots=True, kw_only=True)
class LazyCommand:
    """A command by its place: a module, and the name in it.

    Attributes:
        section: of the help, under which it is listed.
        load: returns the command instead, where importing it is not all.
    """

    module: str
    attribute: str
    summary: str
    section: str = "Commands"
    load: Callable[[click.Context], click.Command] | None = None


class LazyGroup(click.Group):
    """A group of commands that are not imported yet.

    Args:
        lazy: the commands by their names, in the order of the help.
    """

    def __init__(self, *args: object, lazy: Mapping[str, LazyCommand], **settings: object) -> None:
        super().__init__(*args, **settings)  # type: ignore[arg-type]
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's
        """Return the names of all."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of that name."""
        place = self.lazy.get(cmd_name)
        if place is None:
            return None
        if place.load is not None:
            return place.load(ctx)
        command: click.Command = getattr(import_module(place.module), place.attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's
        """Write the summaries, by sections, without importing anything."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, place in self.lazy.items():
            sections.setdefault(place.section, []).append((name, place.summary))
        for section, rows in sections.items():
            with formatter.section(section):
                formatter.write_dl(rows, col_max=16)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands and options that begin so, without importing the commands."""
        found = [
            CompletionItem(name, help=place.summary)
            for name, place in self.lazy.items()
            if name.startswith(incomplete)
        ]
        # What click itself completes here: options.
        found += click.Command.shell_complete(self, ctx, incomplete)
        return found
