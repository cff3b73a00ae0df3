"""The pytest plugin: route tests as items of pytest, and a route as a fixture.

``esb_workspaces`` in the settings of pytest names the folders of workspaces whose ``*.test.yaml`` are collected::

    [tool.pytest.ini_options]
    esb_workspaces = ["plants/graz"]

The fixture ``esb_route`` runs a route in a test written in Python::

    def test_a_hold(esb_route):
        hold = esb_route("qms-hold", "plants/graz")
        result = hold(send={"json": {"lot": "0012"}}, stubs={"erp.hold": {"status": 201}})
        assert result.facts.taken[0].body == {"Lot": "0012"}

Nothing of the bus is imported before one of the two is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from esb.testing.model import Case, Suite
    from esb.testing.results import Result
    from esb.testing.run import Runner

_RUNNERS = pytest.StashKey[dict[Path, "Runner"]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The settings and options of the plugin."""
    words = "folders of workspaces whose route tests (*.test.yaml) are run"
    parser.addini("esb_workspaces", words, type="args", default=[])
    group = parser.getgroup("esb", "route tests of esb")
    group.addoption("--esb-update", action="store_true", help="write the snapshots of route tests (`snapshot: true`)")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A file of route tests, where it lies in one of the workspaces that the settings name."""
    if not file_path.name.endswith((".test.yaml", ".test.yml")):
        return None
    for name in parent.config.getini("esb_workspaces"):
        root = (parent.config.rootpath / name).resolve()
        if file_path.resolve().is_relative_to(root / "routes"):
            collector: RouteTests = RouteTests.from_parent(parent, path=file_path)
            collector.workspace = root
            return collector
    return None


def _runner(config: pytest.Config, root: Path) -> Runner:
    """One for each workspace: reading it takes longer than a case."""
    from esb.testing.run import Runner

    return config.stash.setdefault(_RUNNERS, {}).setdefault(root, Runner(root))


class RouteTests(pytest.File):
    """A ``*.test.yaml``; its cases are items called ``route::case``."""

    workspace: Path

    def collect(self) -> Iterator[pytest.Item]:
        from esb.errors import ConfigError
        from esb.testing.reader import read_suite_text

        runner = _runner(self.config, self.workspace)
        place = self.path.resolve().relative_to(self.workspace).as_posix()
        try:
            suites, problems = read_suite_text(
                self.workspace, place, self.path.read_text(encoding="utf-8"), runner.workspace, runner.clock
            )
        except ConfigError as error:
            raise self.CollectError(str(error)) from None
        if any(problem.severity == "error" for problem in problems):
            raise self.CollectError("\n".join(map(str, problems)))
        for suite in suites:
            for case in suite.options.cases:
                item: RouteCase = RouteCase.from_parent(self, name=f"{suite.options.route}::{case.name}")
                item.workspace, item.suite, item.case = self.workspace, suite, case
                yield item


class RouteCase(pytest.Item):
    """One case of a route."""

    workspace: Path
    suite: Suite
    case: Case

    def runtest(self) -> None:
        from esb.testing.snapshots import Snapshots

        snapshots = Snapshots(self.workspace, bool(self.config.getoption("--esb-update")))
        (result,) = _runner(self.config, self.workspace).run([(self.suite, self.case)], snapshots)
        snapshots.write()
        if not result.passed:
            raise RouteFailed(result)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What was expected, what came, and what happened step by step."""
        if isinstance(excinfo.value, RouteFailed):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, self.case.position.line - 1, self.name


class RouteFailed(AssertionError):
    """A case did not end as expected; the text says how."""

    def __init__(self, result: Result) -> None:
        from esb.testing.report import lines_of

        super().__init__("\n".join(lines_of(result)))
        self.result = result


class Route:
    """A route of a workspace, ready to run cases. Calling it runs one."""

    def __init__(self, runner: Runner, name: str) -> None:
        self._runner, self._name = runner, name

    def __call__(
        self, send: Any, *, expect: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None, **more: Any
    ) -> Result:
        """Run one case, written as in a ``*.test.yaml``: ``send``, ``stubs``, ``faults``, ``with``, ``clock``, ``expect``.

        Gives the result; ``result.facts`` holds messages, what targets took, what was published and answered. Raises
        :class:`RouteFailed` where the case is not as ``expect`` says, ConfigError where it cannot be read.
        """
        from esb.errors import ConfigError
        from esb.formats.json import Json
        from esb.testing.reader import read_suite_text

        case = {"name": "in Python", "send": send, "expect": dict(expect or {}), **_plain_words(more)}
        text = Json().encode({"route": self._name, "env": dict(env or {}), "cases": [case]}).decode()  # JSON is YAML
        root = self._runner.root
        suites, problems = read_suite_text(
            root, "routes/in-python.test.yaml", text, self._runner.workspace, self._runner.clock
        )
        if any(problem.severity == "error" for problem in problems):
            raise ConfigError(problems)
        (result,) = self._runner.run([(suite, case) for suite in suites for case in suite.options.cases])
        if not result.passed:
            raise RouteFailed(result)
        return result


@pytest.fixture
def esb_route(request: pytest.FixtureRequest) -> Callable[..., Route]:
    """``esb_route(name, workspace)``: a route, ready to run; the workspace is a folder, from where pytest's settings are."""

    def find(name: str, workspace: str | Path = ".") -> Route:
        return Route(_runner(request.config, (request.config.rootpath / workspace).resolve()), name)

    return find


def _plain_words(more: Mapping[str, Any]) -> dict[str, Any]:
    """``with_`` stands for the word that Python keeps for itself."""
    return {name.rstrip("_"): value for name, value in more.items()}


__all__ = ["Route", "RouteCase", "RouteFailed", "RouteTests", "esb_route"]
