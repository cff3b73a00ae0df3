"""What EDIFACT and X12 share: segments of elements of components, as JSON that a mapping can address.

A segment is ``{"tag": "LIN", "e1": "10", "e3": "WIDGET-001", "e3_2": "VP"}``: ``e3`` is the third element, or its first
component; ``e3_2`` is the second component. An element that repeats is ``e8: [{"1": "a", "2": "b"}, {"1": "c"}]``.
Empty elements are left out. Nothing here knows what a segment means.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from msgspec import Struct

from esb.formats.csv import ERROR
from esb.formats.faults import invalid, shown
from esb.formats.numbers import in_bounds

_NAME = re.compile(r"e([1-9]\d{0,2})(?:_([1-9]\d?))?")
_NAMES = tuple(f"e{number}" for number in range(1, 1000))
_COMPONENT = re.compile(r"[1-9]\d?")

#: elements → repetitions → components
Elements = list[list[list[str]]]
#: what counts and references that do not match mean
Mode = Literal["refuse", "report", "mark"]


@dataclass(frozen=True, slots=True)
class Marks:
    """The service characters of an interchange; ``release`` and ``repetition`` may be empty."""

    component: str
    element: str
    terminator: str
    release: str = ""
    repetition: str = ""

    @property
    def special(self) -> str:
        return self.component + self.element + self.terminator + self.release + self.repetition


class Segment(Struct, frozen=True):
    """One segment of the file; ``number`` counts from 1, ``fields`` are its elements as they stand there.

    ``odd``: a release character or a repetition is in it.
    """

    number: int
    tag: str
    fields: list[str]
    marks: Marks
    odd: bool

    def get(self, element: int, component: int = 1) -> str:
        """The text of a component of the element's first repetition; empty where it is not there."""
        try:
            field = self.fields[element - 1]
            if component == 1 and not self.odd and self.marks.component not in field:
                return field
            return self.parts(element)[component - 1]
        except IndexError:
            return ""

    def parts(self, element: int) -> list[str]:
        """The components of the element's first repetition. Raises IndexError where the segment is too short for it."""
        field = self.fields[element - 1]
        return _element(field, self.marks)[0] if self.odd else field.split(self.marks.component)


class Faults:
    """Counts and references that do not match: the file is refused, or read all the same and the faults are listed.

    With ``mark`` a message that is wrong for itself is an item with what is wrong in ``$error``, as a row of a CSV file is; what
    is wrong with the whole refuses the file.
    """

    def __init__(self, message: str, mode: Mode | None) -> None:
        self._message = message
        self._mode = mode or "refuse"
        self.found: list[str] = []
        self.size = 0  #: characters of all that were found

    def add(self, detail: str, *, of_item: bool = False) -> None:
        """Raises Invalid unless faults (of a message: ``of_item``) are reported or marked."""
        if self._mode == "refuse" or (self._mode == "mark" and not of_item):
            hint = "the file was cut or edited; ask for it again, or set `faults: report`"
            raise invalid(self._message, detail, hint=hint)
        self.found.append(detail)
        self.size += len(detail)

    def beside(self, body: dict[str, Any], since: int = 0) -> dict[str, Any]:
        """``body`` with the faults that were found after the first ``since`` ones."""
        found = self.found[since:]
        return body | {"faults": found} if found and self._mode == "report" else body

    def beside_item(self, body: dict[str, Any], since: int) -> dict[str, Any]:
        """The same for a message, which may be marked."""
        found = self.found[since:]
        if not found or self._mode == "report":
            return self.beside(body, since)
        return body | {ERROR: {"pointer": "", "message": "; ".join(found)}}


def split_at(text: str, mark: str, release: str) -> list[str]:
    """What stands between marks whose meaning is not taken by a release character."""
    parts = text.split(mark)
    if not release or release not in text:
        return parts
    joined = [parts[0]]
    for part in parts[1:]:
        before = joined[-1]
        # an odd number of release characters takes the mark's meaning
        if before.endswith(release) and (len(before) - len(before.rstrip(release))) % 2:
            joined[-1] = before + mark + part
        else:
            joined.append(part)
    return joined


def _element(field: str, marks: Marks) -> list[list[str]]:
    repeats = split_at(field, marks.repetition, marks.release) if marks.repetition else [field]
    return [
        [_plain(part, marks.release) for part in split_at(repeat, marks.component, marks.release)] for repeat in repeats
    ]


def _plain(text: str, release: str) -> str:
    if not release or release not in text:
        return text
    return re.sub(re.escape(release) + r"(.)", r"\1", text, flags=re.DOTALL)


@dataclass(frozen=True, slots=True)
class Loop:
    """Where the repeating part of a message begins: at ``tag``; it ends for good at a tag of ``until``."""

    tag: str
    until: frozenset[str]

    def parts(self, segments: Sequence[Segment]) -> dict[str, Any]:
        """``segments`` before the first item, ``items`` with their segments, ``summary`` behind the last one."""
        head: list[dict[str, Any]] = []
        items: list[dict[str, Any]] = []
        summary: list[dict[str, Any]] = []
        for segment in segments:
            if summary or (segment.tag in self.until and items):
                summary.append(to_json(segment))
            elif segment.tag == self.tag:
                items.append({"segments": [to_json(segment)]})
            else:
                (items[-1]["segments"] if items else head).append(to_json(segment))
        return {"segments": head, "items": items, "summary": summary}


