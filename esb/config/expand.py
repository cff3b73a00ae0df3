"""``{{ params.x }}`` in a template or connector: what stands there for one site, decided once, when the files are read.

A value that is nothing but ``{{ params.x }}`` becomes the parameter itself, with its type. In a longer text the parameter
is written into it. What else stands between ``{{`` and ``}}`` is left for the message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Any

import jinja2
import jinja2.meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from esb.config.reader import WorkspaceReader
from esb.config.sites import Deviation
from esb.errors import Position
from esb.secret import Secret
from esb.spec import ListNode, MapNode, Node, ScalarNode, to_plain

_BLOCK = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_TAG = re.compile(r"\{%.*?\bparams\b.*?%\}", re.DOTALL)
_PATH = re.compile(r"params((?:\.[A-Za-z_][\w-]*|\[\d+\])+)")
_PART = re.compile(r"\.([A-Za-z_][\w-]*)|\[(\d+)\]")
_READS = re.compile(r"\bparams\.([A-Za-z_][\w-]*)")
#: stands for a value that nobody gave
_LEFT_OUT: Any = object()


@dataclass(slots=True)
class Expansion:
    """Fills parameters into nodes; every fault goes to ``reader`` with the template's place."""

    params: Mapping[str, Node]
    site: Mapping[str, Any]
    reader: WorkspaceReader
    given: dict[tuple[str, int], list[tuple[Position, str]]] = field(default_factory=dict)

    def of(self, node: MapNode) -> MapNode:
        """A tree of its own with everything filled in; a key whose whole value nobody gave is left out."""
        found = self._node(node)
        assert isinstance(found, MapNode)
        return found

    def text(self, node: ScalarNode) -> Node:
        """One value, filled in."""
        found = self._scalar(node)
        return node if found is _LEFT_OUT else found

    def _node(self, node: Node) -> Node | Any:
        match node:
            case MapNode():
                entries = [(self._key(key), self._node(value)) for key, value in node.entries]
                return MapNode(node.position, tuple((key, value) for key, value in entries if value is not _LEFT_OUT))
            case ListNode():
                items = [self._node(item) for item in node.items]
                return ListNode(node.position, tuple(item for item in items if item is not _LEFT_OUT))
            case ScalarNode():
                return self._scalar(node)
        return node

    def _key(self, key: ScalarNode) -> ScalarNode:
        found = self._scalar(key)
        if isinstance(found, ScalarNode) and isinstance(found.value, (str, int, Decimal)):
            return ScalarNode(key.position, str(found.value), str(found.value), True)
        self.reader.problem("ESB317", "a key needs a text", key)
        return key

    def _scalar(self, node: ScalarNode) -> Node | Any:
        before = len(self.reader.problems)
        found = self._filled(node)
        if len(self.reader.problems) > before:  # it was spoken about: nothing more is said of it
            return ScalarNode(node.position, None, node.text, unknown=True)
        return found

    def _filled(self, node: ScalarNode) -> Node | Any:
        text = node.value
        if not isinstance(text, str) or not ("{{" in text or "{%" in text):
            return ScalarNode(node.position, text, node.text, node.quoted, node.expanded, node.unknown)
        if _TAG.search(text):
            hint = "decide with `if` beside the step, or with `choose`; `{{ params.x }}` may stand in the text"
            self.reader.problem("ESB317", "`params` cannot be asked in `{% … %}`", node, hint=hint)
            return node
        whole = _BLOCK.fullmatch(text.strip())
        path = _PATH.fullmatch(whole[1]) if whole else None
        if path is not None:
            return self._typed(path[1], node)
        pieces = list(self._pieces(text, node))
        if all(not isinstance(piece, Secret) for piece in pieces):
            filled: str | Secret = "".join(map(str, pieces))
        else:
            filled = Secret("".join(p.reveal() if isinstance(p, Secret) else str(p) for p in pieces))
        if filled == text:
            return ScalarNode(node.position, text, node.text, node.quoted, node.expanded, node.unknown)
        marked = f"{node.text[0]}\n{filled}" if node.text[:2] in ("|\n", ">\n") else str(filled)
        return ScalarNode(node.position, filled, marked, node.quoted, True)

    # -- a whole value ------------------------------------------------------------------------------------------------
    def _typed(self, path: str, node: ScalarNode) -> Node | Any:
        found = self._find(path, node)
        if found is None or (isinstance(found, ScalarNode) and found.value is None and not found.unknown):
            return _LEFT_OUT
        self._note(node, found, f"params{path}")
        if isinstance(found, ScalarNode):
            return ScalarNode(node.position, found.value, found.text, found.quoted, found.expanded, found.unknown)
        return _copy(found)

    def _find(self, path: str, node: ScalarNode) -> Node | None:
        """The parameter at a path; None where nobody gave it. An unknown one is reported where the template is read."""
        found: Node | None = None
        for number, (name, index) in enumerate(_PART.findall(path)):
            if number == 0:
                found = self.params.get(name)
            elif isinstance(found, MapNode) and name:
                found = found.get(name)
            elif isinstance(found, ListNode) and index:
                found = found.items[int(index)] if int(index) < len(found.items) else None
            elif found is not None:
                self.reader.problem("ESB317", f"`params{path}` goes deeper than the parameter does", node)
                return None
        return found

    def _note(self, node: ScalarNode, found: Node, words: str) -> None:
        notes = self.given.setdefault((node.position.path, node.position.line), [])
        note = (found.position, f"`{words}` is given here")
        if note not in notes:
            notes.append(note)

    # -- a text -------------------------------------------------------------------------------------------------------
    def _pieces(self, text: str, node: ScalarNode) -> Iterator[str | Secret]:
        at = 0
        for block in _BLOCK.finditer(text):
            yield text[at : block.start()]
            at = block.end()
            path = _PATH.fullmatch(block[1])
            yield self._written(path[1], node) if path else self._evaluated(block, node)
        yield text[at:]

    def _written(self, path: str, node: ScalarNode) -> str | Secret:
        """A parameter inside a text."""
        found = self._find(path, node)
        if not isinstance(found, ScalarNode) or found.value is None:
            what = "has no value" if found is None else f"is {found.what}"
            hint = "give it a `default`, or let it be the whole value"
            self.reader.problem("ESB317", f"`params{path}` {what}, which cannot stand in a text", node, hint=hint)
            return ""
        self._note(node, found, f"params{path}")
        if isinstance(found.value, (Secret, str)):
            return found.value
        return found.text.strip()

    def _evaluated(self, block: re.Match[str], node: ScalarNode) -> str:
        """What needs the parameters and the site alone; the rest is left for the message."""
        try:
            names, template = _compiled(block[0])
        except jinja2.TemplateSyntaxError as error:
            if "params" in block[1]:  # else the template language says what is wrong with it
                self.reader.problem("ESB317", f"`{block[0]}` has no value: {error.message}", node)
            return block[0]
        if not names or ("params" not in names and names != {"site"}):
            return block[0]
        if names - {"params", "site"}:
            hint = "write `{{ params.x }}` by itself: its text stands there when the message comes"
            self.reader.problem("ESB317", "`params` is mixed with what only a message knows", node, hint=hint)
            return block[0]
        for name in _READS.findall(block[1]):
            if (found := self.params.get(name)) is not None:
                self._note(node, found, f"params.{name}")
        try:
            scope = {"params": {name: _shown(value) for name, value in self.params.items()}, "site": self.site}
            return template.render(scope)
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError) as error:
            if "params" not in names:
                return block[0]  # `site.x` that is not there: lint says it of every route
            self.reader.problem("ESB317", f"`{block[0]}` has no value: {error}", node)
            return block[0]


