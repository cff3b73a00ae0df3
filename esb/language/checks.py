"""What a person should hear about an expression before any message comes: names, functions, arguments, lookalikes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from esb.language.aliases import FUNCTION_WORDS, NOT_FUNCTIONS
from esb.language.base import SCOPE_NAMES, ExpressionError
from esb.language.declare import UNKNOWN, Function
from esb.language.parsing import Tree

_CONSTANTS = {"true": "true", "false": "false", "null": "null", "none": "null"}
_PLAIN_NAME = re.compile(r"[A-Za-z_]\w*")
_SEQUENCES = ("subexpression", "index_expression", "pipe")


def check(text: str, tree: Tree, functions: Mapping[str, Function]) -> frozenset[str]:
    """The dotted paths that an expression reads. Raises :class:`ExpressionError` (ESB401 to ESB404)."""
    checker = _Checker(text, functions)
    checker.visit(tree, root=True)
    return frozenset(checker.names)


def place(text: str, offset: int) -> tuple[int, int]:
    """Line and column, from 1, of a character."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def fault(code: str, text: str, message: str, offset: int, length: int = 1, hint: str = "") -> ExpressionError:
    """An error at a character of ``text``."""
    line, column = place(text, offset)
    return ExpressionError(code, message, offset=offset, length=length, hint=hint, line=line, column=column)


def nearest(word: str, known: Iterable[str]) -> str:
    """The name that was probably meant, or nothing."""
    names = {_squeeze(name): name for name in known}
    squeezed = _squeeze(word)
    if squeezed in names:
        return names[squeezed]
    close = difflib.get_close_matches(squeezed, names, n=1, cutoff=0.76)
    if not close:  # two letters that changed places make half of a short word another one
        close = [name for name in names if sorted(name) == sorted(squeezed)][:1]
    return names[close[0]] if close else ""


def function_hint(name: str, functions: Iterable[str]) -> str:
    """What to write instead of an unknown function: other tools' words first, then the nearest spelling."""
    squeezed = _squeeze(name)
    if squeezed in NOT_FUNCTIONS:
        return NOT_FUNCTIONS[squeezed]
    word = FUNCTION_WORDS.get(squeezed) or nearest(name, functions)
    return f"did you mean `{word}`?" if word else "docs/reference/functions.md lists the functions"


