"""Tests that run again on a save: which files changed, and which cases are about it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from types import MappingProxyType

from esb.errors import ConfigError, Problem
from esb.runtime.watch import READ, Signature, signature
from esb.testing.model import Case, Suite
from esb.testing.reader import read_suites
from esb.testing.run import Runner
from esb.testing.snapshots import snapshot_path

#: Folders to watch: beside what a bus reads, what tests send, which has any ending.
WATCHED: Mapping[str, tuple[str, ...]] = MappingProxyType({**READ, "routes": ("",), "samples": ("",)})


class Saves:
    """Which files of a workspace changed from one look to the next, the first of which is ``seen`` or now."""

    def __init__(self, root: Path, seen: Signature | None = None) -> None:
        self._root = root.resolve()
        self._seen = signature(root, WATCHED) if seen is None else seen

    def names(self) -> list[str]:
        """Those since the last look, as they are called in the workspace."""
        before, self._seen = self._seen, signature(self._root, WATCHED)
        paths = {path for path, _ in set(self._seen.items()) ^ set(before.items())}
        return sorted(Path(path).relative_to(self._root).as_posix() for path in paths)


class Reading:
    """The tests of a workspace as its files are now. ``problems`` are those of its tests, or of itself."""

    def __init__(self, root: Path) -> None:
        self.runner = Runner(root)
        self.suites: Sequence[Suite] = ()
        try:
            self.suites, self.problems = read_suites(root, self.runner.workspace, self.runner.clock)
        except ConfigError as error:
            self.problems = list(error.problems)

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity == "error"]

    def versions(self) -> Mapping[tuple[str, str], str]:
        """By test file and route, the version of each route that runs in a test."""
        found: dict[tuple[str, str], str] = {}
        for suite in self.suites:
            routes = self.runner.workspace(suite.options).routes
            found.update({(suite.path, name): routes[name].digest for name in _routes(suite) if name in routes})
        return found

    def about(self, names: Collection[str], changed: AbstractSet[str]) -> list[tuple[Suite, Case]]:
        """The cases that a save of files is about; ``changed`` are the routes that it made other versions of.

        What lies outside of routes/ (a connector, a table) may be about any of them.
        """
        if not all(name.startswith(("routes/", "samples/")) for name in names):
            return list(pairs(self.suites))
        return [
            (suite, case)
            for suite, case in pairs(self.suites)
            if not changed.isdisjoint(_routes(suite)) or not set(names).isdisjoint(_files(suite, case))
        ]


def pairs(suites: Iterable[Suite]) -> Iterator[tuple[Suite, Case]]:
    """Every case with its suite."""
    return ((suite, case) for suite in suites for case in suite.options.cases)


def _routes(suite: Suite) -> list[str]:
    own = suite.options
    return [own.route, *own.with_, *(name for case in own.cases for name in case.with_)]


def _files(suite: Suite, case: Case) -> Iterator[str]:
    yield suite.path
    yield snapshot_path(suite.path)
    yield from (send.file for send in case.send if send.file is not None)