_JINJA = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined)


@lru_cache(maxsize=4096)
def _compiled(block: str) -> tuple[frozenset[str], jinja2.Template]:
    """The names that a block reads, and the block; a template has the same ones for every site."""
    names = frozenset(jinja2.meta.find_undeclared_variables(_JINJA.parse(block)))
    return names, _JINJA.from_string(block)


def _shown(node: Node) -> Any:
    plain = to_plain(node)
    return _Hidden() if isinstance(plain, Secret) else plain


class _Hidden:
    def __str__(self) -> str:
        raise jinja2.TemplateRuntimeError("a secret stands by itself, without a filter")

    __html__ = __str__


def _copy(node: Node) -> Node:
    """A tree of its own: one place of a document is one node."""
    match node:
        case MapNode():
            return MapNode(node.position, tuple((key, _copy(value)) for key, value in node.entries))
        case ListNode():
            return ListNode(node.position, tuple(_copy(item) for item in node.items))
        case ScalarNode():
            return ScalarNode(node.position, node.value, node.text, node.quoted, node.expanded, node.unknown)
    return node


def merge(base: MapNode, over: MapNode) -> MapNode:
    """``base`` with what ``over`` says otherwise: mappings are merged, everything else is replaced.

    Where a mapping names one of several kinds (``from``, ``when_down``) another kind replaces it as a whole.
    """
    entries = list(base.entries)
    for key, value in over.entries:
        place = next((number for number, (old, _) in enumerate(entries) if old.text == key.text), None)
        if place is None:
            entries.append((key, value))
            continue
        old = entries[place][1]
        together = isinstance(old, MapNode) and isinstance(value, MapNode) and _merge(key.text, old, value)
        entries[place] = (key, merge(old, value) if together else value)  # type: ignore[arg-type]  # both are mappings
    return MapNode(base.position, tuple(entries))


def _merge(key: str, old: MapNode, value: MapNode) -> bool:
    """Whether two mappings are merged: not where they name different kinds of a thing."""
    return key not in ("from", "when_down") or bool(set(old.keys()) & set(value.keys()))


def deviations_of(base: MapNode, over: MapNode, field: str = "") -> Iterator[Deviation]:
    """Every value that :func:`merge` would make another, by its dotted path."""
    for key, value in over.entries:
        old, path = base.get(key.text), f"{field}.{key.text}".lstrip(".")
        if isinstance(old, MapNode) and isinstance(value, MapNode) and _merge(key.text, old, value):
            yield from deviations_of(old, value, path)
        elif (before := to_plain(old) if old is not None else None) != (after := to_plain(value)):
            yield Deviation(path, before, after, key.position)


def params_read(node: Node) -> Iterator[tuple[str, ScalarNode]]:
    """Every parameter that is named between ``{{`` and ``}}``, with the value (or key) that names it."""
    match node:
        case ScalarNode():
            if isinstance(node.value, str) and "params" in node.value:
                for block in _BLOCK.findall(node.value):
                    yield from ((name, node) for name in _READS.findall(block))
        case ListNode():
            for item in node.items:
                yield from params_read(item)
        case MapNode():
            for key, value in node.entries:
                yield from params_read(key)
                yield from params_read(value)
