"""The Jinja environment of templates: a closed world over plain data.

Templates are written by the people who write routes, message data never becomes a template. Still, nothing of Python can be
reached from one: names come from a list, a point reads fields of objects and never an attribute of a Python value, methods
come from a table, and whatever grows (loops, calls, repetition, output) is bounded. Numbers are exact decimals.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, nodes
from jinja2.exceptions import SecurityError
from jinja2.lexer import Lexer, Token
from jinja2.runtime import BlockReference, Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from esb.language import numbers
from esb.language.output import as_output, bounded_concat, joined
from esb.language.texts import replace
from esb.language.values import MAX_TEXT, describe, in_bounds, is_number

#: Turns of loops of one rendering, and how many turns a call counts for.
MAX_TURNS = 1_000_000
CALL_TURNS = 5
#: Numbers that one ``range`` may give.
MAX_RANGE = 100_000

_LOOP_FIELDS = frozenset(
    ("index", "index0", "revindex", "revindex0", "first", "last", "length", "previtem", "nextitem", "depth", "depth0")
)
_CALLED = "()"  #: marks, in a rewritten tree, an attribute that is called


def _join_method(text: str, parts: Iterable[Any]) -> str:
    return joined(parts, text)


_TEXT_METHODS = (
    "upper", "lower", "strip", "lstrip", "rstrip", "split", "rsplit", "splitlines", "startswith", "endswith", "title",
    "capitalize", "casefold", "isdigit", "isalpha", "isalnum", "isspace", "isupper", "islower", "find", "rfind", "count",
    "partition", "rpartition", "removeprefix", "removesuffix",
)  # fmt: skip
_METHODS: tuple[tuple[type, Mapping[str, Callable[..., Any]]], ...] = (
    (
        str,
        {name: getattr(str, name) for name in _TEXT_METHODS} | {"replace": replace, "join": _join_method},
    ),
    (Mapping, {"get": lambda o, k, d=None: o.get(k, d), "keys": list, "values": lambda o: list(o.values()),
               "items": lambda o: list(o.items())}),
    (list, {"index": list.index, "count": list.count}),
)  # fmt: skip


class Method:
    """A method that templates may call, bound to its value."""

    __slots__ = ("_function", "_value")

    def __init__(self, function: Callable[..., Any], value: Any) -> None:
        self._function, self._value = function, value

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._function(self._value, *arguments, **named)


class Meter(threading.local):
    """Counts the turns of the rendering that runs in this thread."""

    left = MAX_TURNS

    def start(self) -> None:
        self.left = MAX_TURNS

    def turn(self, count: int = 1) -> None:
        self.left -= count
        if self.left < 0:
            raise SecurityError(f"more than {MAX_TURNS} turns of loops and calls")

    def each(self, items: Iterable[Any]) -> Iterator[Any]:
        if not isinstance(items, Iterable):
            raise SecurityError(f"a loop needs a list, this is {describe(items)}")
        for item in items:
            self.turn()
            yield item


class MissingField(StrictUndefined):
    """A name or field that the message does not have; says so in words of messages, not of Python."""

    __slots__ = ()

    @property
    def _undefined_message(self) -> str:
        if self._undefined_hint:
            return self._undefined_hint
        return f"there is no `{self._undefined_name}` in this message"


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment. ``callables`` and ``filters`` are all that templates have; ``load`` gives the text of an include."""

    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%", "**"))
    intercepted_unops = frozenset(("+", "-"))

    def __init__(
        self,
        callables: Mapping[str, Callable[..., Any]],
        filters: Mapping[str, Callable[..., Any]],
        load: Callable[[str], str | None],
    ) -> None:
        super().__init__(
            undefined=MissingField,
            autoescape=False,
            finalize=as_output,
            keep_trailing_newline=True,
            auto_reload=False,
            cache_size=-1,
            loader=FunctionLoader(load),
        )
        self.meter = Meter()
        self.concat = bounded_concat  # type: ignore[method-assign]  # a plain function in place of "".join
        self.globals = {**callables, "range": bounded_range}
        self.filters = {
            **filters,
            _EACH: self.meter.each,
            _TEXTS: lambda parts: joined(parts, ""),
            _DECIMAL: Decimal,
        }
        self._callables = frozenset(self.globals.values())
        self._exact_lexer = ExactLexer(self)

    # -- reading ------------------------------------------------------------------------------------------------------
    @property
    def lexer(self) -> Lexer:
        return self._exact_lexer

    def tree(self, source: str, name: str | None = None) -> nodes.Template:
        """The syntax tree as it is written."""
        return super()._parse(source, name, None)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return rewritten(super()._parse(source, name, filename))

    # -- what a point and brackets reach --------------------------------------------------------------------------------
    def getattr(self, obj: Any, attribute: str) -> Any:
        if type(obj) is dict and attribute in obj and not attribute.startswith(_CALLED):
            return obj[attribute]
        if isinstance(obj, Mapping) and not attribute.startswith(_CALLED):
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        if attribute.startswith(_CALLED):
            return self._method(obj, attribute[len(_CALLED) :])
        if isinstance(obj, Undefined):
            return obj  # what is not there has no fields either; using it fails, asking for a default does not
        if isinstance(obj, LoopContext) and attribute in _LOOP_FIELDS:
            return getattr(obj, attribute)
        if isinstance(obj, tuple) and attribute in ("grouper", "list") and hasattr(obj, "grouper"):
            return obj[0] if attribute == "grouper" else obj[1]
        return self.undefined(f"{describe(obj)} has no field `{attribute}`", obj=obj, name=attribute)

    def _method(self, obj: Any, name: str) -> Any:
        if isinstance(obj, Mapping) and name in obj:
            return obj[name]
        if isinstance(obj, Undefined):
            obj._fail_with_undefined_error()
        if isinstance(obj, LoopContext) and name in ("cycle", "changed"):
            return Method(getattr(LoopContext, name), obj)
        if (
            type(obj).__name__ == "TemplateModule"
            and not name.startswith("_")
            and isinstance(vars(obj).get(name), Macro)
        ):
            return vars(obj)[name]
        for kind, methods in _METHODS:
            if isinstance(obj, kind) and name in methods:
                return Method(methods[name], obj)
        hint = f"`{name}` cannot be called on {describe(obj)}; what templates have are functions and filters"
        return self.undefined(hint, obj=obj, name=name, exc=SecurityError)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, Undefined):
            return obj
        if isinstance(obj, Mapping):
            return obj[argument] if isinstance(argument, str) and argument in obj else self.undefined(name=argument)
        if isinstance(obj, (list, tuple, str)) and type(argument) is int:
            return obj[argument] if -len(obj) <= argument < len(obj) else self.undefined(name=str(argument))
        if isinstance(argument, str):
            return self.getattr(obj, argument.removeprefix(_CALLED))
        return self.undefined(f"{describe(obj)} has no element {describe(argument)}", obj=obj)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805, PYI063 - as in Jinja
        __self.meter.turn(CALL_TURNS)
        if isinstance(__obj, Undefined):
            __obj._fail_with_undefined_error()
        if isinstance(__obj, LoopContext) and args:
            args = (__self.meter.each(args[0]), *args[1:])
        elif not isinstance(__obj, (Method, Macro, LoopContext, BlockReference)) and not (
            callable(__obj) and __obj in __self._callables
        ):
            raise SecurityError(f"{describe(__obj)} is not a function")
        return __context.call(__obj, *args, **kwargs)

    # -- arithmetic ---------------------------------------------------------------------------------------------------
    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        for operand in (left, right):
            if isinstance(operand, Undefined):
                operand._fail_with_undefined_error()
        if is_number(left) and is_number(right):
            return _NUMERIC[operator](left, right)
        return _mixed(operator, left, right)

    def call_unop(self, context: Context, operator: str, arg: Any) -> Any:
        if isinstance(arg, Undefined):
            arg._fail_with_undefined_error()
        if not is_number(arg):
            raise ValueError(f"`{operator}` needs a number, this is {describe(arg)}")
        return arg if operator == "+" else -arg if type(arg) is int else arg.copy_negate()