def body_segments(body: Mapping[str, Any], at: Sequence[str | int], message: str) -> Iterator[tuple[str, Elements]]:
    """The segments of a message in the order of the file, wherever they stand in it."""
    yield from _segments(body.get("segments"), (*at, "segments"), message)
    for index, item in enumerate(items_of(body, "items", at, message)):
        yield from _segments(item.get("segments"), (*at, "items", index, "segments"), message)
    yield from _segments(body.get("summary"), (*at, "summary"), message)


def _segments(found: Any, at: Sequence[str | int], message: str) -> Iterator[tuple[str, Elements]]:
    if found is None:
        return
    if not isinstance(found, (list, tuple)):
        raise invalid(message, f"it is {shown(found)}, not a list of segments", at=at)
    for index, segment in enumerate(found):
        yield from_json(segment, (*at, index), message)


def items_of(body: Mapping[str, Any], name: str, at: Sequence[str | int], message: str) -> Sequence[Mapping[str, Any]]:
    """The objects of a list; none where the name is missing. Raises Invalid where it is something else."""
    found = body.get(name)
    if found is None:
        return ()
    if not isinstance(found, (list, tuple)) or not all(isinstance(item, Mapping) for item in found):
        raise invalid(message, f"`{name}` is {shown(found)}, not a list of objects", at=(*at, name))
    return found


# -- segments as JSON --------------------------------------------------------------------------------------------------
def to_json(segment: Segment) -> dict[str, Any]:
    """The segment as a mapping can address it."""
    body: dict[str, Any] = {"tag": segment.tag}
    component, odd = segment.marks.component, segment.odd
    fields = segment.fields
    names = _NAMES if len(fields) <= len(_NAMES) else [f"e{number}" for number in range(1, len(fields) + 1)]
    for name, field in zip(names, fields, strict=False):
        if not field:
            continue
        if component not in field and not odd:  # most elements are one text
            body[name] = field
            continue
        repeats = _element(field, segment.marks) if odd else [field.split(component)]
        if len(repeats) > 1:
            body[name] = [{str(i): text for i, text in enumerate(parts, 1) if text} for parts in repeats]
            continue
        for index, text in enumerate(repeats[0], 1):
            if text:
                body[name if index == 1 else f"{name}_{index}"] = text
    return body


def from_json(body: Any, at: Sequence[str | int], message: str) -> tuple[str, Elements]:
    """Tag and elements of a segment written as JSON. Raises Invalid with the pointer of what is no element."""
    tag = body.get("tag") if isinstance(body, Mapping) else None
    if not isinstance(tag, str) or not (tag.isalnum() and tag.isascii() and 2 <= len(tag) <= 3):
        raise invalid(
            message, f"{shown(tag if isinstance(body, Mapping) else body)} is no segment tag", at=(*at, "tag")
        )
    found: dict[int, list[dict[int, str]]] = {}
    for name, value in body.items():
        if name == "tag" or value is None:
            continue
        match = _NAME.fullmatch(name)
        if match is None:
            hint = "elements are called e1, e2 …, components e3_2"
            raise invalid(message, f"segment {tag}: {shown(name)} is no element", at=(*at, name), hint=hint)
        number, component = int(match[1]), int(match[2] or 1)
        if isinstance(value, list) and component == 1:
            found[number] = [_repeat(one, (*at, name, index), message) for index, one in enumerate(value)]
        else:
            first = found.setdefault(number, [{}])[0]
            first[component] = cell(value, (*at, name), message)
    elements: Elements = []
    for number in range(1, max(found, default=0) + 1):
        repeats = found.get(number, [{}])
        elements.append([[one.get(i, "") for i in range(1, max(one, default=1) + 1)] for one in repeats])
    return tag, elements


def _repeat(value: Any, at: Sequence[str | int], message: str) -> dict[int, str]:
    if not isinstance(value, Mapping):
        return {1: cell(value, at, message)}
    for name in value:
        if not _COMPONENT.fullmatch(name):
            hint = 'components are called "1", "2" …'
            raise invalid(message, f"{shown(name)} is no component", at=(*at, name), hint=hint)
    return {int(name): cell(text, (*at, name), message) for name, text in value.items()}


def cell(value: Any, at: Sequence[str | int], message: str) -> str:
    """The text of one component: a text or an exact number. Raises Invalid for anything else."""
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            pass
        case int() | Decimal() if in_bounds(value):
            return str(value) if isinstance(value, int) else format(value, "f")
    raise invalid(message, f"{shown(value)} does not fit into an element", at=at, hint="elements are texts or numbers")


def write_segment(tag: str, elements: Elements, marks: Marks, message: str) -> str:
    """The segment as it stands in the file, empty elements at its end cut, service characters released."""
    written = []
    for repeats in elements:
        parts = [marks.component.join(_released(part, marks, message) for part in _cut(one)) for one in repeats]
        written.append((marks.repetition or marks.component).join(parts))
    return marks.element.join([tag, *_cut(written)]) + marks.terminator


def _cut(parts: Sequence[str]) -> Sequence[str]:
    end = len(parts)
    while end and not parts[end - 1]:
        end -= 1
    return parts[:end]


def _released(text: str, marks: Marks, message: str) -> str:
    special = [char for char in marks.special if char in text]
    if not special:
        return text
    if not marks.release:
        hint = "`replace` it in the route, or choose other service characters"
        raise invalid(message, f"{shown(text)} holds the service character {shown(special[0])}", hint=hint)
    return re.sub(f"([{re.escape(marks.special)}])", lambda match: marks.release + match[1], text)
