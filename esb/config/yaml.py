"""YAML text to nodes that know their place, by YAML 1.2 rules.

PyYAML gives the events; what a plain scalar means is decided here, so that ``on``, ``no``, ``10:30``, ``0012`` and ``12e5``
stay text. Every fault becomes a problem; nothing here raises for content.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import yaml

from esb.config.syntax import character_problem, syntax_problem
from esb.errors import Position, Problem
from esb.secret import Secret
from esb.spec.nodes import ListNode, MapNode, Node, ScalarNode


class Filled(NamedTuple):
    """A text whose ``${…}`` were filled in, if it had any (``expanded``) and all of them could be found (not ``unknown``)."""

    value: str | Secret
    expanded: bool = True
    unknown: bool = False


#: Fills ``${…}`` in a text; reports what it cannot find.
Expand = Callable[[str, Position], Filled]
Report = Callable[[Problem], None]

MAX_DEPTH = 60
#: nodes that aliases may add to one document
MAX_ALIASED = 50_000

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"-?(?:0|[1-9][0-9]{0,299})")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,299})\.[0-9]{1,300}")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("null", "Null", "NULL", "~", ""), None),
}


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file: its root node and its text as it stands there."""

    path: str
    node: Node
    text: str


class _Stop(Exception):
    """The rest of the file cannot be read; the problem is already reported."""