def _power(left: Any, right: Any) -> Any:
    if type(left) is not int or type(right) is not int or not 0 <= right <= 64 or abs(left) > 10**18:
        raise ValueError("`**` takes a whole number and a power from 0 to 64")
    return left**right


def _whole_quotient(left: Any, right: Any) -> Any:
    if type(left) is int and type(right) is int and right != 0:
        return left // right
    return numbers.floor_number(numbers.div(left, right))


_NUMERIC: Mapping[str, Callable[[Any, Any], Any]] = MappingProxyType(
    {"+": numbers.add, "-": numbers.sub, "*": numbers.mul, "/": numbers.div, "//": _whole_quotient,
     "%": numbers.mod, "**": _power}
)  # fmt: skip


def _mixed(operator: str, left: Any, right: Any) -> Any:
    """Texts and lists: put together and repeated, both within bounds."""
    if operator == "+" and isinstance(left, str) and isinstance(right, str):
        return joined((left, right), "")
    if operator == "+" and isinstance(left, list) and isinstance(right, list):
        if len(left) + len(right) > MAX_TEXT:
            raise SecurityError(f"a list of more than {MAX_TEXT} elements")
        return left + right
    if operator == "*":
        many, times = (left, right) if type(right) is int else (right, left)
        if isinstance(many, (str, list)) and type(times) is int:
            if len(many) * times > MAX_TEXT:
                raise SecurityError(f"a repetition of more than {MAX_TEXT} elements")
            return many * times
    if operator == "%" and isinstance(left, str):
        raise SecurityError("texts are not formatted with `%`; put them together with `~`, fill them with pad(…)")
    raise ValueError(f"`{operator}` cannot take {describe(left)} and {describe(right)}")


