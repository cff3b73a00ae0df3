"""Syntax tree to Python: each expression becomes one function (plus one per ``&expr``), compiled once at load.

JMESPath is context-free: a part of an expression depends on nothing but the current value ``n`` and the whole scope ``R``.
So every part is a run of statements over local names, and a part that stands too deep moves into a function of its own
(Python allows 20 nested blocks). The source holds only names made here and constants by ``repr``; values of messages are
never part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from esb.language.declare import Function
from esb.language.parsing import Tree
from esb.language.values import is_number

#: Deepest indentation of generated code.
_DEEPEST = 12

#: Most fields read in one statement; Python's compiler is recursive.
_LONGEST_CHAIN = 50

_ORDERING = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}


# -- what generated code calls --------------------------------------------------------------------------------------------


def _flatten(base: Any) -> list[Any] | None:
    if type(base) is not list:
        return None
    if list not in map(type, base):
        return base[:]
    merged: list[Any] = []
    for element in base:
        if type(element) is list:
            merged.extend(element)
        else:
            merged.append(element)
    return merged


def _values(base: Any) -> list[Any] | None:
    return list(base.values()) if isinstance(base, Mapping) else None


def _equal(left: Any, right: Any) -> bool:
    """Equality in which true is not 1 and false is not 0."""
    return bool(left == right) and (type(left) is bool) == (type(right) is bool)


def _orderable(left: Any, right: Any) -> bool:
    return (is_number(left) and is_number(right)) or (type(left) is str and type(right) is str)


def _lt(left: Any, right: Any) -> bool | None:
    return left < right if _orderable(left, right) else None


def _lte(left: Any, right: Any) -> bool | None:
    return left <= right if _orderable(left, right) else None


def _gt(left: Any, right: Any) -> bool | None:
    return left > right if _orderable(left, right) else None


def _gte(left: Any, right: Any) -> bool | None:
    return left >= right if _orderable(left, right) else None


_HELPERS: Mapping[str, Any] = {
    "flatten": _flatten,
    "values": _values,
    "equal": _equal,
    "lt": _lt,
    "lte": _lte,
    "gt": _gt,
    "gte": _gte,
    "partial": partial,
}


def generate(tree: Tree, functions: Mapping[str, Function], name: str) -> Callable[[Any], Any]:
    """The compiled expression: a function of the scope. ``functions`` has every function that the tree calls."""
    writer = _Writer(functions)
    main = writer.function(tree, root=True)
    code = compile(writer.source(), f"<expression {name[:60]}>", "exec")
    namespace = {**_HELPERS, **writer.constants}
    exec(code, namespace)  # noqa: S102 - the source is made here, of own names and constants only
    compiled: Callable[[Any], Any] = namespace[main]
    return compiled


class _Writer:
    """Collects the functions of one expression."""

    def __init__(self, functions: Mapping[str, Function]) -> None:
        self._functions = functions
        self._done: list[str] = []
        self._count = 0
        self.constants: dict[str, Any] = {}

    def source(self) -> str:
        return "\n".join(self._done)

    def fresh(self, prefix: str = "v") -> str:
        self._count += 1
        return f"{prefix}{self._count}"

    def constant(self, value: Any) -> str:
        # always by name: Python warns of literals that are called, indexed or compared by identity
        name = self.fresh("k")
        self.constants[name] = value
        return name

    def callee(self, name: str) -> str:
        self.constants[f"fn_{name}"] = self._functions[name].call
        return f"fn_{name}"

    def scoped(self, name: str) -> bool:
        return self._functions[name].scoped

    def function(self, tree: Tree, *, root: bool = False) -> str:
        """Write a function for a subtree and give its name. The main function gets the scope only."""
        name = self.fresh("f")
        body = _Body(self)
        result = body.value(tree, "R" if root else "n")
        head = f"def {name}(R):" if root else f"def {name}(R, n):"
        self._done.append("\n".join([head, *body.lines, f" return {result}"]))
        return name


class _Body:
    """Writes the statements of one function; every method gives the name that holds its result."""

    def __init__(self, writer: _Writer) -> None:
        self._writer = writer
        self.lines: list[str] = []
        self._depth = 1

    def _line(self, text: str) -> None:
        self.lines.append(" " * self._depth + text)

    def _assign(self, expression: str) -> str:
        name = self._writer.fresh()
        self._line(f"{name} = {expression}")
        return name

    # -- values -------------------------------------------------------------------------------------------------------
    def value(self, node: Tree, current: str) -> str:
        if self._depth > _DEEPEST and node["children"]:
            return self._assign(f"{self._writer.function(node)}(R, {current})")
        name: str = getattr(self, f"_{node['type']}")(node, current)
        return name

    def _identity(self, node: Tree, current: str) -> str:
        return current

    _current = _identity

    def _root(self, node: Tree, current: str) -> str:
        return "R"

    def _literal(self, node: Tree, current: str) -> str:
        return self._writer.constant(node["value"])

    def _field(self, node: Tree, current: str) -> str:
        return self._path([node], current)

    def _path(self, fields: list[Tree], current: str) -> str:
        """A chain of plain fields: one attempt; the first part that is no object makes it null."""
        while len(fields) > _LONGEST_CHAIN:
            current, fields = self._path(fields[:_LONGEST_CHAIN], current), fields[_LONGEST_CHAIN:]
        name = self._writer.fresh()
        self._line("try:")
        self._line(f" {name} = {current}{_gets(fields)}")
        self._line("except AttributeError:")
        self._line(f" {name} = None")
        return name

    def _sequence(self, node: Tree, current: str) -> str:
        fields: list[Tree] = []
        for child in _flat(node):
            if child["type"] == "field":
                fields.append(child)
                continue
            if fields:
                current, fields = self._path(fields, current), []
            current = self.value(child, current)
        return self._path(fields, current) if fields else current

    _subexpression = _sequence
    _index_expression = _sequence
    _pipe = _sequence

    def _index(self, node: Tree, current: str) -> str:
        place = node["value"]
        least = place + 1 if place >= 0 else -place
        return self._assign(f"{current}[{place}] if type({current}) is list and len({current}) >= {least} else None")

    def _slice(self, node: Tree, current: str) -> str:
        start, stop, step = ("" if part is None else str(int(part)) for part in node["children"])
        return self._assign(f"{current}[{start}:{stop}:{step}] if type({current}) is list else None")

    def _flatten(self, node: Tree, current: str) -> str:
        return self._assign(f"flatten({self.value(node['children'][0], current)})")

    # -- projections --------------------------------------------------------------------------------------------------
    def _projection(self, node: Tree, current: str) -> str:
        left, right = node["children"]
        base = self.value(left, current)
        return self._collect(base, f"type({base}) is list", right)

    def _value_projection(self, node: Tree, current: str) -> str:
        left, right = node["children"]
        base = self._assign(f"values({self.value(left, current)})")
        return self._collect(base, f"{base} is not None", right)

    def _filter_projection(self, node: Tree, current: str) -> str:
        left, right, condition = node["children"]
        base = self.value(left, current)
        return self._collect(base, f"type({base}) is list", right, condition)

    def _collect(self, base: str, guard: str, right: Tree, condition: Tree | None = None) -> str:
        if right["type"] == "identity" and condition is None:
            item = self._writer.fresh()
            return self._assign(f"[{item} for {item} in {base} if {item} is not None] if {guard} else None")
        result = self._assign("None")
        item = self._writer.fresh()
        self._line(f"if {guard}:")
        self._line(f" {result} = []")
        self._line(f" for {item} in {base}:")
        self._depth += 2
        before = self._depth
        if condition is not None:
            self._line(f"if {self._test(condition, item)}:")
            self._depth += 1
        found = self.value(right, item)
        self._line(f"if {found} is not None: {result}.append({found})")
        self._depth = before - 2
        return result

    # -- made values --------------------------------------------------------------------------------------------------
    def _multi_select_list(self, node: Tree, current: str) -> str:
        return self._made(current, lambda: "[" + ", ".join(self._all(node["children"], current)) + "]")

    def _multi_select_dict(self, node: Tree, current: str) -> str:
        pairs = node["children"]
        keys = [pair["value"] for pair in pairs]

        def build() -> str:
            parts = self._all([pair["children"][0] for pair in pairs], current)
            return "{" + ", ".join(f"{key!r}: {part}" for key, part in zip(keys, parts, strict=True)) + "}"

        return self._made(current, build)

    def _made(self, current: str, build: Callable[[], str]) -> str:
        if current == "R":
            return self._assign(build())
        result = self._assign("None")
        self._line(f"if {current} is not None:")
        self._depth += 1
        self._line(f"{result} = {build()}")
        self._depth -= 1
        return result

    def _all(self, nodes: list[Tree], current: str) -> list[str]:
        """The values of several parts; plain fields of the same object share one attempt."""
        plain = [place for place, node in enumerate(nodes) if node["type"] == "field"]
        if len(plain) < 2:
            return [self.value(node, current) for node in nodes]
        names = {place: self._writer.fresh() for place in plain}
        self._line("try:")
        self._line(f" get = {current}.get")
        self._line("except AttributeError:")
        self._line(f" {' = '.join(names.values())} = None")
        self._line("else:")
        for place, name in names.items():
            self._line(f" {name} = get({nodes[place]['value']!r})")
        return [names[place] if place in names else self.value(node, current) for place, node in enumerate(nodes)]

    def _function_expression(self, node: Tree, current: str) -> str:
        arguments = ["R"] if self._writer.scoped(node["value"]) else []
        for child in node["children"]:
            if child["type"] == "expref":
                arguments.append(f"partial({self._writer.function(child['children'][0])}, R)")
            else:
                arguments.append(self.value(child, current))
        return self._assign(f"{self._writer.callee(node['value'])}({', '.join(arguments)})")

    # -- conditions ---------------------------------------------------------------------------------------------------
    def _comparator(self, node: Tree, current: str) -> str:
        return self._assign(self._comparison(node, current))

    def _comparison(self, node: Tree, current: str) -> str:
        left, right = node["children"]
        word = node["value"]
        if word in _ORDERING:
            return f"{word}({self.value(left, current)}, {self.value(right, current)})"
        if left["type"] == "literal":
            left, right = right, left
        operand = self.value(left, current)
        if right["type"] == "literal":
            same = _same_as(operand, right["value"]) or f"equal({operand}, {self._literal(right, current)})"
        else:
            same = f"equal({operand}, {self.value(right, current)})"
        return same if word == "eq" else f"not ({same})"

    def _test(self, node: Tree, current: str) -> str:
        """A Python condition that is true where the part is true in JMESPath (0 is true, empty text is not)."""
        match node["type"]:
            case "comparator":
                return self._comparison(node, current)
            case "not_expression":
                return f"not ({self._test(node['children'][0], current)})"
            case "and_expression" | "or_expression" if self._depth <= _DEEPEST:
                return self._joined_test(node, current)
        name = self.value(node, current)
        return f"({name} or {name} == 0 and {name} is not False)"

    def _joined_test(self, node: Tree, current: str) -> str:
        left, right = node["children"]
        result = self._assign(self._test(left, current))
        self._line(f"if {result}:" if node["type"] == "and_expression" else f"if not {result}:")
        self._depth += 1
        self._line(f"{result} = {self._test(right, current)}")
        self._depth -= 1
        return result

    def _not_expression(self, node: Tree, current: str) -> str:
        return self._assign(f"not ({self._test(node['children'][0], current)})")

    def _and_expression(self, node: Tree, current: str) -> str:
        return self._either(node, current, "if {0} or {0} == 0 and {0} is not False:")

    def _or_expression(self, node: Tree, current: str) -> str:
        return self._either(node, current, "if not ({0} or {0} == 0 and {0} is not False):")

    def _either(self, node: Tree, current: str, condition: str) -> str:
        left, right = node["children"]
        result = self._assign(self.value(left, current))
        self._line(condition.format(result))
        self._depth += 1
        self._line(f"{result} = {self.value(right, current)}")
        self._depth -= 1
        return result


def _gets(fields: Iterable[Tree]) -> str:
    return "".join(f".get({field['value']!r})" for field in fields)


def _flat(node: Tree) -> list[Tree]:
    """The parts of a chain in order; chains within chains are one chain."""
    parts: list[Tree] = []
    for child in node["children"]:
        if child["type"] in ("subexpression", "index_expression", "pipe"):
            parts.extend(_flat(child))
        elif child["type"] != "identity":
            parts.append(child)
    return parts


def _same_as(operand: str, literal: Any) -> str:
    """The shortest test for equality with a literal; empty where only the general one will do."""
    if literal is None or literal is True or literal is False:
        return f"{operand} is {literal!r}"
    if isinstance(literal, str) or (type(literal) is int and literal not in (0, 1)):
        return f"{operand} == {literal!r}"
    return ""
