"""How a function of the language is declared: once, for expressions, templates, lint and docs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

#: Looks at the arguments of one call as far as they are literals (``UNKNOWN`` where not); gives what is wrong, or nothing.
LiteralCheck = Callable[..., str]

_SIGNATURE = re.compile(r"(\w+)\((.*)\)")
_MARK = "__esb_function__"


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"


#: Stands for an argument that is only known when a message comes.
UNKNOWN: Any = _Unknown()


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter. ``many`` takes any number of values; ``expression`` is written ``&expr``."""

    name: str
    optional: bool = False
    many: bool = False
    expression: bool = False

    def __str__(self) -> str:
        return f"{'&' if self.expression else ''}{self.name}{'…' if self.many else '?' if self.optional else ''}"


@dataclass(frozen=True, slots=True)
class Function:
    """A function as expressions, templates and the docs see it.

    ``standard`` functions are those of the JMESPath specification. Templates have every function that takes no expression,
    as ``f(x)`` and as ``x | f``.
    ``scoped`` ones get the message's scope before their arguments. ``missing_ok``: in a template a missing field counts as
    null instead of failing.
    """

    name: str
    parameters: tuple[Parameter, ...]
    doc: str
    example: str
    gives: str
    call: Callable[..., Any]
    standard: bool = False
    scoped: bool = False
    missing_ok: bool = False
    check: LiteralCheck | None = None
    check_code: str = "ESB404"

    @property
    def signature(self) -> str:
        return f"{self.name}({', '.join(map(str, self.parameters))})"

    @property
    def least(self) -> int:
        return sum(1 for parameter in self.parameters if not parameter.optional)

    @property
    def most(self) -> int | None:
        return None if any(parameter.many for parameter in self.parameters) else len(self.parameters)

    def arity_fault(self, count: int) -> str:
        """What is wrong with a call of ``count`` arguments; empty if nothing."""
        if count >= self.least and (self.most is None or count <= self.most):
            return ""
        if self.most is None:
            wanted = f"at least {self.least}"
        elif self.most == self.least:
            wanted = str(self.least) if self.least else "no"
        else:
            wanted = f"{self.least} to {self.most}"
        noun = "argument" if wanted in ("1", "at least 1") else "arguments"
        return f"`{self.name}` takes {wanted} {noun}, not {count}"

    @property
    def in_templates(self) -> bool:
        return not any(parameter.expression for parameter in self.parameters)

    def takes_expression(self, place: int) -> bool:
        return place < len(self.parameters) and self.parameters[place].expression

    def literal_fault(self, arguments: Sequence[Any]) -> str:
        """What is wrong with literal arguments (``UNKNOWN`` stands for the others); empty if nothing."""
        return "" if self.check is None else self.check(*arguments)


def function(
    signature: str,
    *,
    doc: str,
    example: str,
    gives: str,
    standard: bool = False,
    scoped: bool = False,
    missing_ok: bool = False,
    check: str = "",
    check_code: str = "ESB404",
) -> Callable[[F], F]:
    """Declare a function: ``"pad(text, width, char?)"``; ``?`` is optional, ``…`` any number, ``&x`` an expression.

    ``gives`` is the value of ``example`` as an expression literal; a test evaluates both. ``check`` names a function
    beside the implementation that looks at literal arguments, and ``check_code`` the diagnostic it leads to.
    """
    match = _SIGNATURE.fullmatch(signature)
    if match is None:
        raise ValueError(f"{signature!r} is not a signature")

    def mark(implementation: F) -> F:
        name, listed = match[1], match[2]
        parameters = tuple(_parameter(part.strip()) for part in listed.split(",") if part.strip())
        declared = Function(name, parameters, doc, example, gives, implementation, standard, scoped, missing_ok)
        declared = replace(declared, check_code=check_code)
        setattr(implementation, _MARK, (declared, check))
        return implementation

    return mark


def _parameter(text: str) -> Parameter:
    name = text.rstrip("?…")
    return Parameter(name.lstrip("&"), optional=name != text, many=text.endswith("…"), expression=name.startswith("&"))


def functions_of(home: Any) -> Iterable[Function]:
    """The functions that a module, or an object with methods, declares."""
    for name in dir(home):
        implementation = getattr(home, name)
        mark: tuple[Function, str] | None = getattr(implementation, _MARK, None)
        if mark is not None:
            declared, check = mark
            yield replace(declared, call=implementation, check=getattr(home, check) if check else None)
