"""Where a document comes from that nobody wrote as it is: a problem in it names the template's line and the site's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from esb.errors import Position, Problem

#: places that one problem names at most
_MOST = 6


@dataclass(frozen=True, slots=True)
class Origin:
    """A template (or a connector with parameters), and the line of the site that uses it."""

    what: str  #: in words: ``template `hold-sync` ``
    declared: Position
    site: str
    used: Position
    #: by line of the template: where the values that were filled in there stand
    given: dict[tuple[str, int], list[tuple[Position, str]]] = field(default_factory=dict)

    def told(self, problem: Problem) -> Problem:
        """The problem with its second place."""
        at = problem.position
        if at.path == self.used.path:
            places = [(self.declared, f"{self.what} is declared here")]
        else:
            places = [*self.given.get((at.path, at.line), ()), (self.used, f"used here by site {self.site}")]
        known = {place for place, _ in problem.related}
        fresh = [(place, words) for place, words in places if place not in known and place != at]
        return replace(problem, related=(*problem.related, *fresh))

    def tell(self, problems: Iterable[Problem]) -> Iterator[Problem]:
        return map(self.told, problems)


def merged(problems: Iterable[Problem]) -> list[Problem]:
    """Each problem once, with the places of every site that has it."""
    found: dict[Problem, list[tuple[Position, str]]] = {}
    for problem in problems:
        places = found.setdefault(replace(problem, related=()), [])
        places += [place for place in problem.related if place not in places]
    return [replace(problem, related=tuple(places[:_MOST])) for problem, places in found.items()]
