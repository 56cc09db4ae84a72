"""`trioder watch`: the assets, live: a table on a terminal, lines elsewhere."""

import os
import sys
from typing import NoReturn

import click

from trioder.cli.completing import SiteName
from trioder.cli.connection import command_error, find_site, open_client
from trioder.cli.exit_codes import INTERRUPTED
from trioder.cli.live_assets import SORTS
from trioder.cli.live_frame import View
from trioder.cli.options import headend_command, output_of, settings_of
from trioder.cli.output import is_terminal
from trioder.cli.printable import line_of
from trioder.cli.quantities import Duration
from trioder.client import HeadendError


@headend_command("watch")
@click.option("--site", metavar="SITE", type=SiteName(), help="Only the assets of this site.")
@click.option("--sort", type=click.Choice(SORTS), default="fleet", show_default=True, help="The order.")
@click.option("--not-good", is_flag=True, help="Only those whose latest value is not good, or missing.")
@click.option("--for", "seconds", metavar="DURATION", type=Duration(), help="End after this time.")
def watch(
    context: click.Context, *, site: str | None, sort: str, not_good: bool, seconds: int | None
) -> None:
    """Follow the assets, live.

    On a terminal: a table; q or Ctrl-C ends it, s changes the order, n shows only what is not good, and the
    arrows and the space bar scroll. Elsewhere, or with --json: a line for each change.
    """
    output = output_of(context)
    settings = settings_of(context)
    site_ids: tuple[str, ...] = ()
    title = settings.url
    if site is not None:
        with open_client(context) as client:
            row = find_site(client, site)
        site_ids, title = (row.id,), f"{settings.url} {line_of(row.name, 60)}"
    # Imported here: the rest of the command line needs no event loop.
    from trioder.cli.watching import Watch, run_watch  # noqa: PLC0415

    watching = Watch(
        settings=settings,
        site_ids=site_ids,
        title=title,
        view=View(sort=sort, not_good=not_good),
        output=output,
        live=not output.as_json and is_terminal(sys.stdout) and os.environ.get("TERM") != "dumb",
        seconds=seconds,
    )
    try:
        code = run_watch(watching)
    except HeadendError as error:
        raise command_error(error, settings) from None
    except KeyboardInterrupt:
        _end(INTERRUPTED)
    if code:
        _end(code)


def _end(code: int) -> NoReturn:
    raise click.exceptions.Exit(code)
