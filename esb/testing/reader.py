"""Reads ``*.test.yaml``: every fault with its place, as everywhere in a workspace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from esb.clock import Clock
from esb.config.files import Files
from esb.config.model import RouteSpec, Workspace
from esb.config.reader import Levels, WorkspaceReader
from esb.config.yaml import read_documents
from esb.errors import Position, Problem
from esb.language import Language
from esb.language.workspace import WorkspaceLanguage
from esb.spec import MISSING, ListNode, MapNode, Node, ScalarNode, read_options
from esb.testing.model import Case, Suite, SuiteOptions

ENDINGS = (".test.yaml", ".test.yml")


class SuiteResources:
    """What the options of a test refer to."""

    def __init__(self, files: Files, language: Language) -> None:
        self.levels = Levels()
        self.language = language
        self._files = files

    def exists(self, path: str) -> bool:
        return self._files.exists(path)


def read_suites(
    root: Path, workspace_of: Callable[[SuiteOptions], Workspace | None], clock: Clock | None = None
) -> tuple[list[Suite], list[Problem]]:
    """The suites of a workspace, and everything that is wrong with them.

    ``workspace_of`` gives the workspace as a suite's environment makes it; where it gives None (the workspace has faults
    itself) the names of routes and targets are not checked.
    """
    problems: list[Problem] = []
    files = Files(root, problems.append)
    texts = {path: files.text(path) for path in files.find("routes", *ENDINGS)}
    suites = [
        suite
        for path, text in texts.items()
        if text is not None
        for suite in _suites_of(text, path, files, workspace_of, problems, clock)
    ]
    return suites, problems


def read_suite_text(
    root: Path,
    path: str,
    text: str,
    workspace_of: Callable[[SuiteOptions], Workspace | None],
    clock: Clock | None = None,
) -> tuple[list[Suite], list[Problem]]:
    """The same for one text that would stand in the file ``path``."""
    problems: list[Problem] = []
    suites = list(_suites_of(text, path, Files(root, problems.append), workspace_of, problems, clock))
    return suites, problems


def _suites_of(
    text: str,
    path: str,
    files: Files,
    workspace_of: Callable[[SuiteOptions], Workspace | None],
    problems: list[Problem],
    clock: Clock | None,
) -> Iterator[Suite]:
    resources = SuiteResources(files, WorkspaceLanguage(clock=clock))
    for document in read_documents(text, path, problems.append)[0]:
        reader = WorkspaceReader(resources, where="test")
        options = read_options(SuiteOptions, document.node, reader)
        workspace = workspace_of(options) if options is not MISSING else None
        each = [options] if workspace is None else _for_sites(options, workspace, document.node, reader)
        if workspace is not None:
            for one in each:
                _Names(workspace, document.node, reader).check(one)
        problems.extend(dict.fromkeys(reader.problems))
        if options is not MISSING and not any(p.severity == "error" for p in reader.problems):
            yield from (Suite(path, one) for one in each)


def _for_sites(options: SuiteOptions, workspace: Workspace, node: Node, reader: WorkspaceReader) -> list[SuiteOptions]:
    """The suite for every site that has its route; itself where the route is no template's."""
    made = [spec for spec in workspace.routes.values() if spec.place is not None and spec.place.route == options.route]
    declared = any(options.route in template.routes for template in workspace.templates.values())
    if options.route in workspace.routes or not (made or declared):
        return [options]
    given = node.get("sites") if isinstance(node, MapNode) else None
    having = Counter(spec.place.site for spec in made if spec.place is not None)
    for name in options.sites:
        if name not in having:
            message, hint = f"no site `{name}` has the route `{options.route}`", reader.nearest(name, having)
            reader.problem("ESB320", message, given or node, hint=hint, label="not tested there", severity="warning")
    wanted = [
        spec for spec in made if spec.place is not None and (not options.sites or spec.place.site in options.sites)
    ]
    return [_at_site(options, spec, workspace, alone=max(having.values()) == 1) for spec in wanted]


def _at_site(options: SuiteOptions, spec: RouteSpec, workspace: Workspace, *, alone: bool) -> SuiteOptions:
    assert spec.place is not None
    routes, site = workspace.routes, spec.place.site
    own = {s.place.route: name for name, s in routes.items() if s.place is not None and s.place.site == site}
    words = site if alone else spec.name

    def local(name: str) -> str:
        return name if name in routes else own.get(name, name)

    def case_at(case: Case) -> Case:
        send = tuple(replace(one, route=local(one.route)) for one in case.send)
        return replace(case, name=f"{case.name} ({words})", send=send, with_=tuple(map(local, case.with_)))

    cases = tuple(map(case_at, options.cases))
    return replace(options, route=spec.name, with_=tuple(map(local, options.with_)), cases=cases)


