"""What one document collects while it is read: its blocks, the names that it reads, what it refers to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from esb.errors import Position
from esb.language import Expression, Language, TextTemplate
from esb.spec import Reader
from esb.steps.base import Block


@dataclass(frozen=True, slots=True)
class Reading:
    """Names that something in a document reads. ``at`` and ``what`` where it is a file or an operation elsewhere."""

    names: frozenset[str]
    at: Position | None = None
    what: str = ""


@dataclass(slots=True)
class Scope:
    """What one document collects while it is read."""

    blocks: dict[str, Block] = field(default_factory=dict)
    step_names: dict[str, Position] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    connectors: set[str] = field(default_factory=set)
    readings: list[Reading] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Unfilled:
    """A connector that a site has not filled in, or that no site is there for."""

    message: str
    hint: str
    declared: Position
    at: Position | None = None  #: where it is to be filled in

    def report(self, used: Position, reader: Reader) -> Any:
        places = [(self.declared, "the connector is declared here")]
        if self.at is not None:
            places.insert(0, (used, "needed here"))
        return reader.problem("ESB315", self.message, self.at or used, hint=self.hint, related=places)


class RecordingLanguage:
    """Compiles through another language and tells which names every text reads."""

    def __init__(self, language: Language, record: Callable[[frozenset[str]], None]) -> None:
        self._language, self._record = language, record

    def expression(self, text: str) -> Expression:
        found = self._language.expression(text)
        self._record(found.names)
        return found

    def template(self, text: str) -> TextTemplate:
        found = self._language.template(text)
        self._record(found.names)
        return found

    def file_template(self, text: str, name: str) -> TextTemplate:
        return self._language.file_template(text, name)
