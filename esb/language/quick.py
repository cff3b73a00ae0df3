"""Templates that only put texts, fields and functions together, run without Jinja: the paths and names of most routes.

``/lots/{{ body.lot }}/x`` and ``{{ meta.received_at | date_format('%Y/%m') }}`` are of this kind. Jinja's parser has read them;
what they mean here is what they mean there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from jinja2 import nodes

from esb.language.base import SCOPE_NAMES
from esb.language.declare import Function
from esb.language.output import as_output, joined
from esb.language.template_checks import path_of

Scope = Mapping[str, Any]
Part = Callable[[Scope], Any]


class _NotQuick(Exception):
    """This template needs Jinja."""


def quick(
    tree: nodes.Template, filters: Mapping[str, Any], functions: Mapping[str, Function], limit: int
) -> Callable[[Scope], str] | None:
    """The template as a plain function of at most ``limit`` characters; None where it needs Jinja."""
    builder = _Builder(filters, functions)
    parts: list[Any] = []
    try:
        for statement in tree.body:
            if not isinstance(statement, nodes.Output):
                return None
            parts.extend(builder.output(node) for node in statement.nodes)
    except _NotQuick:
        return None

    def evaluate(scope: Scope) -> str:
        text = "".join([part if type(part) is str else part(scope) for part in parts])
        if len(text) > limit:
            raise ValueError(f"the text has more than {limit} characters")
        return text

    return evaluate


class _Builder:
    def __init__(self, filters: Mapping[str, Any], functions: Mapping[str, Function]) -> None:
        self._filters = filters
        self._functions = functions

    def output(self, node: nodes.Expr) -> Any:
        if isinstance(node, nodes.TemplateData):
            return node.data
        part = self.part(node)
        path = path_of(node)
        name = ".".join(map(str, path)) if path else ""

        def text(scope: Scope) -> str:
            value = part(scope)
            if value is None and name:
                raise ValueError(f"`{name}` is null; say what stands in its place: `{name} | default('')`")
            return as_output(value)

        return text

    def part(self, node: nodes.Expr, *, missing_ok: bool = False) -> Part:
        path = path_of(node)
        if path is not None:
            return self._path(path, missing_ok)
        if isinstance(node, nodes.Const) and type(node.value) in (str, int, Decimal):
            value = node.value
            return lambda scope: value
        if isinstance(node, nodes.Concat):
            parts = [self.part(child) for child in node.nodes]
            return lambda scope: joined([part(scope) for part in parts], "")
        if isinstance(node, (nodes.Filter, nodes.Call)) and not (node.kwargs or node.dyn_args or node.dyn_kwargs):
            return self._call(node)
        raise _NotQuick

    def _path(self, path: list[str | int], missing_ok: bool) -> Part:
        if path[0] not in SCOPE_NAMES:
            raise _NotQuick
        name = ".".join(map(str, path))

        def read(scope: Scope) -> Any:
            value: Any = scope
            try:
                for key in path:
                    value = value[key]
            except (KeyError, TypeError, IndexError):
                if missing_ok:
                    return None
                raise ValueError(f"there is no `{name}` in this message") from None
            return value

        return read

    def _call(self, node: nodes.Filter | nodes.Call) -> Part:
        if isinstance(node, nodes.Call):
            if not isinstance(node.node, nodes.Name):
                raise _NotQuick
            name, arguments = node.node.name, node.args
            function = self._functions.get(name)
        else:
            if node.node is None:
                raise _NotQuick
            name, arguments = node.name, [node.node, *node.args]
            function = self._functions.get(name)
        own = self._filters.get(name) if isinstance(node, nodes.Filter) else None
        if own is not None and name == "xref" and len(arguments) > 1:
            arguments[:2], own = arguments[1::-1], None
        if function is not None and function.in_templates and self._is_own(own, function):
            return self._function(function, arguments)
        if own is None or hasattr(own, "jinja_pass_arg"):
            raise _NotQuick
        parts = [self.part(argument) for argument in arguments]
        return lambda scope: own(*[part(scope) for part in parts])

    @staticmethod
    def _is_own(own: Any, function: Function) -> bool:
        """Whether the filter of that name is the function (and not Jinja's, or one with other places)."""
        return own is None or getattr(own, "__wrapped__", None) == function.call

    def _function(self, function: Function, arguments: list[nodes.Expr]) -> Part:
        parts = [self.part(argument, missing_ok=function.missing_ok) for argument in arguments]
        call = function.call
        if function.scoped:
            return lambda scope: call(scope, *[part(scope) for part in parts])
        if len(parts) == 1:
            (only,) = parts
            return lambda scope: call(only(scope))
        return lambda scope: call(*[part(scope) for part in parts])
