"""What an expression gives, and what in it can never be there, as far as the shape of the message is known."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from esb.language.checks import nearest
from esb.language.parsing import Tree
from esb.language.shapes import (
    NULL,
    NUMBER,
    TEXT,
    UNKNOWN,
    YES_NO,
    Built,
    Listed,
    Origin,
    Shape,
    either,
    in_words,
    of_value,
    paths_of,
)

#: functions that only take numbers, and those that only take texts (see `numbers.py`, `texts.py`)
_ARITHMETIC = frozenset({"add", "sub", "mul", "div", "mod", "abs", "ceil", "floor", "round"})
_GIVES: Mapping[str, Shape] = {
    **dict.fromkeys((*_ARITHMETIC, "sum", "length"), NUMBER),
    **dict.fromkeys(("concat", "join", "lower", "upper", "pad", "substr", "trim", "to_string", "type", "hash"), TEXT),
    **dict.fromkeys(("contains", "starts_with", "ends_with"), YES_NO),
    "keys": Listed(TEXT),
    "split_text": Listed(TEXT),
}
_SAME = frozenset({"sort", "sort_by", "reverse", "unique"})
_ALTERNATIVES = frozenset({"coalesce", "default", "not_null"})
_ORDER = frozenset({"lt", "lte", "gt", "gte"})
#: a field of this name stands for a question: what is there at this place?
PROBE = "esb_probe_"
_PLAIN_NAME = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in an expression that cannot work, with its place in the text.

    ``optional`` where the expression says itself what is to be there otherwise. ``origin`` declares what is there instead.
    """

    code: str
    message: str
    hint: str
    offset: int
    length: int
    warning: bool = False
    label: str = "always null"
    origin: Origin | None = None
    optional: bool = False
    path: str = ""
    asked: Shape | None = None  #: what is known where `PROBE` stands; nothing is wrong then


@dataclass(frozen=True, slots=True)
class Known:
    """A value on its way: its shape, and how it is written (``body.lot``), empty where it is no plain path."""

    shape: Shape
    path: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """A field that is read: its whole path, where in the text, and the entity that it is a field of, where that is known."""

    path: str
    offset: int
    length: int
    entity: str = ""


Report = Callable[[Finding], None]