def read_scalar(text: str) -> str | int | Decimal | bool | None:
    """What a plain scalar means: whole numbers and decimals without leading zeros, true, false, null; else text."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        return Decimal(text)
    return text


def read_documents(text: str, path: str, report: Report, expand: Expand | None = None) -> tuple[list[Document], bool]:
    """The documents of a file, and whether all of it could be read. Empty documents are left out."""
    places: set[tuple[int, int]] = set()

    def note(problem: Problem) -> None:
        """One place, one problem: what comes after the first is its consequence."""
        place = (problem.position.line, problem.position.column)
        if place not in places:
            places.add(place)
            report(problem)

    composer = _Composer(text, path, note, expand)
    documents: list[Document] = []
    try:
        documents.extend(composer.documents())
    except _Stop:
        return documents, False
    except yaml.MarkedYAMLError as error:
        note(syntax_problem(error, text, path))
        return documents, False
    except yaml.reader.ReaderError as error:
        note(character_problem(chr(error.character) if isinstance(error.character, int) else "\0", text, path))
        return documents, False
    return documents, True


def _mark(mark: Any) -> Any:
    """A place that every event of a parser has, whatever the type stubs say."""
    return mark


class _Composer:
    def __init__(self, text: str, path: str, report: Report, expand: Expand | None) -> None:
        self._text, self._path, self._report, self._expand = text, path, report, expand
        self._lines = text.splitlines()
        self._events = iter(yaml.parse(text, Loader=_LOADER))
        self._anchors: dict[str, Node | None] = {}
        self._aliased = 0

    # -- documents ----------------------------------------------------------------------------------------------------
    def documents(self) -> Iterator[Document]:
        for event in self._events:
            if not isinstance(event, yaml.DocumentStartEvent):
                continue
            self._anchors, self._aliased = {}, 0
            start = _mark(event.end_mark).line
            node = self._node(next(self._events), 0)
            end = next(self._events)
            if isinstance(node, ScalarNode) and node.value is None:
                continue
            mark = _mark(end.start_mark)
            last = mark.line + (1 if mark.column else 0)
            text = "\n".join(self._lines[start:last])
            yield Document(self._path, node, text.strip("\n") + "\n")

    # -- nodes --------------------------------------------------------------------------------------------------------
    def _node(self, event: Any, depth: int) -> Node:
        if depth > MAX_DEPTH:
            self._problem("ESB005", f"nested deeper than {MAX_DEPTH} levels", self._at(event))
            raise _Stop
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if event.tag is not None:
            self._tag(event)
        if event.anchor:
            self._anchors[event.anchor] = None  # being built: an alias to it in here is a recursion
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._list(event, depth)
        else:
            node = self._map(event, depth)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _list(self, event: Any, depth: int) -> ListNode:
        items = []
        while not isinstance(inner := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(inner, depth + 1))
        return ListNode(self._collection_at(event, inner, None), tuple(items))

    def _map(self, event: Any, depth: int) -> MapNode:
        entries: list[tuple[ScalarNode, Node]] = []
        merges: list[tuple[ScalarNode, Node]] = []
        seen: dict[str, Position] = {}
        first: Position | None = None
        while not isinstance(inner := next(self._events), yaml.MappingEndEvent):
            first = first or self._at(inner)
            key = self._key(inner, depth + 1)
            value = self._node(next(self._events), depth + 1)
            if key is None:
                continue
            if key.text == "<<" and not key.quoted:
                merges.append((key, value))
            elif key.text in seen:
                self._problem(
                    "ESB003",
                    f"the key `{key.text}` stands twice in the same mapping",
                    key.position,
                    label="second time",
                    hint="keep one of the two",
                    related=((seen[key.text], "first time"),),
                )
            else:
                seen[key.text] = key.position
                entries.append((key, value))
        for key, value in merges:
            self._merge(key, value, entries, seen)
        return MapNode(self._collection_at(event, inner, first), tuple(entries))

    def _merge(
        self, key: ScalarNode, value: Node, entries: list[tuple[ScalarNode, Node]], seen: dict[str, Position]
    ) -> None:
        for source in value.items if isinstance(value, ListNode) else (value,):
            if not isinstance(source, MapNode):
                self._problem(
                    "ESB103",
                    "`<<` takes in a mapping",
                    key.position,
                    hint="write `<<: *anchor`, or quote the key: '<<'",
                )
                return
            fresh = [entry for entry in source.entries if entry[0].text not in seen]
            seen.update({entry[0].text: entry[0].position for entry in fresh})
            entries.extend(fresh)

    def _key(self, event: Any, depth: int) -> ScalarNode | None:
        if not isinstance(event, yaml.ScalarEvent):
            at = self._at(event)
            node = self._node(event, depth)
            if isinstance(node, ScalarNode):  # an alias of a text
                return node
            if self._text_at(at).startswith("{") and self._text_at(at, -1).startswith("{"):
                at = Position(at.path, at.line, max(1, at.column - 1), 2)
                self._problem(
                    "ESB008",
                    "`{{ … }}` at the start of a value must stand in quotes",
                    at,
                    hint='write it like "{{ body.name }}"',
                )
            else:
                self._problem("ESB008", "a key must be a text", at, label=f"this is {node.what}")
            return None
        if event.tag is not None:
            self._tag(event)
        at, quoted = self._at(event), event.style in ("'", '"')
        node = ScalarNode(at, event.value, event.value, quoted)
        if not quoted and not isinstance(read_scalar(event.value), str):
            what = f"`{event.value}`" if event.value else "an empty key"
            self._problem("ESB008", f"a key must be a text, not {what}", at, hint=f"put it in quotes: '{event.value}'")
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _scalar(self, event: Any) -> ScalarNode:
        raw: str = event.value
        if event.style in ("|", ">"):
            return self._value(self._block_at(event), raw, f"{event.style}\n{raw}", quoted=True)
        at, quoted = self._at(event), event.style in ("'", '"')
        if quoted or event.tag == "tag:yaml.org,2002:str":
            return self._value(at, raw, raw, quoted=True)
        value = read_scalar(raw)
        if isinstance(value, str):
            return self._value(at, value, raw, quoted=False)
        return ScalarNode(at, value, raw)

    def _value(self, at: Position, value: str, text: str, *, quoted: bool) -> ScalarNode:
        if self._expand is None or "${" not in value:
            return ScalarNode(at, value, text, quoted)
        filled = self._expand(value, at)
        return ScalarNode(at, filled.value, text, quoted, filled.expanded, filled.unknown)

    # -- aliases and tags ---------------------------------------------------------------------------------------------
    def _alias(self, event: Any) -> Node:
        at = self._at(event)
        if event.anchor not in self._anchors:
            self._problem("ESB001", f"`*{event.anchor}` names no anchor above", at, hint="for a text, put it in quotes")
            return ScalarNode(at, None, "")
        node = self._anchors[event.anchor]
        if node is None:
            self._problem("ESB005", f"`*{event.anchor}` stands inside what it names", at, hint="write the part out")
            raise _Stop
        return self._copy(node, at)

    def _copy(self, node: Node, at: Position) -> Node:
        """A tree of its own, so that one place is one node; bounded, so that a few lines cannot become millions."""
        self._aliased += 1
        if self._aliased > MAX_ALIASED:
            self._problem("ESB005", f"aliases add more than {MAX_ALIASED} values to this document", at)
            raise _Stop
        match node:
            case ListNode():
                return ListNode(node.position, tuple(self._copy(item, at) for item in node.items))
            case MapNode():
                return MapNode(node.position, tuple((key, self._copy(value, at)) for key, value in node.entries))
        return node

    def _tag(self, event: Any) -> None:
        known = {"tag:yaml.org,2002:str": yaml.ScalarEvent, "tag:yaml.org,2002:map": yaml.MappingStartEvent}
        if known.get(event.tag) is type(event) or event.tag == "!":
            return
        shown = event.tag.replace("tag:yaml.org,2002:", "!!")
        self._problem(
            "ESB007",
            f"the tag `{shown}` is not allowed",
            Position(self._path, event.start_mark.line + 1, event.start_mark.column + 1, len(shown)),
            hint="take the tag away; for a text that looks like a number use quotes",
        )

    # -- places -------------------------------------------------------------------------------------------------------
    def _at(self, event: Any) -> Position:
        start, end = event.start_mark, event.end_mark
        if start.line == end.line:
            length = end.column - start.column
        else:
            line = self._lines[start.line] if start.line < len(self._lines) else ""
            length = len(line.rstrip()) - start.column
        return Position(self._path, start.line + 1, start.column + 1, max(1, length))

    def _collection_at(self, start: Any, end: Any, first: Position | None) -> Position:
        mark = start.start_mark
        if start.flow_style:
            whole = end.end_mark.line == mark.line
            length = end.end_mark.column - mark.column if whole else 1
            return Position(self._path, mark.line + 1, mark.column + 1, max(1, length))
        return first or Position(self._path, mark.line + 1, mark.column + 1, 1)

    def _block_at(self, event: Any) -> Position:
        """The first line of a ``|`` or ``>`` text: what is wrong stands there, not at the sign."""
        for number in range(event.start_mark.line + 1, min(event.end_mark.line + 1, len(self._lines))):
            line = self._lines[number]
            if line.strip():
                content = line.strip()
                return Position(self._path, number + 1, len(line) - len(line.lstrip()) + 1, len(content))
        return Position(self._path, event.start_mark.line + 1, event.start_mark.column + 1, 1)

    def _text_at(self, at: Position, shift: int = 0) -> str:
        return self._lines[at.line - 1][max(0, at.column - 1 + shift) :]

    def _problem(self, code: str, message: str, at: Position, **more: Any) -> None:
        self._report(Problem(code, message, at, **more))
