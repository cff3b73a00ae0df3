"""Reads a workspace: every file, every fault, one immutable :class:`~esb.config.model.Workspace`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from esb.clock import Clock, SystemClock
from esb.config.alerts import alert_routes
from esb.config.aliases import plain
from esb.config.assets import Assets, Tables
from esb.config.builders import Builders
from esb.config.checks import check_routes
from esb.config.connectors import operation_places, read_connector
from esb.config.diagnostics import order
from esb.config.env import Expander
from esb.config.files import Files
from esb.config.model import Connector, Settings, Workspace
from esb.config.no_effect import check_effects
from esb.config.plugins import load_plugins, plugin_fault
from esb.config.reader import WorkspaceReader
from esb.config.resources import Resources
from esb.config.routes import RouteDoc, RouteReader
from esb.config.secrets import Secrets
from esb.config.settings import SETTINGS, Peek, read_settings
from esb.config.unavailable import not_yet
from esb.config.yaml import Document, read_documents
from esb.errors import ConfigError, Position, Problem
from esb.language.workspace import WorkspaceLanguage
from esb.registry import Registry, load
from esb.spec import MapNode, Node, ScalarNode

T = TypeVar("T")
_KINDS = ("route", "connector", "bus", "template", "site")
_NAMED = re.compile(r"^(?:route|connector):[ \t]*([a-z0-9-]+)", re.MULTILINE)
_HOMES = {
    "route": "routes/",
    "connector": "connectors/",
    "bus": SETTINGS,
    "template": "routes/",
    "site": "routes/sites/",
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """What there is to know of a workspace, also where it has faults.

    ``workspace`` is None where there is an error, or where ``resolve_env=False`` left something open. ``settings`` is
    None only where ``esb.yaml`` itself has faults.
    """

    workspace: Workspace | None
    problems: list[Problem]
    settings: Settings | None
    files: int
    read_lines: Callable[[str], Sequence[str]]

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity == "error"]


def load_workspace(
    root: Path,
    *,
    environ: Mapping[str, str] = os.environ,
    resolve_env: bool = True,
    need_secrets: bool = True,
    clock: Clock | None = None,
) -> tuple[Workspace | None, list[Problem]]:
    """The workspace and everything that is wrong with it; None where there is an error. Never raises for content.

    ``need_secrets=False`` makes a secret that is not set a warning: who writes a route need not know it, who runs it must.
    """
    loaded = read_workspace(root, environ=environ, resolve_env=resolve_env, need_secrets=need_secrets, clock=clock)
    return loaded.workspace, loaded.problems


def require_workspace(root: Path, *, environ: Mapping[str, str] = os.environ, clock: Clock | None = None) -> Workspace:
    """The workspace. Raises ConfigError with every problem where there is an error."""
    workspace, problems = load_workspace(root, environ=environ, clock=clock)
    if workspace is None:
        raise ConfigError(problems)
    return workspace


def read_workspace(
    root: Path,
    *,
    environ: Mapping[str, str] = os.environ,
    resolve_env: bool = True,
    need_secrets: bool = True,
    clock: Clock | None = None,
    registry: Registry | None = None,
) -> Loaded:
    """Read a workspace, with everything that can be said of it. Files that no route refers to are checked, too."""
    loading = _Loading(root, environ, resolve_env, clock or SystemClock(), registry or load())
    loading.need_secrets = need_secrets
    return loading.run()


class _Loading:
    def __init__(
        self, root: Path, environ: Mapping[str, str], resolve_env: bool, clock: Clock, registry: Registry
    ) -> None:
        self._root, self._environ, self._resolve, self._clock = root, environ, resolve_env, clock
        self._registry = registry
        self.need_secrets = True
        self._problems: list[Problem] = []
        self._files = Files(root, self._problems.append)
        #: places that a fault of YAML or the environment has spoken about: what follows there is its consequence
        self._settled: set[tuple[str, int, int]] = set()
        #: names of routes and connectors in files or documents that could not be read
        self._unread: set[str] = set()
        self._count = 0

    # -- the way ------------------------------------------------------------------------------------------------------
    def run(self) -> Loaded:
        if not self._root.is_dir():
            self._report(
                "ESB803", "this is no folder", Position(str(self._root)), hint="give the folder of a workspace"
            )
            return self._loaded(None, None)
        settings_node = self._settings_node()
        documents = self._documents("routes") + self._documents("connectors")
        plugins = self._files.find("connectors", ".py")
        registry = load_plugins(self._root, plugins, self._registry, self._problems.append)
        resources = self._resources(registry, Peek.at(settings_node))
        routes, connectors = self._sort(documents)
        self._connectors(connectors, resources)
        settings, problems = read_settings(settings_node, resources)
        self._add(problems)
        docs = self._routes([*routes, *alert_routes(settings_node)], resources, settings, settings_node)
        self._add(check_routes(docs, resources, settings or Settings(), frozenset(self._unread)))
        self._add(check_effects(docs, resources, self._site(settings)))
        resources.assets.load_all()
        return self._loaded(self._workspace(resources, settings, docs), settings)

    def _loaded(self, workspace: Workspace | None, settings: Settings | None) -> Loaded:
        problems = order(self._problems)
        if workspace is not None:
            workspace = replace(workspace, problems=tuple(problems))
        return Loaded(workspace, problems, settings, self._count, self._files.lines)

    def _workspace(self, resources: Resources, settings: Settings | None, docs: Sequence[RouteDoc]) -> Workspace | None:
        specs = [doc.spec for doc in docs if doc.spec is not None]
        if settings is None or len(specs) < len(docs) or resources.broken - self._unread:
            return None
        if any(problem.severity == "error" for problem in self._problems):
            return None
        return Workspace(
            root=self._root,
            settings=settings,
            routes=MappingProxyType({spec.name: spec for spec in sorted(specs, key=lambda spec: spec.name)}),
            connectors=MappingProxyType(dict(sorted(resources.connectors.items()))),
            registry=resources.registry,
            language=resources.plain_language,
        )

    def _site(self, settings: Settings | None) -> Mapping[str, object] | None:
        """The values of the site, None where esb.yaml has faults."""
        faulty = any(problem.position.path == SETTINGS and problem.severity == "error" for problem in self._problems)
        return None if settings is None or faulty else settings.site

    # -- problems -----------------------------------------------------------------------------------------------------
    def _report(self, code: str, message: str, at: Position, *, hint: str = "", severity: str = "error") -> None:
        self._problems.append(
            Problem(code, message, at, hint, severity="warning" if severity == "warning" else "error")
        )

    def _add(self, problems: Iterable[Problem]) -> None:
        """Take problems over, but none about a value that could not be read or is not known."""
        self._problems.extend(problem for problem in problems if _place(problem.position) not in self._settled)

    # -- files --------------------------------------------------------------------------------------------------------
    def _settings_node(self) -> Node | None:
        if not self._files.exists(SETTINGS):
            self._expander = self._make_expander(Peek())
            return None
        text = self._files.text(SETTINGS)
        raw, _ = read_documents(text or "", SETTINGS, lambda _: None)
        self._expander = self._make_expander(Peek.at(raw[0].node if raw else None))
        documents = self._parse(SETTINGS)
        if len(documents) > 1:
            at = documents[1].node.position
            self._report(
                "ESB108", "esb.yaml holds one document", at, hint="move the second one to routes/ or connectors/"
            )
        if not documents:
            return None
        first = _first_key(documents[0].node)
        if first is not None and first.text in _KINDS and first.text != "bus":
            self._misplaced(first)
            return None
        return documents[0].node

    def _make_expander(self, peek: Peek) -> Expander:
        secrets = Secrets(self._root / peek.secrets, self._environ, peek.secrets)
        return Expander(
            self._environ, secrets, self._problems.append, resolve=self._resolve, need_secrets=self.need_secrets
        )

    def _parse(self, path: str) -> list[Document]:
        text = self._files.text(path)
        if text is None:
            return []
        self._count += 1
        before = len(self._problems)
        documents, whole = read_documents(text, path, self._problems.append, self._expander)
        self._settled |= {_place(problem.position) for problem in self._problems[before:]}
        self._settled |= {_place(at) for at in self._expander.unknown}
        if whole and not documents and path != SETTINGS:
            self._report("ESB114", "this file is empty", Position(path), hint=_HINT_EMPTY)
        if not whole:
            self._unread.update(_NAMED.findall(text), [Path(path).stem])
        return documents

    def _documents(self, folder: str) -> list[Document]:
        paths = [p for p in self._files.find(folder, ".yaml", ".yml") if not p.endswith((".test.yaml", ".test.yml"))]
        return [document for path in paths for document in self._parse(path)]

    # -- documents ----------------------------------------------------------------------------------------------------
    def _sort(self, documents: Sequence[Document]) -> tuple[list[Document], list[Document]]:
        routes: list[Document] = []
        connectors: list[Document] = []
        for document in documents:
            home = document.path.partition("/")[0]
            kind = self._kind(document, "route" if home == "routes" else "connector")
            if kind == "route":
                routes.append(document)
            elif kind == "connector":
                connectors.append(document)
            elif isinstance(document.node, MapNode):
                named = (document.node.get(word) for word in ("route", "connector"))
                self._unread.update(str(name.value) for name in named if isinstance(name, ScalarNode))
        return routes, connectors

    def _kind(self, document: Document, expected: str) -> str:
        """The kind of a document by its first key, empty where it has none; a kind in the wrong folder is an error."""
        first = _first_key(document.node)
        if first is None:
            self._report(
                "ESB108",
                f"a document is a mapping that begins with `{expected}:`, not {document.node.what}",
                document.node.position,
                hint=f"write `{expected}: name` in its first line",
            )
            return ""
        if first.text in _KINDS and (
            first.text == expected or (expected == "route" and not_yet("document", first.text))
        ):
            if instead := not_yet("document", first.text):
                self._report(
                    "ESB113",
                    f"`{first.text}:` documents are not available in this version and are left out",
                    first.position,
                    hint=instead,
                    severity="warning",
                )
            return first.text
        if first.text in _KINDS:
            self._misplaced(first)
            return ""
        assert isinstance(document.node, MapNode)
        return self._late_kind(document.node, first, expected)

    def _late_kind(self, node: MapNode, first: ScalarNode, expected: str) -> str:
        late = node.key(expected)
        if late is not None:
            self._report("ESB108", f"a document begins with its kind: `{expected}:` comes first", late.position,
                         hint="move this line to the top of the document")  # fmt: skip
        elif first.text == "cases":
            self._report("ESB108", "tests stand in a file <name>.test.yaml", first.position, hint="rename the file")
        else:
            reader = WorkspaceReader(Resources.__new__(Resources))
            words = {"id": "route", "name": "route", "from": "route", "steps": "route"}
            near = words.get(plain(first.text)) if expected == "route" else None
            hint = f"begin with `{near}: name`" if near else reader.nearest(first.text, (expected,))
            self._report("ESB108", f"`{first.text}:` is no kind of document", first.position,
                         hint=hint or f"begin with `{expected}: name`")  # fmt: skip
        return ""

    def _misplaced(self, first: ScalarNode) -> None:
        here = first.position.path.rpartition("/")[0]
        self._report(
            "ESB108",
            f"a `{first.text}:` document does not belong {f'in {here}/' if here else 'here'}",
            first.position,
            hint=f"move it to {_HOMES[first.text]}",
        )

    # -- connectors and routes ------------------------------------------------------------------------------------------
    def _resources(self, registry: Registry, peek: Peek) -> Resources:
        tables = Tables()
        language = WorkspaceLanguage(tables, peek.timezone, self._clock, self._include)
        builders = Builders(self._files, language, self._problems.append)
        assets = Assets(self._files, builders.table(), builders.includes, self._problems.append)
        tables.bind(assets)
        return Resources(registry, language, assets)

    def _include(self, path: str) -> str | None:
        place = f"transforms/{path}"
        return self._files.text(place) if ".." not in path and self._files.exists(place) else None

    def _connectors(self, documents: Sequence[Document], resources: Resources) -> None:
        found: dict[str, Connector] = {}
        resources.broken |= self._unread
        for document in documents:
            assert isinstance(document.node, MapNode)
            places = operation_places(document.node)
            name = next(iter(places), Path(document.path).stem)
            if name in resources.places:
                self._add([_twice(name, places.get(name, document.node.position), resources.places[name])])
                continue
            resources.places.update(places)
            reader = WorkspaceReader(resources, where="connector")
            connector = self._guarded(partial(read_connector, document.node, resources, reader))
            self._add(reader.problems)
            if connector is None:
                resources.broken.add(name)
            else:
                found[name] = connector
                resources.connector_nodes[name] = document.node
        resources.connectors.update(found)

    def _routes(
        self, documents: Sequence[Document], resources: Resources, settings: Settings | None, settings_node: Node | None
    ) -> list[RouteDoc]:
        routes = RouteReader(resources, settings, settings_node)
        docs = []
        for document in documents:
            assert isinstance(document.node, MapNode)
            reader = WorkspaceReader(resources, where="route")
            doc = self._guarded(partial(routes.read, document, document.node, reader))
            docs.append(doc or RouteDoc.unread(document, document.node))
            self._add(reader.problems)
        return docs

    def _guarded(self, read: Callable[[], T]) -> T | None:
        """What ``read`` gives; None after a fault of the workspace's own code (connectors/*.py) was reported."""
        try:
            return read()
        except Exception as error:
            problem = plugin_fault(error, self._root)
            if problem is None:
                raise
            self._problems.append(problem)
            return None


_HINT_EMPTY = "delete the file to remove its routes; a half-saved file looks like this, too"


def _place(at: Position) -> tuple[str, int, int]:
    return at.path, at.line, at.column


def _first_key(node: Node) -> ScalarNode | None:
    return node.entries[0][0] if isinstance(node, MapNode) and node.entries else None


def _twice(name: str, at: Position, other: Position) -> Problem:
    return Problem(
        "ESB109",
        f"two connectors are called `{name}`, the other one in {other}",
        at,
        hint="give each connector a name of its own",
        related=((other, "the other one"),),
    )