@dataclass(slots=True)
class Inference:
    """Walks one expression. ``root`` is the whole message: ``body``, ``vars``, ``meta`` and the rest."""

    root: Shape
    report: Report
    trail: list[Seen] | None = None  #: takes down every field that is read, where somebody wants to know
    _optional: int = 0

    def shape(self, tree: Tree) -> Shape:
        """What the expression gives."""
        return self._visit(tree, Known(self.root), "").shape

    def _visit(self, node: Tree, at: Known, _: str = "") -> Known:
        kind, children = node["type"], node["children"]
        match kind:
            case "field":
                return self.field(node, at)
            case "subexpression" | "index_expression" | "pipe":
                for child in children:
                    at = self._visit(child, at)
                return at
            case "index":
                return self._items(at, "[]")
            case "slice":
                return at
            case "current" | "identity":
                return at
            case "root":
                return Known(self.root)
            case "literal":
                return Known(of_value(node["value"]))
            case "projection" | "filter_projection":
                return self._projection(node, at)
            case "flatten":
                return self._flatten(self._visit(children[0], at))
            case "value_projection":
                self._visit(children[0], at)
                return Known(Listed(self._visit(children[1], Known(UNKNOWN)).shape))
            case _:
                return Known(self._compound(node, at))

    def _compound(self, node: Tree, at: Known) -> Shape:
        kind, children = node["type"], node["children"]
        match kind:
            case "multi_select_list":
                return Listed(either([self._visit(child, at).shape for child in children]))
            case "multi_select_dict":
                return Built({pair["value"]: self._visit(pair["children"][0], at).shape for pair in children})
            case "or_expression":
                left = self._either_way(children[0], at)
                return either([left, self._visit(children[1], at).shape])
            case "and_expression":
                return either([self._visit(child, at).shape for child in children])
            case "not_expression":
                self._visit(children[0], at)
                return YES_NO
            case "comparator":
                self._compare(node, *(self._visit(child, at) for child in children))
                return YES_NO if node["value"] in ("eq", "ne") else UNKNOWN
            case "function_expression":
                return self._call(node, at)
        for child in children:
            if isinstance(child, dict):
                self._visit(child, at)
        return UNKNOWN

    def _either_way(self, node: Tree, at: Known) -> Shape:
        """A part that may well be null: something else stands beside it."""
        self._optional += 1
        try:
            return self._visit(node, at).shape
        finally:
            self._optional -= 1

    # -- fields and lists -----------------------------------------------------------------------------------------------
    def field(self, node: Tree, at: Known) -> Known:
        """A field of a value."""
        name, shape = node["value"], at.shape
        path = _joined(at.path, name)
        if self.trail is not None and at.path:
            entity = shape.origin.entity if shape.origin is not None else ""
            self.trail.append(Seen(path, node["at"], len(name) + (2 if node.get("quoted") else 0), entity))
        if name == PROBE:
            self.report(Finding("", "", "", node["at"], len(PROBE), path=path, asked=shape))
            return Known(UNKNOWN, path)
        if shape is UNKNOWN:
            return Known(UNKNOWN, path)
        if not shape.can_be("object"):
            self._no_object(node, at, path)
            return Known(UNKNOWN)
        look = shape.look(name)
        if look.verdict == "there":
            return Known(look.shape, path)
        if look.verdict == "never" or nearest(name, shape.names()):
            self._missing(node, at, path, sure=look.verdict == "never")
        return Known(UNKNOWN, path)

    def _missing(self, node: Tree, at: Known, path: str, *, sure: bool) -> None:
        right = self._instead(at, node["value"])
        declared = at.shape.origin
        whose = declared.words if declared else "what the step before makes"
        hint = f"did you mean `{right}`?" if right else self._listed(at)
        close = at.shape.look(nearest(node["value"], at.shape.names())).shape
        verb = "is not in" if sure else "is not declared in"
        shown = close if close.origin is not None else at.shape
        self._tell(node, "ESB402", f"`{path}` {verb} {whose}", hint, shown, path, sure=sure)

    def _instead(self, at: Known, name: str) -> str:
        """The nearest path that exists: beside it, else anywhere in the body."""
        close = nearest(name, at.shape.names())
        if close:
            return _joined(at.path, close)
        wanted = _squeeze(name)
        elsewhere = [path for path in paths_of(self.root.look("body").shape) if path[-1] == name]
        joined = [path for path in paths_of(at.shape) if len(path) > 1 and _squeeze("".join(path)) == wanted]
        if joined:
            return _written(at.path, joined[0])
        if len(elsewhere) == 1 and "[]" not in elsewhere[0]:
            return _written("body", elsewhere[0])
        loose = get_close_matches(name, list(at.shape.names()), n=1, cutoff=0.65)
        return _joined(at.path, loose[0]) if loose else ""

    def _listed(self, at: Known) -> str:
        names = list(at.shape.names())
        shown = ", ".join(names[:8]) + (" …" if len(names) > 8 else "")
        return f"known here: {shown}" if names else ""

    def _no_object(self, node: Tree, at: Known, path: str) -> None:
        what, inside = in_words(at.shape.types), at.shape.items()
        hint = f"`{at.path or 'it'}` has no fields"
        if at.shape.is_only("array") and (inside is UNKNOWN or inside.look(node["value"]).verdict == "there"):
            hint = f"for the field of every item write `{at.path}[].{node['value']}`, for the first `{at.path}[0]`"
        message = f"`{path}` cannot be there: `{at.path or 'this'}` is {what}"
        self._tell(node, "ESB402", message, hint, at.shape, path, sure=True)

    def _items(self, at: Known, sign: str) -> Known:
        path = f"{at.path}{sign}" if at.path else ""
        if at.shape is UNKNOWN or not at.shape.can_be("array"):
            return Known(UNKNOWN, path)
        return Known(at.shape.items(), path)

    def _projection(self, node: Tree, at: Known) -> Known:
        left = self._visit(node["children"][0], at)
        item = self._items(left, "" if left.path.endswith("[]") else "[]")
        if node["type"] == "filter_projection":
            self._visit(node["children"][2], item)
        inner = self._visit(node["children"][1], item)
        return Known(Listed(inner.shape), inner.path)

    def _flatten(self, at: Known) -> Known:
        """The items of a list, those that are lists taken apart."""
        path = f"{at.path}[]" if at.path and not at.path.endswith("[]") else at.path
        if at.shape is UNKNOWN or not at.shape.is_only("array"):
            return Known(UNKNOWN, path)
        item = at.shape.items()
        if not item.can_be("array"):
            return Known(Listed(item), path)
        return Known(Listed(item.items() if item.is_only("array") else UNKNOWN), path)

    # -- comparing and calling ------------------------------------------------------------------------------------------
    def _compare(self, node: Tree, left: Known, right: Known) -> None:
        if left.shape is UNKNOWN or right.shape is UNKNOWN:
            return
        one, other = left.shape.types - {"null"}, right.shape.types - {"null"}
        place = _first_at(node)
        if place is None or not one or not other:
            return
        named = left if left.path else right
        if not one & other or (node["value"] in _ORDER and not (one & other) & {"number", "string"}):
            always = "true" if node["value"] == "ne" else "null" if node["value"] in _ORDER else "false"
            literal = right if named is left else left
            message = f"`{named.path or 'this'}` is {in_words(named.shape.types)}, compared with {in_words(literal.shape.types)}"
            hint = _quoted_hint(named.shape, literal.shape)
            self._warn(place, "ESB408", message, hint, f"always {always}", named.shape)
        elif node["value"] in ("eq", "ne"):
            self._one_of(place, node["value"], left, right)

    def _one_of(self, place: Tree, operator: str, left: Known, right: Known) -> None:
        """A literal that a contract's list of values does not have."""
        named, literal = (left, right) if left.path else (right, left)
        allowed, given = named.shape.values, literal.shape.values
        if not named.path or literal.path or not allowed or given is None or len(given) != 1:
            return
        if any(_same(value, given[0]) for value in allowed):
            return
        close = nearest(str(given[0]), [value for value in allowed if isinstance(value, str)])
        words = ", ".join(_shown(value) for value in allowed if value is not None)
        message = f"`{named.path}` is never {_shown(given[0])}: {_whose(named.shape)} allows {_cut(words)}"
        hint = f"did you mean '{close}'?" if close else ""
        self._warn(place, "ESB408", message, hint, f"always {'true' if operator == 'ne' else 'false'}", named.shape)

    def _call(self, node: Tree, at: Known) -> Shape:
        name, children = node["value"], node["children"]
        plain = [child for child in children if child["type"] != "expref"]
        optional = name in _ALTERNATIVES and len(plain) > 1
        known = []
        for child in plain:
            self._optional += optional
            known.append(self._visit(child, at))
            self._optional -= optional
        inner: Shape = UNKNOWN
        for child in children:
            if child["type"] == "expref":
                inner = self._visit(child["children"][0], self._items(known[0], "[]") if known else at).shape
        if name in _ARITHMETIC:
            self._numbers(node, plain, known[:1] if name == "round" else known)
        return self._result(name, known, inner)

    def _numbers(self, node: Tree, children: Sequence[Tree], known: Sequence[Known]) -> None:
        for child, value in zip(children, known, strict=False):
            kinds = value.shape.types
            if value.shape is UNKNOWN or kinds & {"number", "null"} or not value.path:
                continue
            place = _first_at(child) or node
            hint = f"write `number({value.path})`" if "string" in kinds else ""
            message = f"`{node['value']}` needs a number, `{value.path}` is {in_words(kinds)}"
            self._warn(place, "ESB408", message, hint, "fails on every message", value.shape)

    @staticmethod
    def _result(name: str, known: Sequence[Known], inner: Shape) -> Shape:
        if name in _GIVES:
            return _GIVES[name]
        if name in _SAME and known and known[0].shape.is_only("array"):
            return known[0].shape
        if name == "map":
            return Listed(inner)
        if name in ("coalesce", "not_null"):
            return either([value.shape for value in known])
        return UNKNOWN

    # -- telling --------------------------------------------------------------------------------------------------------
    def _tell(self, node: Tree, code: str, message: str, hint: str, shape: Shape, path: str, *, sure: bool) -> None:
        length = len(node["value"]) + (2 if node.get("quoted") else 0)
        optional = self._optional > 0
        label = "always null" if sure else "probably always null"
        found = Finding(code, message, hint, node["at"], length, not sure, label, shape.origin, optional, path)
        self.report(found)

    def _warn(self, node: Tree, code: str, message: str, hint: str, label: str, shape: Shape) -> None:
        length = len(str(node["value"])) + (2 if node.get("quoted") else 0)
        self.report(Finding(code, message, hint, node["at"], length, True, label, shape.origin))


