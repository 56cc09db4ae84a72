"""`trioder completion`: the shells' completion scripts, which click makes."""

import click
from click.shell_completion import get_completion_class

from trioder.cli.main import COMPLETION_VARIABLE
from trioder.cli.output import open_output

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands, options, assets and sites in a shell.

    \b
    bash:  trioder completion bash > ~/.local/share/bash-completion/completions/trioder
    zsh:   trioder completion zsh > a folder of $fpath, as _trioder
    fish:  trioder completion fish > ~/.config/fish/completions/trioder.fish
    """  # noqa: D301  # click's mark of lines that are not wrapped
    kind = get_completion_class(shell)
    if kind is None:  # pragma: no cover
        raise click.UsageError(f"click cannot complete in {shell}")
    source = kind(context.find_root().command, {}, "trioder", COMPLETION_VARIABLE).source()
    open_output(as_json=False).lines([source])
