"""Author commands: they work offline and start nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from esb.cli import exits


def line_reader(root: Path) -> Callable[[str], list[str]]:
    """Lines of a file of the workspace, for excerpts; a file that cannot be read has none."""
    known: dict[str, list[str]] = {}

    def read(path: str) -> list[str]:
        if path not in known:
            try:
                known[path] = (root / path).read_text(encoding="utf-8", errors="replace").splitlines()
            except OSError:
                known[path] = []
        return known[path]

    return read


@click.command()
@click.argument("directory", type=click.Path(path_type=Path), default=Path())
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Form of the report.",
)
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@click.option("--no-env", is_flag=True, help="Leave environment variables and secrets open.")
def lint(directory: Path, form: str, strict: bool, no_env: bool) -> None:
    """Check the workspace in DIRECTORY: every fault, with its place and what to write instead. Exit code 0 or 1."""
    from esb.config.diagnostics import render_json, render_text
    from esb.config.loader import load_workspace

    if not directory.is_dir():
        raise exits.Exit(
            f"no folder {directory}", exits.MISSING, hint="esb lint DIR, where DIR holds esb.yaml or routes/"
        )
    workspace, problems = load_workspace(directory.resolve(), resolve_env=not no_env, need_secrets=False)
    if form == "json":
        click.echo(json.dumps(render_json(problems), ensure_ascii=False, indent=2))
    else:
        report = render_text(problems, line_reader(directory))
        if report:
            click.echo(report)
        if not problems:
            routes = len(workspace.routes) if workspace is not None else 0
            click.echo(f"no problems in {routes} route{'s' if routes != 1 else ''}")
    bad = [problem for problem in problems if strict or problem.severity == "error"]
    sys.exit(exits.NO if bad else exits.DONE)


@click.command()
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file instead of stdout.")
def schema(out: Path | None) -> None:
    """The JSON Schema of route, connector and bus documents, for editors with a YAML language server."""
    from esb.config.editor import editor_schema
    from esb.registry import load

    text = json.dumps(editor_schema(load()), ensure_ascii=False, indent=2, default=str) + "\n"
    if out is None:
        click.echo(text, nl=False)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")


@click.command()
@click.argument("kind", required=False)
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help='Machine output: {"kind", "items"} on stdout.')
def catalog(kind: str | None, name: str | None, as_json: bool) -> None:
    """Every component (step, source, sink, connection, format), or one of them with its options."""
    from esb.cli.output import emit_json, table
    from esb.config.editor import catalog as build
    from esb.registry import load

    items = [item for item in build(load()) if kind in (None, item["family"]) and name in (None, item["name"])]
    if as_json:
        emit_json({"kind": "Catalog", "items": json.loads(json.dumps(items, default=str))})
        return
    if not items:
        raise exits.Exit(f"nothing is called {kind} {name or ''}".rstrip(), exits.MISSING, hint="esb catalog")
    if name is None:
        table(
            items,
            [("FAMILY", "family"), ("NAME", "name"), ("PATTERN", "pattern"), ("WHAT", "summary")],
            empty="nothing",
        )
        return
    for item in items:
        _describe(item)


def _describe(item: dict[str, Any]) -> None:
    click.echo(f"{item['family']} {item['name']}" + (f"  ({item['pattern']})" if item.get("pattern") else ""))
    click.echo(f"  {item['summary']}\n")
    for option in item["options"]:
        default = "required" if option.get("required") else f"default {option.get('default')}"
        click.echo(f"  {option['name']:<18} {option.get('type', '')}; {default}")
        click.echo(f"  {'':<18} {option['doc']}")


@click.command()
@click.argument("code")
def explain(code: str) -> None:
    """What the diagnostic CODE (such as ESB101) means and what to do."""
    from esb.config.codes import CODES

    known = CODES.get(code.upper())
    if known is None:
        raise exits.Exit(f"no code {code}", exits.MISSING, hint="codes look like ESB101; `esb lint` prints them")
    click.echo(f"{code.upper()}: {known.title}\n\n{known.text}")
