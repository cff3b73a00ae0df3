"""What came of a case: facts for the expectations, and the failures that they found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from esb.endpoints.base import Response
from esb.errors import Position
from esb.store.base import Stored
from esb.testing.bus import Published
from esb.testing.model import Case
from esb.testing.targets import Asked


@dataclass(frozen=True, slots=True)
class Failure:
    """One expectation that was not met; ``lines`` say more below it."""

    position: Position
    words: str
    lines: Sequence[str] = ()

    def __str__(self) -> str:
        return f"{self.position}: {self.words}"


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that can be known after a case. ``sent_in`` are the ids of what was sent, None where it was refused."""

    route: str
    messages: Sequence[Stored]
    asked: Sequence[Asked]
    published: Sequence[Published]
    responses: Sequence[Response | None]
    waits: Sequence[timedelta]
    unknown: Mapping[str, str]

    @property
    def arrived(self) -> list[Stored]:
        """The messages of the tested route itself, in order of acceptance."""
        return [one for one in self.messages if one.envelope.route == self.route and not one.envelope.scope]

    @property
    def taken(self) -> list[Asked]:
        """What targets took, each delivery once: a repeat comes under the id of the first."""
        found: dict[tuple[str, str], Asked] = {}
        for asked in self.asked:
            if asked.taken:
                found.setdefault((asked.to, asked.id), asked)
        return list(found.values())


@dataclass(frozen=True, slots=True)
class Result:
    """A case that was run. ``seconds`` are real, ``virtual`` on the clock of the case."""

    path: str
    route: str
    case: Case
    failures: Sequence[Failure] = ()
    trace: Sequence[str] = ()
    virtual: float = 0.0
    seconds: float = 0.0
    steps: Mapping[str, frozenset[str]] = field(default_factory=dict)  #: by route, those that ran
    ways: Mapping[str, frozenset[tuple[str, str]]] = field(default_factory=dict)  #: by route: step, what it decided
    facts: Facts | None = field(default=None, compare=False, repr=False)  #: what came of it

    @property
    def passed(self) -> bool:
        return not self.failures


def as_item(result: Result) -> dict[str, Any]:
    """The item of ``--json``."""
    return {
        "file": result.path,
        "line": result.case.position.line,
        "route": result.route,
        "name": result.case.name,
        "passed": result.passed,
        "seconds": round(result.seconds, 4),
        "virtual_seconds": round(result.virtual, 3),
        "failures": [
            {"at": str(failure.position), "message": failure.words, "detail": list(failure.lines)}
            for failure in result.failures
        ],
    }
