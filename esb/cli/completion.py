"""``esb completion``: what makes a shell complete the words of ``esb``."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish", "powershell")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print what makes SHELL complete commands, options and the names of routes, systems, templates and sites.

    \b
      bash        eval "$(esb completion bash)"         in ~/.bashrc
      zsh         eval "$(esb completion zsh)"          in ~/.zshrc, below compinit
      fish        esb completion fish > ~/.config/fish/completions/esb.fish
      powershell  esb completion powershell | Out-String | Invoke-Expression         in $PROFILE
    """
    from click.shell_completion import get_completion_class

    from esb.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None
    # the function that click prints for fish cuts a description at its first comma
    text = kind(cli, {}, "esb", "_ESB_COMPLETE").source().replace('string split ","', 'string split -m 1 ","')
    click.echo(text, nl=False)
