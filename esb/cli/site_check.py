"""The proof that a site can go live: configuration, parameters, tables, tests, endpoints."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from esb.config.loader import Loaded, read_workspace
from esb.config.model import Workspace
from esb.config.site_items import shown
from esb.config.sites import SiteSpec
from esb.errors import ConfigError, Problem
from esb.testing.coverage import cover, samples_of
from esb.testing.reader import read_suites
from esb.testing.results import as_item
from esb.testing.run import Runner

#: ``open``: not proved, and not disproved either
Verdict = Literal["passed", "failed", "open"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what came of it, in words, with the evidence."""

    name: str
    verdict: Verdict
    words: str
    items: Sequence[Mapping[str, Any]] = ()


@dataclass(slots=True)
class SiteCheck:
    """Checks one site of the workspace at ``root``. ``samples`` are files and folders by route, beside ``samples/<SITE>/``."""

    root: Path
    site: str
    samples: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    ping: bool = False
    timeout: float = 3.0
    loaded: Loaded = field(init=False)
    sampled: list[Path] = field(default_factory=list)  #: the sample files that were found

    def __post_init__(self) -> None:
        self.loaded = read_workspace(self.root, need_secrets=False)

    @property
    def spec(self) -> SiteSpec | None:
        workspace = self.loaded.workspace
        return workspace.sites.get(self.site) if workspace is not None else None

    def run(self) -> list[Check]:
        """Every check in order; those that need a workspace without faults are left out where there is none."""
        workspace, spec = self.loaded.workspace, self.spec
        found = [self._configuration()]
        if workspace is not None and spec is not None:
            found.append(self._parameters(workspace, spec))
            found.append(self._tables(workspace, spec))
            found.append(self._tests(workspace, spec))
            found.append(self._endpoints(workspace, spec))
        return found

    # -- configuration ------------------------------------------------------------------------------------------------
    def _configuration(self) -> Check:
        workspace = self.loaded.workspace
        if workspace is None:
            wrong = self.loaded.errors
            return Check("configuration", "failed", _count(len(wrong), "fault"), [_problem(one) for one in wrong])
        files = {path for name in workspace.sites[self.site].routes for path in workspace.routes[name].files}
        files.add(workspace.sites[self.site].position.path)
        told = [one for one in self.loaded.problems if _concerns(one, files)]
        secrets = [one for one in told if one.code == "ESB503"]
        words = _count(len(workspace.sites[self.site].routes), "route") + f", {_count(len(told), 'warning')}"
        if secrets:
            words += f"; {_count(len(secrets), 'secret')} not set"
        return Check("configuration", "failed" if secrets else "passed", words, [_problem(one) for one in told])

    # -- parameters ---------------------------------------------------------------------------------------------------
    def _parameters(self, workspace: Workspace, spec: SiteSpec) -> Check:
        items = list(_filled(workspace, spec))
        left = sum(item["default"] for item in items)
        return Check("parameters", "passed", f"{_count(len(items), 'parameter')}, {left} by default", items)

    # -- tables -------------------------------------------------------------------------------------------------------
    def _tables(self, workspace: Workspace, spec: SiteSpec) -> Check:
        names = {}
        for name in spec.routes:
            place = workspace.routes[name].place
            names[place.route if place is not None else name] = name
        samples = samples_of(self.root, self.site, names, self.samples)
        self.sampled += [sample.path for sample in samples]
        if not samples:
            folder = f"samples/{self.site}/<route>/"
            return Check("tables", "open", f"no samples: put files of the plant into {folder}, or name them: --samples")
        found = cover(self.root, dict(os.environ), samples)
        gaps = [gap for gap in found.gaps if not gap.handled]
        words = f"{_count(found.samples, 'sample')}, {_count(found.asked, 'value')} looked up, {len(gaps)} missing"
        if found.stopped:
            words += f"; {_count(len(found.stopped), 'sample')} did not get through"
        items: list[Mapping[str, Any]] = [
            {"route": gap.route, "table": gap.file, "value": gap.value, "sample": gap.sample, "default": gap.handled}
            for gap in found.gaps
        ]
        items += [{**one, "problem": "did not get through"} for one in found.stopped]
        return Check("tables", "failed" if gaps or found.stopped else "passed", words, items)

    # -- tests --------------------------------------------------------------------------------------------------------
    def _tests(self, workspace: Workspace, spec: SiteSpec) -> Check:
        runner = Runner(self.root)
        try:
            suites, problems = read_suites(self.root, runner.workspace, runner.clock)
        except ConfigError as error:
            return Check("tests", "failed", "the workspace cannot be read with the environment of its tests",
                         [_problem(one) for one in error.problems])  # fmt: skip
        wrong = [one for one in problems if one.severity == "error"]
        if wrong:
            return Check("tests", "failed", "the tests have faults", [_problem(one) for one in wrong])
        cases = [
            (suite, case) for suite in suites if suite.options.route in spec.routes for case in suite.options.cases
        ]
        if not cases:
            return Check("tests", "open", "no route test for a route of this site: routes/<name>.test.yaml")
        results = list(runner.run(cases))
        failed = sum(not result.passed for result in results)
        tested = {suite.options.route for suite, _ in cases}
        bare = [name for name in spec.routes if name not in tested]
        words = f"{len(results) - failed} passed, {failed} failed" + (
            f"; without a test: {', '.join(bare)}" if bare else ""
        )
        return Check("tests", "failed" if failed else "passed", words, [as_item(result) for result in results])

    # -- endpoints ----------------------------------------------------------------------------------------------------
    def _endpoints(self, workspace: Workspace, spec: SiteSpec) -> Check:
        from esb.cli.inspect import ping_item

        if not self.ping:
            return Check("endpoints", "open", "not asked (--ping)")
        names = sorted(set(spec.connectors.values()))
        items = [ping_item(name, workspace.connectors[name].connection, self.timeout) for name in names]
        down = [item["connector"] for item in items if not item["reached"]]
        words = f"{len(items) - len(down)} of {len(items)} reached" + (f"; not {', '.join(down)}" if down else "")
        return Check("endpoints", "failed" if down else "passed", words, items)


def verdict_of(checks: Sequence[Check], *, strict: bool) -> Verdict:
    """The verdict on a site: what is open counts against it only where one is strict."""
    found = {check.verdict for check in checks}
    if "failed" in found:
        return "failed"
    return "open" if strict and "open" in found else "passed"


def _filled(workspace: Workspace, spec: SiteSpec) -> Iterator[dict[str, Any]]:
    for use in spec.options.use:
        schema = workspace.templates[use.template].schema
        yield from _values(f"template {use.template}", schema, use.params)
    for name, given in spec.options.connectors.items():
        params = given.get("params", given) if isinstance(given, Mapping) else {}
        other = given.get("connector", name) if isinstance(given, Mapping) else name
        yield from _values(f"connector {name}", workspace.connector_params.get(other, {}), params)


def _values(owner: str, schema: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, schema_ in schema.get("properties", {}).items():
        about = schema_ if isinstance(schema_, Mapping) else {}
        value = given.get(name, about.get("default"))
        words = {"of": owner, "parameter": name, "value": shown(value), "default": name not in given}
        yield {**words, "meaning": about.get("description", "")}


def _concerns(problem: Problem, files: set[str]) -> bool:
    return problem.position.path in files or any(at.path in files for at, _ in problem.related)


def _problem(problem: Problem) -> dict[str, Any]:
    return {"at": str(problem.position), "code": problem.code, "message": problem.message, "hint": problem.hint}


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")