def bounded_range(*arguments: Any) -> range:
    """``range`` for loops, within bounds."""
    if not all(type(argument) is int for argument in arguments):
        raise ValueError("range takes whole numbers")
    found = range(*arguments)
    if len(found) > MAX_RANGE:
        raise SecurityError(f"a range of more than {MAX_RANGE} numbers")
    return found


# -- what is changed in a tree before it is compiled ------------------------------------------------------------------------

# no template can write these names: they are no identifiers
_EACH, _TEXTS, _DECIMAL = "each turn", "put together", "exact number"


class _Rewriter(NodeTransformer):
    """Counts the turns of loops, bounds ``~``, keeps decimals exact, and tells a called attribute from a read one."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - named by Jinja
        self.generic_visit(node)
        node.iter = _filter(node.iter, _EACH)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - the same
        self.generic_visit(node)
        return _filter(nodes.List(node.nodes, lineno=node.lineno), _TEXTS)

    def visit_Const(self, node: nodes.Const) -> nodes.Node:  # noqa: N802 - the same
        if isinstance(node.value, Decimal):
            return _filter(nodes.Const(str(node.value), lineno=node.lineno), _DECIMAL)
        return node

    def visit_Call(self, node: nodes.Call) -> nodes.Node:  # noqa: N802 - the same
        self.generic_visit(node)
        if isinstance(node.node, nodes.Getattr) and not node.node.attr.startswith(_CALLED):
            node.node.attr = _CALLED + node.node.attr
        return node


def _filter(node: Any, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def rewritten(tree: nodes.Template) -> nodes.Template:
    """The tree with its guards; changes it in place."""
    _Rewriter().visit(tree)
    return tree.set_environment(tree.environment)  # type: ignore[arg-type, return-value]  # new nodes need it, too


class ExactLexer(Lexer):
    """Jinja's lexer with decimals that stay what they are."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)

    def wrap(
        self, stream: Iterable[tuple[int, str, str]], name: str | None = None, filename: str | None = None
    ) -> Iterator[Token]:
        text = ""

        def watched() -> Iterator[tuple[int, str, str]]:
            nonlocal text
            for item in stream:
                text = item[2]
                yield item

        for token in super().wrap(watched(), name, filename):
            if token.type == "float":
                number = Decimal(text.replace("_", ""))
                if not in_bounds(number):
                    raise ValueError(f"the number {text[:40]} is out of range")
                yield Token(token.lineno, "float", number)  # type: ignore[arg-type]  # Jinja, too, puts numbers here
            else:
                yield token
