"""What a `map` makes against the contract that comes next: what is refused whatever the message holds is a fault of the route."""

from __future__ import annotations

from collections.abc import Iterator

from esb.errors import Position, Problem
from esb.language.shapes import UNKNOWN, Built, Listed, Shape, in_words


def misfits(made: Shape, wanted: Shape, at: Position, path: str = "body") -> Iterator[Problem]:
    """An error for each part of ``made`` that ``wanted`` (a contract) refuses, whatever is in it."""
    if wanted is UNKNOWN:
        return
    if isinstance(made, Listed):
        if wanted.is_only("array"):
            yield from misfits(made.item, wanted.items(), at, f"{path}[]")
        elif not wanted.can_be("array"):
            yield _problem(f"`{path}` is a list, {_whose(wanted)} wants {in_words(wanted.types)}", made, wanted, at)
        return
    if not isinstance(made, Built) or made.open:
        return
    if not wanted.can_be("object"):
        yield _problem(f"`{path}` is an object, {_whose(wanted)} wants {in_words(wanted.types)}", made, wanted, at)
        return
    if not wanted.is_only("object"):
        return
    for name in sorted(wanted.required - made.fields.keys()):
        yield _problem(f"`{path}.{name}` is never there, and {_whose(wanted)} requires it", made, wanted, at)
    for name, inner in made.fields.items():
        look = wanted.look(name)
        if look.verdict == "never":
            yield _problem(f"`{path}.{name}` is made, and {_whose(wanted)} refuses it", made, wanted, at)
        else:
            yield from misfits(inner, look.shape, at, f"{path}.{name}")


def _whose(wanted: Shape) -> str:
    return wanted.origin.words if wanted.origin is not None else "the contract"


def _problem(message: str, made: Shape, wanted: Shape, at: Position) -> Problem:
    related = []
    for shape, words in ((made, "made here"), (wanted, "wanted here")):
        place = shape.origin.place() if shape.origin is not None else None
        if place is not None:
            related.append((place, words))
    hint = "change the mapping, or take the contract that it is for"
    return Problem("ESB409", message, at, hint, label="refused", related=tuple(related))
