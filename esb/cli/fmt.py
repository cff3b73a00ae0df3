"""``esb fmt``: the YAML of a workspace in one layout."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import click

from esb.cli import exits
from esb.errors import Position, Problem

_FOLDERS = ("routes", "connectors")


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 where something would change.")
@click.option("--diff", is_flag=True, help="Change nothing; show what would.")
def fmt(paths: tuple[Path, ...], check: bool, diff: bool) -> None:
    """Lay out the YAML of PATHS: files, or folders of workspaces (the current one by default); `-` formats stdin to stdout.

    Two spaces, one way to write braces and lists, keys of routes, connectors and steps in one order. Comments, quotes, numbers
    and the breaks of long lines stay as they are written. What a file means is compared before and after; nothing is changed
    where it would differ, or where the file cannot be read.
    """
    from esb.config.diagnostics import render_text
    from esb.config.drafts import write_whole
    from esb.config.formatting import changed_lines, formatted, summary
    from esb.registry import load

    registry = load()
    if paths == (Path("-"),):
        result = formatted(sys.stdin.buffer.read(), "stdin", registry)
        sys.stdout.buffer.write(result.text.encode())
        sys.exit(exits.NO if result.problems or result.kept else exits.DONE)
    results: dict[str, bool] = {}
    closed: list[Problem] = []
    broken = 0
    for path in dict.fromkeys(_files(paths or (Path(),), closed.append)):
        before = path.read_bytes()
        result = formatted(before, str(path), registry)
        for problem in result.problems:
            click.echo(str(problem), err=True)
        if result.kept:
            click.echo(f"{path}: left as it is: {result.kept}", err=True)
        broken += bool(result.problems or result.kept)
        after = result.text.encode()
        results[str(path)] = changed = not (result.problems or result.kept) and after != before
        if changed and diff:
            click.echo("\n".join([str(path), *changed_lines(before.decode("utf-8-sig"), result.text)]))
        elif changed and check:
            click.echo(f"{path}: would be formatted")
        elif changed:
            write_whole(path, after)
    if closed:
        click.echo(render_text(closed, lambda _: ()), err=True)
    if not (check or diff):
        click.echo(summary(results), err=True)
    sys.exit(exits.NO if broken or closed or ((check or diff) and any(results.values())) else exits.DONE)


def _files(paths: tuple[Path, ...], report: Callable[[Problem], None]) -> Iterator[Path]:
    for path in paths:
        if path.is_file():
            yield path
        elif not path.is_dir():
            raise exits.Exit(f"no file or folder {path}", exits.MISSING)
        elif any(os.path.lexists(path / name) for name in ("esb.yaml", *_FOLDERS)):
            yield from [path / "esb.yaml"] if (path / "esb.yaml").is_file() else []
            for folder in _FOLDERS:
                yield from _below(path, folder, report)
        else:
            yield from _below(path, "", report)


def _below(root: Path, folder: str, report: Callable[[Problem], None]) -> Iterator[Path]:
    """The files of YAML in a folder; one that cannot be listed is a problem, as for lint, and not an empty one."""
    from esb.config.files import Files

    def told(problem: Problem) -> None:
        report(replace(problem, position=Position(str(root / problem.position.path))))

    yield from (path for name in Files(root, told).find(folder, ".yaml", ".yml") if (path := root / name).is_file())