def _squeeze(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")


class _Checker:
    """Walks a tree; ``root`` says whether the current value is still the whole scope."""

    def __init__(self, text: str, functions: Mapping[str, Function]) -> None:
        self._text = text
        self._functions = functions
        self.names: set[str] = set()

    def visit(self, node: Tree, *, root: bool) -> None:
        kind = node["type"]
        if kind in _SEQUENCES:
            self._sequence(node, root)
        elif kind == "field":
            self._path([node], root)
        elif kind == "function_expression":
            self._call(node, root)
        elif kind in ("projection", "filter_projection", "flatten") and root and _is_scope(node):
            raise self._fault_in("ESB402", "the message itself is no list; write what is, like `body.items`", "[")
        elif kind in ("projection", "value_projection"):
            self.visit(node["children"][0], root=root)
            self.visit(node["children"][1], root=False)
        elif kind == "filter_projection":
            left, right, condition = node["children"]
            self.visit(left, root=root)
            self.visit(condition, root=False)
            self.visit(right, root=False)
        elif kind == "expref":
            raise self._fault_in("ESB401", "`&` only stands before an argument of a function such as sort_by", "&")
        elif kind == "comparator":
            self._comparator(node, root)
        elif kind == "slice":
            if node["children"][2] == 0:
                raise self._fault_in("ESB401", "the step of a slice cannot be 0", ":")
        else:
            for child in node["children"]:
                self.visit(child, root=root)

    def _sequence(self, node: Tree, root: bool) -> None:
        fields: list[Tree] = []
        parts = _parts(node)
        while parts and parts[0]["type"] in ("current", "identity", "root"):
            root = root or parts[0]["type"] == "root"
            parts = parts[1:]
        if root and parts and parts[0]["type"] in ("index", "slice"):
            raise self._fault_in("ESB402", "the message itself is no list; write what is, like `body.items`", "[")
        for part in parts:
            if part["type"] == "field":
                fields.append(part)
                continue
            if fields:
                self._path(fields, root)
                fields, root = [], False
            self.visit(part, root=root)
            root = False
        if fields:
            self._path(fields, root)

    def _path(self, fields: list[Tree], root: bool) -> None:
        """The fields of a chain; those after a pipe or an index come here without ``root``."""
        first = fields[0]
        if root and first["value"] not in SCOPE_NAMES:
            raise self._unknown_name(first, alone=len(fields) == 1)
        if root:
            self.names.add(".".join(field["value"] for field in fields))
        elif len(fields) == 1:
            self._lookalike(first)

    def _unknown_name(self, field: Tree, *, alone: bool) -> ExpressionError:
        name = field["value"]
        if alone:
            self._lookalike(field)
            if field.get("quoted"):
                hint = (
                    f"literal text stands in single quotes: '{name}'; a field begins with body, as in body.\"{name}\""
                )
                return self._fault_at(
                    field, "ESB402", f'"{name}" is a field, and there is none of that name here', hint
                )
        close = nearest(name, SCOPE_NAMES)
        if name == "params" and not alone:
            hint = "a parameter of a template is filled in as text: \"'{{ params.x }}'\""
        elif close:
            hint = f"did you mean `{close}`?"
        else:
            shown = name if _PLAIN_NAME.fullmatch(name) else f'"{name}"'
            hint = f"for the field write `body.{shown}`, for literal text '{name}'"
        return self._fault_at(field, "ESB402", f"`{name}` is not known here; names begin with {_listed()}", hint)

    def _lookalike(self, field: Tree) -> None:
        """A lone name that other languages read as a constant is nearly always meant as one."""
        constant = _CONSTANTS.get(field["value"].lower())
        if constant is not None and not field.get("quoted") and field["value"] in (
            "true", "false", "null", "True", "False", "None", "NULL", "TRUE", "FALSE",
        ):  # fmt: skip
            hint = f'the constant is written `{constant}` in backticks; a field of that name is "{field["value"]}"'
            raise self._fault_at(field, "ESB401", f"{field['value']} without quotes is the name of a field", hint)

    def _comparator(self, node: Tree, root: bool) -> None:
        for operand in node["children"]:
            self._quoted_text(operand, root)
            self.visit(operand, root=root)

    def _quoted_text(self, node: Tree, root: bool) -> None:
        """In a filter `"REJECT"` would be a field of the element, silently null."""
        if root or node["type"] != "field" or not node.get("quoted") or not _PLAIN_NAME.fullmatch(node["value"]):
            return
        name = node["value"]
        hint = f"literal text stands in single quotes: '{name}'; for the field write {name} without quotes"
        raise self._fault_at(node, "ESB401", f'"{name}" in double quotes is a field, not a text', hint)

    def _call(self, node: Tree, root: bool) -> None:
        name, arguments = node["value"], node["children"]
        function = self._functions.get(name)
        if function is None:
            hint = function_hint(name, self._functions)
            raise self._fault_at(node, "ESB403", f"there is no function `{name}`", hint)
        wrong = function.arity_fault(len(arguments))
        if wrong:
            raise self._fault_at(node, "ESB404", wrong, f"it is written {function.signature}")
        for number, argument in enumerate(arguments):
            self._argument(node, function, number, argument, root)
        wrong = function.literal_fault([_literal(argument) for argument in arguments])
        if wrong:
            raise self._fault_at(node, function.check_code, wrong, f"for example {function.example}")

    def _argument(self, call: Tree, function: Function, number: int, argument: Tree, root: bool) -> None:
        wants, is_expression = function.takes_expression(number), argument["type"] == "expref"
        if wants and not is_expression:
            message = f"argument {number + 1} of `{function.name}` is an expression for each element; put `&` before it"
            raise self._fault_at(call, "ESB404", message, f"it is written {function.signature}")
        if is_expression and not wants:
            message = f"argument {number + 1} of `{function.name}` is a value; `&` cannot stand before it"
            raise self._fault_at(call, "ESB404", message, f"it is written {function.signature}")
        if is_expression:
            self.visit(argument["children"][0], root=False)
        else:
            self._quoted_text(argument, root)
            self.visit(argument, root=root)

    # -- faults -------------------------------------------------------------------------------------------------------
    def _fault_at(self, node: Tree, code: str, message: str, hint: str) -> ExpressionError:
        length = len(node["value"]) + (2 if node.get("quoted") else 0)
        return fault(code, self._text, message, node["at"], length, hint)

    def _fault_in(self, code: str, message: str, sign: str) -> ExpressionError:
        """For the rare parts of a tree without a place of their own: their first sign in the text."""
        return fault(code, self._text, message, max(self._text.find(sign), 0))


def _parts(node: Tree) -> list[Tree]:
    parts: list[Tree] = []
    for child in node["children"]:
        # a pipe starts anew on the value before it; its left side keeps its own chain
        if child["type"] in ("subexpression", "index_expression"):
            parts.extend(_parts(child))
        else:
            parts.append(child)
    return parts


def _is_scope(node: Tree) -> bool:
    return node["children"][0]["type"] in ("identity", "current", "root")


def _literal(node: Tree) -> Any:
    return node["value"] if node["type"] == "literal" else UNKNOWN


def _listed() -> str:
    return ", ".join(SCOPE_NAMES[:-1]) + f" and {SCOPE_NAMES[-1]}"
