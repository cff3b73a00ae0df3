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
from esb.config.alert_rules import Alert
from esb.config.alerts import alert_routes
from esb.config.allow import without_allowed
from esb.config.assets import Assets, Tables
from esb.config.builders import Builders, Wrap
from esb.config.checks import Routes, check_routes
from esb.config.connectors import operation_places, read_connector
from esb.config.consequences import without_consequences
from esb.config.diagnostics import order
from esb.config.env import Expander
from esb.config.files import Files
from esb.config.flow import check_flow
from esb.config.governance import deprecated_contracts
from esb.config.kinds import KINDS, Kinds, first_key, twice
from esb.config.kpis import Kpi, by_name
from esb.config.misnamed import misnamed
from esb.config.model import Connector, Settings, Workspace
from esb.config.no_effect import check_effects
from esb.config.observed import read_observed
from esb.config.origin import merged
from esb.config.ownership import check_ownership
from esb.config.plugins import load_plugins, plugin_fault
from esb.config.policy import check_policy
from esb.config.reader import WorkspaceReader
from esb.config.resources import Resources
from esb.config.routes import RouteDoc, RouteReader
from esb.config.secrets import Secrets
from esb.config.settings import SETTINGS, Peek, read_settings
from esb.config.site_reader import SiteReader
from esb.config.steps import Weave
from esb.config.template_reader import Parametrised, Template, read_parametrised, read_template, told, unused
from esb.config.whole import check_whole
from esb.config.yaml import Document, read_documents
from esb.errors import ConfigError, Position, Problem
from esb.language.workspace import WorkspaceLanguage
from esb.registry import Registry, load
from esb.spec import MapNode, Node, ScalarNode

T = TypeVar("T")
_NAMED = re.compile(r"^(?:route|connector|template):[ \t]*([a-z0-9-]+)", re.MULTILINE)


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
    secrets: Secrets
    secrets_used: Mapping[str, tuple[str, ...]]  #: name to the places that name it
    documents: tuple[str, ...] = ()  #: the files of documents, as far as they could be read
    docs: Sequence[RouteDoc] = ()
    resources: Resources | None = None  #: everything that routes can name, None where there is no workspace

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


def settings_at(root: Path) -> Settings | None:
    """The settings, without the time that routes, contracts and transforms take. None where ``esb.yaml`` has faults."""
    loading = _Loading(root, os.environ, True, SystemClock(), load(), need_secrets=False)
    loading.only_settings = True
    return loading.run().settings


def secrets_of(root: Path) -> tuple[Secrets, Mapping[str, tuple[str, ...]]]:
    """Where the secrets of a workspace come from, and the names that its files use with their places."""
    loaded = read_workspace(root, need_secrets=False)
    return loaded.secrets, loaded.secrets_used


def read_workspace(
    root: Path,
    *,
    environ: Mapping[str, str] = os.environ,
    resolve_env: bool = True,
    need_secrets: bool = True,
    clock: Clock | None = None,
    registry: Registry | None = None,
    texts: Mapping[str, str] | None = None,
    tables: Wrap | None = None,
    weave: Weave | None = None,
) -> Loaded:
    """Read a workspace, with everything that can be said of it. Files that no route refers to are checked, too.

    ``texts`` (:attr:`Workspace.texts`) stand for the files on disk: the same version again, whatever they have become.
    ``tables`` may put something in place of every table, to see what is asked of it; ``weave`` may put steps between steps.
    """
    loading = _Loading(root, environ, resolve_env, clock or SystemClock(), registry or load(), texts, need_secrets)
    loading.tables, loading.weave = tables, weave
    return loading.run()


