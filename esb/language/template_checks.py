"""What a person should hear about a template before any message comes: names, filters, calls, includes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import meta, nodes

from esb.language.base import SCOPE_NAMES, ExpressionError
from esb.language.checks import fault, function_hint, nearest
from esb.language.declare import UNKNOWN, Function
from esb.language.filters import INSTEAD, VALUE_SECOND
from esb.language.sandbox import Sandbox

#: names that Jinja itself gives inside loops and macros
_GIVEN = frozenset(("loop", "caller", "varargs", "kwargs", "super"))
_SCOPING = (
    nodes.For,
    nodes.Assign,
    nodes.AssignBlock,
    nodes.Macro,
    nodes.CallBlock,
    nodes.With,
    nodes.Import,
    nodes.FromImport,
)
_SCOPES = (nodes.For, nodes.Macro, nodes.CallBlock, nodes.With, nodes.FilterBlock, nodes.AssignBlock, nodes.Block)
_DUNDER = re.compile(r"__\w+__")


@dataclass(frozen=True, slots=True)
class Findings:
    """What a template reads and includes, and the names it sets (its includes see them)."""

    names: frozenset[str]
    includes: tuple[tuple[str, nodes.Node], ...]
    sets: frozenset[str]


def _never_set(node: nodes.Node, perhaps: frozenset[str]) -> Iterator[nodes.Name]:
    """Every name that is read where no `if` around or before it may have set it. Jinja counts as unknown what only an `if` sets,
    also where each of its branches does."""
    if isinstance(node, nodes.Name):
        if node.ctx == "load" and node.name not in perhaps:
            yield node
        return
    inner = perhaps | frozenset(_perhaps_set(node)) if isinstance(node, (nodes.Template, *_SCOPES)) else perhaps
    for child in node.iter_child_nodes():
        outside = isinstance(node, nodes.For) and child is node.iter
        yield from _never_set(child, perhaps if outside else inner)


def _perhaps_set(node: nodes.Node, *, guarded: bool = False) -> Iterator[str]:
    """The names that an `if` of a scope sets, not one in a scope inside of it: those of a loop are gone behind it."""
    for child in node.iter_child_nodes():
        if isinstance(child, nodes.Name):
            if guarded and child.ctx == "store":
                yield child.name
        elif isinstance(child, nodes.AssignBlock):
            if guarded and isinstance(child.target, nodes.Name):
                yield child.target.name
        elif not isinstance(child, _SCOPES):
            yield from _perhaps_set(child, guarded=guarded or isinstance(child, nodes.If))


class TemplateChecker:
    """Checks one template. ``allowed`` are names that an including template has set."""

    def __init__(
        self,
        text: str,
        tree: nodes.Template,
        sandbox: Sandbox,
        functions: Mapping[str, Function],
        allowed: frozenset[str],
    ) -> None:
        self._text = text
        self._tree = tree
        self._sandbox = sandbox
        self._functions = functions
        self._allowed = allowed

    def run(self) -> Findings:
        """Raises :class:`ExpressionError` (ESB403, ESB404, ESB406, ESB407)."""
        for node in self._tree.find_all((nodes.Filter, nodes.Test)):
            self._component(node)
        for call in self._tree.find_all(nodes.Call):
            if isinstance(call.node, nodes.Name) and call.node.name in self._functions:
                self._call(call, call.node.name, call.args)
        self._names()
        self._attributes()
        includes = tuple(self._includes())
        sets = frozenset(name.name for name in self._tree.find_all(nodes.Name) if name.ctx != "load")
        return Findings(frozenset(self._paths()), includes, sets)

    # -- names --------------------------------------------------------------------------------------------------------
    def _names(self) -> None:
        for name in self._tree.find_all(nodes.Name):
            if name.name == "self":
                raise self.fault("ESB407", "`self` is not available in templates", name, "self")
        if next(self._tree.find_all(_SCOPING), None) is None:
            used = {name.name for name in self._tree.find_all(nodes.Name)} - self._sandbox.globals.keys()
        else:
            used = meta.find_undeclared_variables(self._tree)
        self._uncalled()
        unknown = used - set(SCOPE_NAMES) - _GIVEN - self._allowed
        called = {call.node.name for call in self._tree.find_all(nodes.Call) if isinstance(call.node, nodes.Name)}
        for name in _never_set(self._tree, frozenset()) if unknown else ():
            if name.name not in unknown:
                continue
            if name.name in called:
                hint = function_hint(name.name, self._sandbox.globals)
                raise self.fault("ESB403", f"there is no function `{name.name}` in templates", name, name.name, hint)
            raise self.fault("ESB407", f"`{name.name}` is not known here", name, name.name, self._name_hint(name.name))

    def _uncalled(self) -> None:
        """``{{ now }}`` names a function; what is meant is ``{{ now() }}``."""
        own = {name.name for name in self._tree.find_all(nodes.Name) if name.ctx != "load"}
        for output in self._tree.find_all(nodes.Output):
            for node in output.nodes:
                if isinstance(node, nodes.Name) and node.name in self._sandbox.globals and node.name not in own:
                    hint = f"write {node.name}(…); for the field write `body.{node.name}`"
                    raise self.fault("ESB407", f"`{node.name}` is a function", node, node.name, hint)

    def _name_hint(self, name: str) -> str:
        close = nearest(name, SCOPE_NAMES)
        if close:
            return f"did you mean `{close}`?"
        if name in ("true", "false", "none", "True", "False", "None"):
            return f"write `{name.lower()}`"
        return f"for the field write `body.{name}`, for text '{name}'"

    def _attributes(self) -> None:
        for node in self._tree.find_all((nodes.Getattr, nodes.Getitem)):
            if isinstance(node, nodes.Getattr):
                attribute: Any = node.attr
            else:
                argument = getattr(node, "arg", None)
                attribute = argument.value if isinstance(argument, nodes.Const) else ""
            if isinstance(attribute, str) and _DUNDER.fullmatch(attribute):
                message = f"`{attribute}` is not available in templates"
                raise self.fault("ESB407", message, node, attribute, "a point reads the fields of a message only")

    def _paths(self) -> Iterator[str]:
        # a method's name is no field: `body.lot.upper()` reads `body.lot`
        inner = {id(call.node) for call in self._tree.find_all(nodes.Call)}
        for node in self._tree.find_all((nodes.Getattr, nodes.Getitem, nodes.Name)):
            path = path_of(node)
            if id(node) not in inner and path is not None and path[0] in SCOPE_NAMES:
                yield ".".join(str(part) for part in path)
            # find_all goes from the outside in: the shorter paths within a path are no paths of their own
            if path is not None and id(node) not in inner:
                child = getattr(node, "node", None)
                while child is not None:
                    inner.add(id(child))
                    child = getattr(child, "node", None)

    # -- filters, tests, calls ----------------------------------------------------------------------------------------
    def _component(self, node: Any) -> None:
        if isinstance(node, nodes.Test):
            if node.name not in self._sandbox.tests:
                close = nearest(node.name, self._sandbox.tests)
                hint = f"did you mean `is {close}`?" if close else "tests are `is defined`, `is none`, `is string` …"
                raise self.fault("ESB407", f"there is no test `is {node.name}`", node, node.name, hint)
            return
        if node.name not in self._sandbox.filters:
            hint = INSTEAD.get(node.name) or function_hint(
                node.name, [n for n in self._sandbox.filters if " " not in n]
            )
            raise self.fault("ESB407", f"there is no filter `{node.name}`", node, node.name, hint)
        if node.name in self._functions and not (node.name == "sum" or node.name in ("min", "max", "sort", "map")):
            arguments = [node.node, *node.args] if node.node is not None else [nodes.Const(None), *node.args]
            if node.name in VALUE_SECOND and len(arguments) > 1:
                arguments[:2] = arguments[1::-1]
            if node.name != "join":
                self._call(node, node.name, arguments)

    def _call(self, node: nodes.Call | nodes.Filter, name: str, arguments: list[Any]) -> None:
        function = self._functions[name]
        if not function.in_templates or node.dyn_args is not None or node.dyn_kwargs is not None:
            return
        written = f"it is written {function.signature}"
        if node.kwargs:
            raise self.fault("ESB404", f"`{name}` takes its arguments by place, not by name", node, name, written)
        wrong = function.arity_fault(len(arguments))
        if wrong:
            raise self.fault("ESB404", wrong, node, name, written)
        literals = [argument.value if isinstance(argument, nodes.Const) else UNKNOWN for argument in arguments]
        wrong = function.literal_fault(literals)
        if wrong:
            raise self.fault(function.check_code, wrong, node, name, f"for example {function.example}")

    # -- includes -----------------------------------------------------------------------------------------------------
    def _includes(self) -> Iterator[tuple[str, nodes.Node]]:
        for node in self._tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
            template = getattr(node, "template", None)
            if not isinstance(template, nodes.Const) or not isinstance(template.value, str):
                raise self.fault("ESB406", "the name of an included file must be written out", node, "{%")
            yield template.value, node

    # -- faults -------------------------------------------------------------------------------------------------------
    def fault(self, code: str, message: str, node: nodes.Node, word: str, hint: str = "") -> ExpressionError:
        return fault_in_line(self._text, code, message, node.lineno, word, hint)


def fault_in_line(text: str, code: str, message: str, line: int, word: str, hint: str = "") -> ExpressionError:
    """An error at a word of a line; Jinja knows no columns."""
    lines = text.split("\n")
    line = min(max(line, 1), len(lines))
    start = sum(len(before) + 1 for before in lines[: line - 1])
    pattern = rf"(?<!\w){re.escape(word)}(?!\w)" if word[:1].isalnum() or word[:1] == "_" else re.escape(word)
    inside = re.compile(r"\{[{%].*?" + f"({pattern})") if word else None
    match = (inside and inside.search(text, start)) or (re.compile(pattern).search(text, start) if word else None)
    if match is None:
        return fault(code, text, message, start, max(len(lines[line - 1]), 1), hint)
    offset = match.start(match.lastindex or 0)
    return fault(code, text, message, offset, len(word), hint)


def path_of(node: nodes.Node) -> list[str | int] | None:
    """``body.lot['id'][0]`` as its parts; None for anything that is not a plain path."""
    parts: list[str | int] = []
    while not isinstance(node, nodes.Name):
        if isinstance(node, nodes.Getattr):
            parts.append(node.attr)
        elif (
            isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) and type(node.arg.value) in (str, int)
        ):
            parts.append(node.arg.value)
        else:
            return None
        node = node.node
    return [node.name, *reversed(parts)]
