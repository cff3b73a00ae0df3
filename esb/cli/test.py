"""``esb test``: the routes of a workspace against their tests."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from esb.cli import exits
from esb.cli.places import workspace_folder

if TYPE_CHECKING:
    from esb.testing.model import Case, Suite
    from esb.testing.run import Runner


@click.command()
@click.argument("directory", type=click.Path(path_type=Path), default=Path())
@click.option("-k", "expression", metavar="EXPR", default="", help="Only cases with these words: `hold and not erp`.")
@click.option("--json", "as_json", is_flag=True, help='Machine output: {"kind", "items"} on stdout.')
@click.option(
    "--junit", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write a JUnit report, too."
)
@click.option("--update", is_flag=True, help="What cases with `snapshot: true` do now is right: write it.")
def test(directory: Path, expression: str, as_json: bool, junit: Path | None, update: bool) -> None:
    """Run the route tests (routes/**/*.test.yaml) of the workspace in DIRECTORY.

    The bus of a test is the real one, with a store of its own. Time passes only where everything waits, connections do not
    exist, and targets answer what the test says. The environment and the secrets of the machine are not read.

    Exit code 0: all passed. 1: one failed. 66: no test was found. 78: the workspace or a test file has faults.
    """
    from esb.cli.output import emit_json, safe
    from esb.errors import ConfigError
    from esb.testing import report
    from esb.testing.results import as_item
    from esb.testing.run import Runner
    from esb.testing.snapshots import Snapshots

    runner = Runner(workspace_folder(directory, "test"))
    try:
        cases = _cases(runner, expression)
        results = []
        shown = ""
        snapshots = Snapshots(runner.root, update)
        for result in runner.run(cases, snapshots):
            results.append(result)
            if not as_json:
                head = [result.path] if result.path != shown else []
                click.echo(safe("\n".join([*head, *report.lines_of(result)])))
                shown = result.path
    except ConfigError as error:
        _show(directory, error)
        sys.exit(exits.BAD_CONFIG)
    written = snapshots.write([] if expression else dict.fromkeys(suite.path for suite, _ in cases))
    if written:
        click.echo(f"wrote {', '.join(written)}", err=True)
    if junit is not None:
        junit.parent.mkdir(parents=True, exist_ok=True)
        junit.write_text(report.junit(results), encoding="utf-8")
    if as_json:
        emit_json({"kind": "TestResults", "items": [as_item(result) for result in results]})
    else:
        click.echo(safe("\n".join(report.summary(results, runner.routes(cases)))))
    sys.exit(exits.DONE if all(result.passed for result in results) else exits.NO)


def _cases(runner: Runner, expression: str) -> Sequence[tuple[Suite, Case]]:
    from esb.errors import ConfigError
    from esb.testing.reader import read_suites
    from esb.testing.select import BadSelection, select

    suites, problems = read_suites(runner.root, runner.workspace, runner.clock)
    if any(problem.severity == "error" for problem in problems):
        raise ConfigError(problems)
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


def _show(directory: Path, error: Exception) -> None:
    from esb.cli.author import line_reader
    from esb.config.diagnostics import render_text

    problems = getattr(error, "problems", ())
    click.echo(render_text(problems, line_reader(directory)), err=True)
    if any(problem.code == "ESB006" for problem in problems):
        hint = "`esb test` reads nothing of the machine's environment: give values under `env:` in the test file"
        click.echo(f"  = help: {hint}", err=True)
