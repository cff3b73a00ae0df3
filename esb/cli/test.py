"""``esb test``: the routes of a workspace against their tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esb.cli import exits
from esb.cli.places import workspace_folder

if TYPE_CHECKING:
    from esb.testing.again import Reading
    from esb.testing.model import Case, Suite
    from esb.testing.results import Result


@click.command()
@click.argument("directory", type=click.Path(path_type=Path), default=Path())
@click.option("-k", "expression", metavar="EXPR", default="", help="Only cases with these words: `hold and not erp`.")
@click.option("--json", "as_json", is_flag=True, help='Machine output: {"kind", "items"} on stdout.')
@click.option(
    "--junit", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write a JUnit report, too."
)
@click.option("--update", is_flag=True, help="What cases with `snapshot: true` do now is right: write it.")
@click.option(
    "--coverage",
    is_flag=True,
    help="Route by route, those without a test too: every step and branch that no case took.",
)
@click.option("--watch", is_flag=True, help="Go on: run what a save is about, and what failed before; Ctrl-C ends.")
def test(directory: Path, expression: str, watch: bool, **wanted: Any) -> None:
    """Run the route tests (routes/**/*.test.yaml) of the workspace in DIRECTORY.

    The bus of a test is the real one, with a store of its own. Time passes only where everything waits, connections do not
    exist, and targets answer what the test says. The environment and the secrets of the machine are not read.

    Exit code 0: all passed. 1: one failed. 66: no test was found. 78: the workspace or a test file has faults. With --watch
    it is that of the last run.
    """
    root = workspace_folder(directory, "test")
    if watch:
        if others := [
            f"--{name.removeprefix('as_')}" for name, value in wanted.items() if value and name != "coverage"
        ]:
            raise click.UsageError(f"--watch tells people what a save did; leave out {' and '.join(others)}")
        from esb.cli.retest import retest

        sys.exit(retest(root, expression, coverage=wanted["coverage"]))
    sys.exit(_once(root, expression, **wanted))


def _once(root: Path, expression: str, *, as_json: bool, junit: Path | None, update: bool, coverage: bool) -> int:
    from esb.cli.output import emit_json
    from esb.config.drafts import write_whole
    from esb.errors import ConfigError
    from esb.testing import report
    from esb.testing.again import Reading
    from esb.testing.results import as_item
    from esb.testing.snapshots import Snapshots

    reading = Reading(root)
    snapshots = Snapshots(root, update)
    try:
        cases = chosen(reading, expression)
        ran = reading.runner.run(cases, snapshots)
        results = list(ran if as_json else told(ran))
    except ConfigError as error:
        show_faults(root, error)
        return exits.BAD_CONFIG
    written = snapshots.write([] if expression else dict.fromkeys(suite.path for suite, _ in cases))
    if written:
        click.echo(f"wrote {', '.join(written)}", err=True)
    if junit is not None:
        junit.parent.mkdir(parents=True, exist_ok=True)
        write_whole(junit, report.junit(results))
    if as_json:
        items = [as_item(result) for result in results]
        routes = routes_of(reading, cases, whole=not expression)
        more = {"coverage": [one.as_item() for one in report.coverage(results, routes)]} if coverage else {}
        emit_json({"kind": "TestResults", "items": items, **more})
    else:
        summarize(reading, cases, results, coverage=coverage, whole=not expression)
    return exits.DONE if all(result.passed for result in results) else exits.NO


def told(results: Iterator[Result]) -> Iterator[Result]:
    """The results, each printed as it comes, below the name of its file."""
    from esb.cli.output import safe
    from esb.testing import report

    shown = ""
    for result in results:
        head = [result.path] if result.path != shown else []
        click.echo(safe("\n".join([*head, *report.lines_of(result)])))
        shown = result.path
        yield result


def summarize(
    reading: Reading, cases: Sequence[tuple[Suite, Case]], results: Sequence[Result], *, coverage: bool, whole: bool
) -> None:
    """Print how many passed and what no case took; route by route with ``coverage``."""
    from esb.cli.output import safe
    from esb.testing import report

    if coverage:
        lines = report.summary_by_route(results, report.coverage(results, routes_of(reading, cases, whole=whole)))
    else:
        lines = report.summary(results, reading.runner.routes(cases))
    click.echo(safe("\n".join(lines)))


def routes_of(reading: Reading, cases: Sequence[tuple[Suite, Case]], *, whole: bool) -> dict[str, Any]:
    """The routes whose coverage is asked for: those of the cases, and where all cases run those without a test, too."""
    tested = reading.runner.routes(cases)
    others = reading.runner.every_route() if whole else {}
    return tested | {name: spec for name, spec in others.items() if name not in tested}


def chosen(reading: Reading, expression: str) -> list[tuple[Suite, Case]]:
    """The cases that are meant. Raises ConfigError where files have faults, Exit where there is no case."""
    from esb.errors import ConfigError
    from esb.testing.select import BadSelection, select

    if reading.errors:
        raise ConfigError(reading.problems)
    suites = reading.suites
    try:
        cases = select(suites, expression)
    except BadSelection as error:
        raise click.UsageError(f"-k {expression!r}: {error}") from None
    if not cases:
        found = (
            f"none of the {sum(len(suite.options.cases) for suite in suites)} cases has these words" if suites else ""
        )
        hint = "a test stands beside its route: routes/<name>.test.yaml; see docs/testing.md"
        raise exits.Exit(found or "no tests found", exits.MISSING, hint="" if found else hint)
    return cases


def show_faults(root: Path, error: Exception) -> None:
    """Why no test could run, on stderr."""
    from esb.cli.author import line_reader
    from esb.config.diagnostics import render_text

    problems = getattr(error, "problems", ())
    click.echo(render_text(problems, line_reader(root)), err=True)
    if any(problem.code == "ESB006" for problem in problems):
        hint = "`esb test` reads nothing of the machine's environment: give values under `env:` in the test file"
        click.echo(f"  = help: {hint}", err=True)
