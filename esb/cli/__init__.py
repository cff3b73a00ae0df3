"""The command line. Commands load when they are called, so that ``esb --help`` is quick."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from esb import __version__

#: command -> (module, attribute, one line of help); the help stands here so that listing imports nothing
COMMANDS: dict[str, tuple[str, str, str]] = {
    "run": ("esb.cli.run", "run", "Run the bus of a workspace in the foreground."),
    "lint": ("esb.cli.author", "lint", "Check a workspace; every fault with place and remedy."),
    "schema": ("esb.cli.author", "schema", "Write the editor's JSON Schema of route files."),
    "catalog": ("esb.cli.author", "catalog", "Steps, endpoints and formats with their options."),
    "explain": ("esb.cli.author", "explain", "What a diagnostic code means and what to do."),
    "send": ("esb.cli.operate", "send", "Send a message to a route."),
    "status": ("esb.cli.operate", "status", "Every route: state, counts, oldest message."),
    "routes": ("esb.cli.operate", "routes", "List, pause and resume routes."),
    "messages": ("esb.cli.operate", "messages", "Find, show and export messages."),
    "trace": ("esb.cli.operate", "trace", "What happened to a key, lot, correlation or message id."),
    "dlq": ("esb.cli.dead", "dlq", "Dead letters: list, group, show, retry, edit, discard."),
    "replay": ("esb.cli.dead", "replay", "Run done or dead messages again as new ones."),
    "audit": ("esb.cli.audit", "audit", "Who did what and why; verify the chain."),
    "db": ("esb.cli.audit", "db", "Verify the store."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        known = COMMANDS.get(cmd_name)
        if known is None:
            return None
        command: click.Command = getattr(importlib.import_module(known[0]), known[1])
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean `{close[0]}`?" if close else ""
            raise click.UsageError(f"No such command `{args[0]}`.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, _, about) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="esb")
def cli() -> None:
    """A lightweight enterprise service bus with declarative YAML routes."""


def main(argv: list[str] | None = None) -> Any:
    """Entry point of the command ``esb``; turns errors into exit codes (docs: "Exit codes")."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")  # a console that is not UTF-8 must not break a command
    from esb.cli.exits import guarded

    with guarded():
        return cli.main(args=argv, prog_name="esb", standalone_mode=True)
