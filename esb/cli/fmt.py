"""``esb fmt``: the YAML of a workspace in one layout."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from esb.cli import exits

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
    from esb.config.drafts import write_whole
    from esb.config.formatting import changed_lines, formatted, summary
    from esb.registry import load

    registry = load()
    if paths == (Path("-"),):
        result = formatted(sys.stdin.buffer.read(), "stdin", registry)
        sys.stdout.buffer.write(result.text.encode())
        sys.exit(exits.NO if result.problems or result.kept else exits.DONE)
    results: dict[str, bool] = {}
    broken = 0
    for path in dict.fromkeys(_files(paths or (Path(),))):
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
    if not (check or diff):
        click.echo(summary(results), err=True)
    sys.exit(exits.NO if broken or ((check or diff) and any(results.values())) else exits.DONE)


def _files(paths: tuple[Path, ...]) -> Iterator[Path]:
    for path in paths:
        if path.is_file():
            yield path
        elif not path.is_dir():
            raise exits.Exit(f"no file or folder {path}", exits.MISSING)
        elif any((path / name).exists() for name in ("esb.yaml", *_FOLDERS)):
            yield from [path / "esb.yaml"] if (path / "esb.yaml").is_file() else []
            for folder in _FOLDERS:
                yield from _below(path / folder)
        else:
            yield from _below(path)


def _below(folder: Path) -> Iterator[Path]:
    found = [path for path in folder.rglob("*") if path.suffix in (".yaml", ".yml") and path.is_file()]
    yield from sorted(
        path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