def _first_at(node: Any) -> Tree | None:
    """The first part of a tree that knows its place."""
    if not isinstance(node, dict):
        return None
    if "at" in node:
        return node
    return next((found for found in map(_first_at, node["children"]) if found is not None), None)


def _joined(path: str, name: str) -> str:
    shown = name if _PLAIN_NAME.fullmatch(name) else f'"{name}"'
    return f"{path}.{shown}" if path else shown


def _written(start: str, path: Iterable[str]) -> str:
    for name in path:
        start = start + "[]" if name == "[]" else _joined(start, name)
    return start


def _squeeze(word: str) -> str:
    return re.sub(r"[\W_]", "", word).lower()


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _shown(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)


def _cut(text: str) -> str:
    return text if len(text) <= 120 else text[:119] + "…"


def _whose(shape: Shape) -> str:
    return shape.origin.words if shape.origin else "the step before"


def _quoted_hint(named: Shape, literal: Shape) -> str:
    if named.is_only("string") and literal.is_only("number") and literal.values:
        return f"for the text write '{literal.values[0]}'; for its number `number(…)`"
    if named.is_only("number") and literal.is_only("string") and literal.values:
        text = str(literal.values[0])
        return f"for the number write `{text}` in backticks" if re.fullmatch(r"-?\d+(\.\d+)?", text) else ""
    return ""


__all__ = ["NULL", "PROBE", "Finding", "Inference", "Known"]