class _Names:
    """Checks that the routes and targets that a suite names exist."""

    def __init__(self, workspace: Workspace, node: Node, reader: WorkspaceReader) -> None:
        self._workspace, self._node, self._reader = workspace, node, reader

    def check(self, suite: SuiteOptions) -> None:
        assert isinstance(self._node, MapNode)
        spec = self._route(suite.route, self._node.get("route"))
        if spec is None:
            return
        also = [self._route(name, self._named("with", name)) for name in suite.with_]
        routes = [spec, *(one for one in also if one is not None)]
        names: dict[str, Position] = {}
        cases = self._node.get("cases")
        nodes = cases.items if isinstance(cases, ListNode) else (cases,)
        for case, node in zip(suite.cases, nodes, strict=True):
            if case.name in names:
                self._reader.problem(
                    "ESB109", f"two cases are called `{case.name}`", case.places["name"],
                    hint="give each a name of its own", related=((names[case.name], "the other one"),),
                )  # fmt: skip
            names[case.name] = case.places["name"]
            self._case(case, node, routes)
        known = self._targets(
            [*routes, *(self._workspace.routes[n] for c in suite.cases for n in c.with_ if n in self._workspace.routes)]
        )
        self._stubs(self._node.get("stubs"), known)

    def _case(self, case: Case, node: Node | None, routes: list[RouteSpec]) -> None:
        assert isinstance(node, MapNode)
        also = [self._route(name, case.places.get("with")) for name in case.with_]
        routes = [*routes, *(one for one in also if one is not None)]
        known = self._targets(routes)
        self._stubs(node.get("stubs"), known)
        for wanted in case.expect.sent:
            self._target(wanted.to, wanted.places["to"], known)
        for name in case.expect.order:
            self._target(name, case.expect.place("order"), known)
        at = case.places.get("faults", case.position)
        faults = case.faults
        if faults.kill_after:
            self._target(faults.kill_after.rpartition(":")[2], at, known)
        for name in (*faults.lying, *faults.partial_update):
            self._target(name, at, known)
        for target in (*(one.target for one in faults.outage), *(one.target for one in faults.slow)):
            self._target(target, at, sorted({*known, *(name.partition(".")[0] for name in known)}))
        for send in case.send:
            if send.route and send.route not in [route.name for route in routes]:
                hint = f"write `with: [{send.route}]` beside `send`"
                self._reader.problem("ESB320", f"route `{send.route}` does not run in this case",
                                     case.places["send"], hint=hint)  # fmt: skip

    def _route(self, name: str, at: Node | Position | None) -> RouteSpec | None:
        spec = self._workspace.routes.get(name)
        if spec is None:
            hint = self._reader.nearest(name, self._workspace.routes)
            self._reader.problem(
                "ESB320", f"there is no route `{name}`", at or self._node, hint=hint, label="not there"
            )
        return spec

    def _named(self, key: str, name: str) -> Node | None:
        given = self._node.get(key) if isinstance(self._node, MapNode) else None
        if isinstance(given, ListNode):
            return next((n for n in given.items if isinstance(n, ScalarNode) and n.value == name), given)
        return given

    @staticmethod
    def _targets(routes: Iterable[RouteSpec]) -> list[str]:
        return sorted({name for route in routes for name in route.targets})

    def _stubs(self, node: Node | None, known: list[str]) -> None:
        if isinstance(node, MapNode):
            for key, _ in node.entries:
                self._target(key.text, key.position, known)

    def _target(self, name: str, at: Position, known: Iterable[str]) -> None:
        if name not in known:
            hint = self._reader.nearest(name, known)
            self._reader.problem(
                "ESB320", f"no route of this case sends to `{name}`", at, hint=hint, label="not a target"
            )


class SuiteEnvironment(dict[str, str]):
    """What a workspace reads its `${…}` from in a test: the suite's `env`, and a made-up value for every secret."""

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]  # as far as it is used
        if name.startswith("ESB_SECRET_"):
            return super().get(name, f"test-{name.removeprefix('ESB_SECRET_').lower()}")
        return super().get(name, default)