class _Loading:
    def __init__(
        self,
        root: Path,
        environ: Mapping[str, str],
        resolve_env: bool,
        clock: Clock,
        registry: Registry,
        texts: Mapping[str, str] | None = None,
        need_secrets: bool = True,
    ) -> None:
        self._root, self._environ, self._resolve, self._clock = root, environ, resolve_env, clock
        self._registry = registry
        self.need_secrets = need_secrets
        self.only_settings = False
        self.tables: Wrap | None = None
        self.weave: Weave | None = None
        self._problems: list[Problem] = []
        self._files = Files(root, self._problems.append, texts)
        #: places that a fault of YAML or the environment has spoken about: what follows there is its consequence
        self._settled: set[tuple[str, int, int]] = set()
        #: names of routes and connectors in files or documents that could not be read
        self._unread: set[str] = set()
        self._parsed: list[str] = []
        #: files that could not be read to their end
        self._cut: set[str] = set()
        self._expander = self._make_expander(Peek())
        self._kinds = Kinds(self._report)
        self._marked: set[str] = set()

    # -- the way ------------------------------------------------------------------------------------------------------
    def run(self) -> Loaded:
        if not self._root.is_dir():
            self._report(
                "ESB803", "this is no folder", Position(str(self._root)), hint="give the folder of a workspace"
            )
            return self._loaded(None, None)
        settings_node = self._settings_node()
        self._add(misnamed(self._files))
        documents = self._documents("routes") + self._documents("connectors")
        plugins = self._files.find("connectors", ".py")
        registry, modules = load_plugins(self._root, plugins, self._registry, self._problems.append)
        resources = self._resources(registry, Peek.at(settings_node))
        resources.functions.modules = modules
        found = self._sort(documents)
        parametrised = self._connectors(found["connector"], resources)
        settings, problems = read_settings(settings_node, resources)
        if SETTINGS in self._cut:  # what there is of it says nothing about the rest
            settings, problems = None, []
        self._add(problems)
        if self.only_settings:
            return self._loaded(None, settings)
        templates = self._templates(found["template"], resources)
        sites = SiteReader(
            resources, settings, settings_node, templates, parametrised, self._clock, self._include, self._guarded,
            self._problems.append, frozenset(self._unread),
        )  # fmt: skip
        made = [doc for document in found["site"] for doc in self._site_routes(sites, document)]
        routes = [*found["route"], *alert_routes(settings_node)]  # they may name connectors of sites
        docs = [*self._routes(routes, resources, settings, settings_node), *made]
        if not any(problem.severity == "error" for problem in self._problems):
            self._add(unused(templates, parametrised))
        kpis, alerts = self._observed(settings_node, docs, resources)
        whole = Routes(docs, resources, settings or Settings(), frozenset(self._unread))
        self._add(check_routes(whole))
        if settings is not None:
            self._add(check_policy(whole))
        self._add(check_flow(docs, resources))
        self._add(check_ownership(whole, settings_node))
        for doc in docs:
            self._add(deprecated_contracts(doc, self._clock.now()) if doc.spec is not None else ())
        self._add(check_effects(docs, resources, self._site(settings)))
        self._add(check_whole(docs, registry, whole.settings.limits))
        resources.assets.load_all()
        self._problems[:] = told(self._problems, templates.values())
        loaded = self._loaded(self._workspace(resources, settings, docs, kpis, alerts, sites), settings)
        return replace(loaded, docs=docs, resources=resources)

    def _loaded(self, workspace: Workspace | None, settings: Settings | None) -> Loaded:
        own = without_consequences(merged(self._problems), self._files.lines)
        problems = order(without_allowed(own, self._files.lines))
        if workspace is not None:
            workspace = replace(workspace, problems=tuple(problems))
        used = {name: tuple(dict.fromkeys(map(str, places))) for name, places in self._expander.secrets_used.items()}
        read, lines = tuple(self._parsed), self._files.lines
        return Loaded(workspace, problems, settings, len(read), lines, self._secrets, used, read)

    def _workspace(
        self,
        resources: Resources,
        settings: Settings | None,
        docs: Sequence[RouteDoc],
        kpis: Sequence[Kpi],
        alerts: Sequence[Alert],
        sites: SiteReader,
    ) -> Workspace | None:
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
            texts=self._files.read(),
            marked=frozenset(self._marked),
            kpis=MappingProxyType(by_name(kpis)),
            alerts=tuple(alerts),
            sites=MappingProxyType(dict(sorted(sites.sites.items()))),
            templates=sites.template_specs(),
            connector_params=MappingProxyType({name: one.params.schema for name, one in sites.connectors.items()}),
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
        if not self._files.taken(SETTINGS):
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
        first = first_key(documents[0].node)
        if first is not None and first.text in KINDS and first.text != "bus":
            self._kinds.misplaced(first)
            return None
        return documents[0].node

    def _make_expander(self, peek: Peek) -> Expander:
        self._secrets = Secrets(self._root / peek.secrets, self._environ, peek.secrets, peek.keyring)
        return Expander(
            self._environ, self._secrets, self._problems.append, resolve=self._resolve, need_secrets=self.need_secrets
        )

    def _parse(self, path: str) -> list[Document]:
        text = self._files.text(path)
        if text is None:
            return []
        self._parsed.append(path)
        before = len(self._problems)
        documents, whole = read_documents(text, path, self._problems.append, self._expander)
        self._settled |= {_place(problem.position) for problem in self._problems[before:]}
        self._settled |= {_place(at) for at in self._expander.unknown}
        if whole and not documents and path != SETTINGS:
            self._report("ESB114", "this file is empty", Position(path), hint=_HINT_EMPTY)
        if not whole:
            self._cut.add(path)
            self._unread.update([*_NAMED.findall(text), Path(path).stem])
        return documents

    def _documents(self, folder: str) -> list[Document]:
        paths = [p for p in self._files.find(folder, ".yaml", ".yml") if not p.endswith((".test.yaml", ".test.yml"))]
        return [document for path in paths for document in self._parse(path)]

    # -- documents ----------------------------------------------------------------------------------------------------
    def _sort(self, documents: Sequence[Document]) -> dict[str, list[Document]]:
        found: dict[str, list[Document]] = {kind: [] for kind in KINDS}
        for document in documents:
            home = document.path.partition("/")[0]
            kind = self._kinds.of(document, "route" if home == "routes" else "connector")
            if kind:
                found[kind].append(document)
            elif isinstance(document.node, MapNode):
                kinds = [document.node.get(word) for word in ("route", "connector", "template")]
                named = (*kinds, *(value for _, value in document.node.entries[:1]))  # the first key may be misspelt
                self._unread.update(str(name.value) for name in named if isinstance(name, ScalarNode))
        return found

    # -- connectors and routes ------------------------------------------------------------------------------------------
    def _resources(self, registry: Registry, peek: Peek) -> Resources:
        tables = Tables()
        language = WorkspaceLanguage(tables, peek.timezone, self._clock, self._include)
        builders = Builders(self._files, language, self._problems.append, self.tables)
        self._marked = builders.marked
        assets = Assets(self._files, builders.table(), builders.includes, self._problems.append)
        tables.bind(assets)
        resources = Resources(registry, language, assets)
        resources.weave = self.weave
        return resources

    def _include(self, path: str) -> str | None:
        place = f"transforms/{path}"
        return self._files.text(place) if ".." not in path and self._files.exists(place) else None

    def _connectors(self, documents: Sequence[Document], resources: Resources) -> dict[str, Parametrised]:
        """Read the connectors; those that sites fill in come back."""
        found: dict[str, Connector] = {}
        parametrised: dict[str, Parametrised] = {}
        resources.broken |= self._unread
        for document in documents:
            assert isinstance(document.node, MapNode)
            places = operation_places(document.node)
            name = next(iter(places), Path(document.path).stem)
            if name in resources.places:
                self._add([twice(name, places.get(name, document.node.position), resources.places[name])])
                continue
            resources.places.update(places)
            reader = WorkspaceReader(resources, where="connector")
            node: MapNode | None = document.node
            if document.node.get("params") is not None:
                declared = read_parametrised(document, document.node, name, reader)
                if declared is not None:
                    parametrised[name] = declared
                node = declared.alone(resources, reader) if declared is not None else None
                if node is None and declared is not None:
                    self._add(reader.problems)
                    continue  # it is there for sites only
            connector = self._guarded(partial(read_connector, node, resources, reader)) if node is not None else None
            self._add(reader.problems)
            if connector is None:
                resources.broken.add(name)
            else:
                assert node is not None
                found[name] = connector
                resources.connector_nodes[name] = node
        resources.connectors.update(found)
        return parametrised

    def _templates(self, documents: Sequence[Document], resources: Resources) -> dict[str, Template]:
        found: dict[str, Template] = {}
        for document in documents:
            assert isinstance(document.node, MapNode)
            reader = WorkspaceReader(resources, where="template")
            template = read_template(document, document.node, resources, reader)
            if template is None:
                given = document.node.get("template")
                self._unread.update(
                    {str(given.value) if isinstance(given, ScalarNode) else "", Path(document.path).stem}
                )
            elif template.name in found:
                other = found[template.name].position
                self._add([twice(template.name, template.position, other, "templates")])
            else:
                found[template.name] = template
            self._add(reader.problems)
        return found

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

    def _site_routes(self, sites: SiteReader, document: Document) -> list[RouteDoc]:
        assert isinstance(document.node, MapNode)
        docs, problems = sites.read(document, document.node)
        self._add(problems)
        return docs

    def _observed(
        self, settings_node: Node | None, docs: Sequence[RouteDoc], resources: Resources
    ) -> tuple[Sequence[Kpi], Sequence[Alert]]:
        """The indicators of the folder kpis/ and of the routes, and the rules of the alerts."""
        documents = [one for one in self._documents("kpis") if self._kinds.of(one, "kpi") == "kpi"]
        kpis, alerts, problems = read_observed(
            settings_node, documents, docs, resources, self._guarded, not self._unread
        )
        self._add(problems)
        return kpis, alerts

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
