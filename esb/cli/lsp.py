"""``esb lsp``: the language server for editors."""

from __future__ import annotations

import click

from esb.cli import exits


@click.command()
def lsp() -> None:
    """Run the language server on stdin and stdout, for an editor: diagnostics with the codes of `esb lint`, completion of steps,
    options, connectors, contracts and fields of the body, hover, go to definition, fixes and formatting.

    Needs the extra `lsp`: `pip install plantbus[lsp]`.
    """
    try:
        from esb.lsp.server import make_server
    except ModuleNotFoundError as error:
        raise exits.Exit(
            f"the module {error.name} is not installed", exits.MISSING, hint="pip install plantbus[lsp]"
        ) from None
    make_server().start_io()
