"""Author commands: they work offline and start nothing."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esb.cli import exits
from esb.cli.places import workspace_folder

if TYPE_CHECKING:
    from esb.config.lint_cache import Said
    from esb.config.loader import Loaded
    from esb.errors import Problem


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
    type=click.Choice(["text", "concise", "json", "github", "sarif", "junit"]),
    default="text",
    show_default=True,
    help="Form of the report: for people, one line each, for programs, GitHub annotations, SARIF 2.1.0, JUnit XML.",
)
@click.option("--fix", is_flag=True, help="Put right what can mean one thing only; comments and layout stay.")
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@click.option("--no-env", is_flag=True, help="Leave environment variables and secrets open.")
def lint(directory: Path, form: str, fix: bool, strict: bool, no_env: bool) -> None:
    """Check the workspace in DIRECTORY: every fault, with its place and what to write instead. Exit code 0 or 1."""
    from esb.config.lint_cache import LintCache

    root = workspace_folder(directory, "lint")
    cache = LintCache(root, ["no-env"] if no_env else [])
    state = cache.state()  # of the files as they are before they are read
    said = None if fix else cache.find(state)
    if said is None:
        said = _said(root, fix=fix, no_env=no_env)
        if not fix:
            cache.keep(state, said)
    _report(list(said.problems), form, directory, said.routes, strict=strict)
    bad = [problem for problem in said.problems if strict or problem.severity == "error"]
    sys.exit(exits.NO if bad else exits.DONE)


def _said(root: Path, *, fix: bool, no_env: bool) -> Said:
    """Read the workspace and its tests, and put right what can be."""
    gc.disable()  # neither the modules nor the workspace are garbage before the command ends: a fifth of its time
    try:
        from esb.config.lint_cache import Said
        from esb.config.loader import read_workspace
        from esb.testing.reader import read_suites

        def read() -> Loaded:
            return read_workspace(root, resolve_env=not no_env, need_secrets=False)

        loaded = _fixed(root, read) if fix else read()
        problems = loaded.problems + read_suites(root, lambda _: loaded.workspace)[1]
        return Said(tuple(problems), len(loaded.workspace.routes) if loaded.workspace is not None else 0)
    finally:
        gc.enable()


def _fixed(root: Path, read: Callable[[], Loaded]) -> Loaded:
    """The workspace after everything fixable was put right; says on stderr what was."""
    from esb.config.fixing import add_modelines, fix_workspace

    fixed = fix_workspace(root, read)
    paths = [path for path in fixed.loaded.documents if path.endswith((".yaml", ".yml"))]
    lines = add_modelines(root, paths)
    if fixed.count:
        click.echo(f"fixed {_count(fixed.count, 'place')} in {', '.join(fixed.files)}", err=True)
    if lines:
        click.echo(f"added the editor's line to {_count(len(lines), 'file')}", err=True)
    return read() if lines else fixed.loaded


def _report(problems: list[Problem], form: str, directory: Path, routes: int, *, strict: bool) -> None:
    from esb.config import diagnostics, reports
    from esb.config.fixes import fix_of

    lines = line_reader(directory)
    prefix = "" if directory.is_absolute() or directory == Path() else f"{directory.as_posix()}/"
    clean = f"no problems in {_count(routes, 'route')}"
    match form:
        case "json":
            click.echo(json.dumps(diagnostics.render_json(problems), ensure_ascii=False, indent=2))
        case "sarif":
            click.echo(json.dumps(reports.render_sarif(problems, lines), ensure_ascii=False, indent=2))
        case "junit":
            click.echo(reports.render_junit(problems, lines, prefix, strict=strict, passed=clean), nl=False)
        case "github":
            click.echo(reports.render_github(problems, prefix), nl=bool(problems))
        case "concise":
            click.echo(reports.render_concise(problems), nl=bool(problems))
        case _ if problems:
            fixable = sum(fix_of(problem, lines) is not None for problem in problems)
            more = f" · {fixable} fixable: esb lint --fix" if fixable else ""
            click.echo(diagnostics.render_text(problems, lines) + more)
        case _:
            click.echo(clean)


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")


@click.command()
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file instead of stdout.")
def schema(out: Path | None) -> None:
    """The JSON Schema of route, connector and bus documents, for editors with a YAML language server."""
    from esb.config.drafts import write_whole
    from esb.config.editor import editor_schema
    from esb.registry import load

    text = json.dumps(editor_schema(load()), ensure_ascii=False, indent=2, default=str) + "\n"
    if out is None:
        click.echo(text, nl=False)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, text)


@click.command()
@click.argument("kind", required=False)
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help='Machine output: {"kind", "items"} on stdout.')
def catalog(kind: str | None, name: str | None, as_json: bool) -> None:
    """Every component (step, source, sink, connection, format) and kind of document, or one of them with its options."""
    from esb.cli.output import emit_json, table
    from esb.config.editor import catalog as build
    from esb.config.editor import documents
    from esb.registry import load

    known = [*build(load()), *documents()]
    items = [item for item in known if kind in (None, item["family"]) and name in (None, item["name"])]
    if not items:
        meant = [f"esb catalog {item['family']} {item['name']}" for item in known if kind == item["name"]]
        raise exits.Exit(
            f"nothing is called {kind} {name or ''}".rstrip(), exits.MISSING, hint=" or ".join(meant) or "esb catalog"
        )
    if as_json:
        emit_json({"kind": "Catalog", "items": json.loads(json.dumps(items, default=str))})
        return
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
