"""The command line. Commands load when they are called, so that ``esb --help`` is quick."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import click

from esb import __version__
from esb.cli.streams import piped

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

#: command -> (module, attribute, one line of help); the help stands here so that listing imports nothing
COMMANDS: dict[str, tuple[str, str, str]] = {
    "run": ("esb.cli.run", "run", "Run the bus of a workspace in the foreground."),
    "dev": ("esb.cli.dev", "dev", "Run for writing routes: watch, lint, tests on save, stubs."),
    "lint": ("esb.cli.author", "lint", "Check a workspace; every fault with place and remedy."),
    "init": (
        "esb.cli.scaffold",
        "init",
        "Make a workspace: the reference bus, files from a folder, or one small route.",
    ),
    "new": ("esb.cli.scaffold", "new", "Write a route, connector or contract to begin with."),
    "graph": ("esb.cli.inspect", "graph", "How routes, topics and systems hang together."),
    "config": ("esb.cli.inspect", "config", "The settings in force; secrets are never shown."),
    "ping": ("esb.cli.inspect", "ping", "Whether the systems behind the connectors answer."),
    "doctor": ("esb.cli.doctor", "doctor", "Whether this machine and workspace can carry a bus, and what to do."),
    "report": ("esb.cli.report", "report", "A support bundle without secrets."),
    "service": ("esb.cli.service", "service", "Files for systemd, Windows and containers."),
    "test": ("esb.cli.test", "test", "Run the tests of routes: real bus, virtual time, no network."),
    "plan": ("esb.cli.plan", "plan", "What a change would do before it is live, tried on stored messages."),
    "fmt": ("esb.cli.fmt", "fmt", "Lay out the YAML of a workspace; what it means stays."),
    "try": ("esb.cli.attempt", "attempt", "A transformation on a payload, once or in a local playground."),
    "capture": ("esb.cli.capture", "capture", "A stored message as a masked case of its route's test."),
    "lsp": ("esb.cli.lsp", "lsp", "The language server for editors, on stdin and stdout."),
    "contracts": (
        "esb.cli.contracts",
        "contracts",
        "Contracts: who uses them, what changed, whether that breaks somebody.",
    ),
    "impact": ("esb.cli.impact", "impact", "What hangs on a field, contract, system, table or topic."),
    "schema": ("esb.cli.author", "schema", "Write the editor's JSON Schema of route files."),
    "catalog": ("esb.cli.author", "catalog", "Steps, endpoints and formats with their options."),
    "explain": ("esb.cli.outline", "explain", "What a code means, or what a route does, in plain words."),
    "completion": ("esb.cli.completion", "completion", "What makes a shell complete commands, options and names."),
    "docs": ("esb.cli.outline", "docs", "The catalogue of a workspace as pages, OpenAPI and AsyncAPI."),
    "send": ("esb.cli.operate", "send", "Send a message to a route."),
    "status": ("esb.cli.operate", "status", "Every route: state, counts, oldest message."),
    "top": ("esb.cli.live", "top", "The routes, live: what is going on, and what needs a person."),
    "tail": ("esb.cli.live", "tail", "Messages as they arrive and end."),
    "routes": ("esb.cli.routes", "routes", "List, pause, resume; versions, differences and the way back."),
    "sites": ("esb.cli.sites", "sites", "Plants from templates: list, add, check, compare."),
    "messages": ("esb.cli.operate", "messages", "Find, show and export messages."),
    "trace": ("esb.cli.operate", "trace", "What happened to a key, lot, correlation or message id."),
    "dlq": ("esb.cli.dead", "dlq", "Dead letters: list, group, show, retry, edit, discard."),
    "replay": ("esb.cli.dead", "replay", "Run done or dead messages again as new ones."),
    "audit": ("esb.cli.audit", "audit", "Who did what and why; verify the chain."),
    "approvals": ("esb.cli.approvals", "approvals", "What waits for a second person."),
    "users": ("esb.cli.people", "users", "Users of the pages and the API, their roles."),
    "tokens": ("esb.cli.people", "tokens", "API tokens: create, list, revoke."),
    "secrets": ("esb.cli.secrets", "secrets", "Secrets by name: where each comes from, what is missing; set one."),
    "evidence": ("esb.cli.evidence", "evidence", "Everything about a lot as one verifiable archive."),
    "reconcile": ("esb.cli.reconcile", "reconcile", "Differences between systems: list, show, accept."),
    "metrics": ("esb.cli.metrics", "metrics", "A Grafana dashboard and alert rules for Prometheus."),
    "hold": ("esb.cli.hold", "hold", "Legal holds: messages that retention must leave."),
    "trend": ("esb.cli.trend", "trend", "How the bus, a route or an indicator went, as the charts show it."),
    "kpi": ("esb.cli.kpi", "kpi", "Indicators: their numbers, and what is open."),
    "alerts": ("esb.cli.kpi", "alerts", "What the rules of the alerts hold for now."),
    "db": ("esb.cli.store", "db", "Verify, back up, restore and prune the store."),
}


#: 128 and the number of SIGINT, which is what a shell makes of a program that Ctrl-C ended.
_INTERRUPTED = 130


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
        wrong = args and args[0] not in COMMANDS and not args[0].startswith("-")
        if wrong and not ctx.resilient_parsing:  # a shell that completes a line wants no words about it
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean `{close[0]}`?" if close else ""
            raise click.UsageError(f"No such command `{args[0]}`.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Commands by their one line of help: asking each command itself would import them all."""
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=about) for name, (_, _, about) in COMMANDS.items() if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def make_context(self, *args: Any, **words: Any) -> click.Context:
        """What is printed here is help, whose reader may have seen enough."""
        with piped():
            return super().make_context(*args, **words)

    def invoke(self, ctx: click.Context) -> Any:
        """Ctrl-C in a command that has no other word for it is 130, as a shell says it, and no "the check says no"."""
        try:
            with piped():
                return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            raise click.exceptions.Exit(_INTERRUPTED) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, _, about) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="esb")
def cli() -> None:
    """A lightweight enterprise service bus with declarative YAML routes."""


def main(argv: list[str] | None = None) -> Any:
    """Entry point of the command ``esb``; turns errors into exit codes (docs: "Exit codes")."""
    try:
        return _main(argv)
    except KeyboardInterrupt:  # while it is still being loaded
        sys.exit(_INTERRUPTED)


def _main(argv: list[str] | None) -> Any:
    from esb.cli.streams import encode, secure

    secure()
    encode()
    from esb.cli.exits import check_planted, guarded

    check_planted()
    with guarded():
        return cli.main(args=argv, prog_name="esb", standalone_mode=True)
