"""From what is wrong in an expression to a problem at its place: in the route, in a transform file, or in an operation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from esb.config.channels import Said
from esb.config.flow_places import character
from esb.config.resources import Resources
from esb.config.routes import RouteDoc, steps_of
from esb.errors import Position, Problem
from esb.language.checks import place
from esb.language.inference import Finding, Seen
from esb.language.shapes import Shape
from esb.spec import ScalarNode
from esb.steps.base import Target


@dataclass(frozen=True, slots=True)
class Use:
    """A route that uses a file: where, and what in the file cannot work for it."""

    at: Position
    findings: tuple[Finding, ...]
    route: str = ""
    said: Said = ()


@dataclass(frozen=True, slots=True)
class Touched:
    """A field that a route reads or writes, as it is written there."""

    route: str
    how: Literal["reads", "writes"]
    path: str
    at: Position
    entity: str = ""


class Reports:
    """Collects what is found in all routes of a workspace."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self._problems: dict[tuple[Position, str, str], Problem] = {}
        self._files: dict[str, list[Use]] = {}
        #: what is known at the places that somebody asks about (see `PROBE`)
        self.asked: list[Shape] = []
        #: takes down what routes read and write, where somebody wants to know
        self.touched: list[Touched] | None = None

    def of(self, route: str, doc: RouteDoc) -> RouteReports:
        return RouteReports(self, route, doc)

    def add(self, problem: Problem) -> None:
        place = (problem.position, problem.code, problem.message)
        known = self._problems.setdefault(place, problem)
        if known is not problem:  # another site has it, too
            related = tuple(dict.fromkeys((*known.related, *problem.related)))
            self._problems[place] = replace(known, related=related)

    def use(self, path: str, use: Use) -> None:
        self._files.setdefault(path, []).append(use)

    def problems(self) -> list[Problem]:
        """Everything found. What a file reads is wrong only where it is wrong for every route that uses the file."""
        for path, uses in self._files.items():
            shared = len({(use.at.path, use.at.line) for use in uses}) > 1
            common = set.intersection(*({_key(one) for one in use.findings} for use in uses))
            for finding in uses[0].findings:
                if _key(finding) in common and not (shared and finding.optional):
                    self.add(self._in_file(path, finding, uses[0]))
        return list(self._problems.values())

    def _in_file(self, path: str, finding: Finding, use: Use) -> Problem:
        text = self.resources.assets.files.text(path) or ""
        line, column = place(text, finding.offset)
        at = Position(path, line, column, max(1, finding.length))
        related = ((use.at, f"the route `{use.route}` uses it"), *_said(finding, use.said), *origin_of(finding))
        return _problem(finding, at, related)


@dataclass(slots=True)
class RouteReports:
    """The same for one route."""

    all: Reports
    route: str
    doc: RouteDoc
    _set: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        assert self.doc.spec is not None
        for step in steps_of(self.doc.spec.blocks):
            paths = [*getattr(step.step, "writes", ()), *([step.into] if step.into else [])]
            self._set |= {path[1] for path in paths if path[0] == "vars" and len(path) > 1}

    def made(self, problems: Iterable[Problem]) -> None:
        """What a mapping makes and a contract refuses."""
        for problem in problems:
            self.all.add(problem)

    def seen(self, trail: Sequence[Seen], node: ScalarNode | None, at: Position) -> None:
        """Fields that an expression reads; ``node`` is None where it does not stand in the route itself."""
        if self.all.touched is None:
            return
        for one in trail:
            place_ = character(node, one.offset, one.length) if node is not None else at
            self.all.touched.append(Touched(self.route, "reads", one.path, place_, one.entity))

    def written(self, path: str, at: Position, entity: str = "") -> None:
        """A field that a step sets."""
        if self.all.touched is not None:
            self.all.touched.append(Touched(self.route, "writes", path, at, entity))

    def file(self, path: str, use: Use) -> None:
        """A transform file that a step uses."""
        self.all.asked += [finding.asked for finding in use.findings if finding.asked is not None]
        findings = tuple(one for one in use.findings if one.asked is None and not one.path.startswith("vars."))
        self.all.use(path, replace(use, findings=findings, route=self.route))

    def findings(
        self,
        findings: Sequence[Finding],
        node: ScalarNode | None,
        at: Position,
        target: Target | None,
        said: Said = (),
    ) -> None:
        """Faults of one expression; ``node`` is None where it does not stand in the route itself. ``said`` are the places of
        other routes that say what its message is."""
        for finding in findings:
            if finding.asked is not None:
                self.all.asked.append(finding.asked)
            elif node is not None:
                found = self._variable(finding) if finding.path.startswith("vars.") else finding
                if found is not None:
                    where = character(node, finding.offset, finding.length)
                    related = (*_said(found, said), *origin_of(found))
                    self.all.add(self.doc.told(_problem(found, where, related)))
            elif target is not None and not finding.optional and not finding.path.startswith("vars."):
                declared = self.all.resources.places.get(target.name)
                related = (*(((declared, "the operation reads it here"),) if declared else ()), *_said(finding, said))
                words = f" (`{target.name}` reads it)"
                self.all.add(self.doc.told(_problem(finding, at, (*related, *origin_of(finding)), words)))

    def _variable(self, finding: Finding) -> Finding | None:
        """A variable that nobody sets is ESB405 already; here it is one that is set too late, or has no such field."""
        parts = finding.path.split(".")
        if len(parts) > 2:
            return finding
        if parts[1] not in self._set:
            return None
        message = f"`{finding.path}` is read before it is set"
        hint = "move the step that sets it up, above this one"
        return Finding("ESB405", message, hint, finding.offset, finding.length, path=finding.path)


def _key(finding: Finding) -> tuple[str, int, str]:
    return finding.code, finding.offset, finding.path


def _said(finding: Finding, said: Said) -> Said:
    """The places in other routes that say what the body is, where the finding is about it."""
    return said if finding.path.partition(".")[0].partition("[")[0] == "body" else ()


def origin_of(finding: Finding) -> tuple[tuple[Position, str], ...]:
    """The second place: where it is declared what there is instead."""
    if finding.origin is None or (found := finding.origin.place()) is None:
        return ()
    return ((found, f"{finding.origin.words} says what is there"),)


def _problem(finding: Finding, at: Position, related: tuple[tuple[Position, str], ...], reads: str = "") -> Problem:
    # a field with something else in its place (`body.a || body.b`) is no fault that may stop a bus
    severity: Literal["error", "warning"] = "warning" if finding.warning or finding.optional else "error"
    return Problem(finding.code, finding.message + reads, at, finding.hint, finding.label, severity, related)
