"""What the rest of the bus knows of expressions and templates.

*Values* are JMESPath, *text* is Jinja, both over the names ``body headers vars meta site``. A :class:`Language` is bound to
one workspace (its tables, time zone and clock) and compiles; what it gives is immutable and safe to share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from esb.errors import EsbError, InternalFault, Violation
from esb.spec import Kind, Node, Reader, ScalarNode

#: The names that every expression and template may begin with.
SCOPE_NAMES = ("body", "headers", "vars", "meta", "site")


class ExpressionError(EsbError):
    """An expression or template that cannot be compiled.

    ``offset`` counts characters from the start of its text; ``line`` and ``column``, from 1, say the same for a text of
    several lines (a file).
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        offset: int = 0,
        length: int = 1,
        hint: str = "",
        line: int = 1,
        column: int = 0,
    ) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.offset = offset
        self.length = length
        self.line = line
        self.column = column or offset + 1


class Evaluates(Protocol):
    def __call__(self, scope: Mapping[str, Any], /) -> Any: ...


class ExpressionKind(Kind):
    label = "an expression (JMESPath)"

    def read(self, node: Node, reader: Reader) -> Any:
        if isinstance(node, ScalarNode) and isinstance(node.value, str):
            return compile_at(node, reader, reader.resources.language.expression)
        if isinstance(node, ScalarNode) and node.value is not None:
            return reader.wrong_type(
                node, self, hint=f"for a literal write \"'{node.text}'\" or `{node.text}` in backticks"
            )
        return reader.wrong_type(node, self)

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


class TextTemplateKind(Kind):
    label = "a text (Jinja)"

    def read(self, node: Node, reader: Reader) -> Any:
        if isinstance(node, ScalarNode) and isinstance(node.value, str):
            return compile_at(node, reader, reader.resources.language.template)
        if isinstance(node, ScalarNode) and node.value is not None:
            return reader.wrong_type(node, self, hint=f"put it in quotes: '{node.text}'")
        return reader.wrong_type(node, self)

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


def compile_at(node: ScalarNode, reader: Reader, compile_: Any) -> Any:
    """Compile the text of a scalar; a fault becomes a problem that points into it."""
    from esb.errors import Position  # noqa: PLC0415 - keeps the public imports of this module small
    from esb.spec import MISSING  # noqa: PLC0415 - the same

    try:
        return compile_(node.value)
    except ExpressionError as error:
        at = node.position
        line, column, length = at.line, at.column, at.length
        if node.text.startswith("|\n"):  # a literal block: its lines are those of the file
            text = str(node.value)
            blank = len(text) - len(text.lstrip("\n"))
            line, column, length = line + error.line - 1 - blank, column + error.column - 1, error.length
        elif "\n" not in node.text:
            column, length = column + (1 if node.quoted else 0) + error.offset, error.length
        reader.problem(error.code, error.message, Position(at.path, line, column, max(1, length)), hint=error.hint)
        return MISSING


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled JMESPath expression.

    ``names`` are the dotted paths it reads, as far as they are plain fields (``vars.werks``); ``name`` is its file, where it
    has one. Calling it raises :class:`~esb.errors.InternalFault` with the expression's text where it fails on a message.
    """

    kind = ExpressionKind()
    text: str
    evaluate: Evaluates
    names: frozenset[str] = frozenset()
    name: str = ""

    def __call__(self, scope: Mapping[str, Any]) -> Any:
        try:
            return self.evaluate(scope)
        except EsbError:
            raise
        except Exception as error:
            words = f"expression `{self.name or self.text[:200]}` failed: {error}"
            raise InternalFault(words, violations=_about(self.names, str(error))) from error

    def truth(self, scope: Mapping[str, Any]) -> bool:
        """JMESPath truth: false, null, empty text, list and object are false; 0 is true."""
        value = self(scope)
        return not (value is None or value is False or value in ("", [], {}))


@dataclass(frozen=True, slots=True)
class TextTemplate:
    """A compiled Jinja text. Rendering raises InternalFault where it fails on a message."""

    kind = TextTemplateKind()
    text: str
    evaluate: Evaluates
    constant: bool = False
    names: frozenset[str] = frozenset()
    name: str = ""

    def render(self, scope: Mapping[str, Any]) -> str:
        try:
            return str(self.evaluate(scope))
        except EsbError:
            raise
        except Exception as error:
            words = f"template `{self.name or self.text[:200]}` failed: {error}"
            raise InternalFault(words, violations=_about(self.names, str(error))) from error


def _about(names: frozenset[str], detail: str) -> tuple[Violation, ...]:
    """The part of the payload that a fault is about: known where only one part of it is read."""
    read = [name for name in names if name.startswith("body.")]
    if len(read) != 1 or "body" in names:
        return ()
    parts = read[0].split(".")[1:]
    return (Violation("".join(f"/{part.replace('~', '~0').replace('/', '~1')}" for part in parts), detail),)


class Language(Protocol):
    """Compiles for one workspace. All three raise :class:`ExpressionError`."""

    def expression(self, text: str) -> Expression: ...

    def template(self, text: str) -> TextTemplate: ...

    def file_template(self, text: str, name: str) -> TextTemplate:
        """A whole ``.j2`` file; ``{% include %}`` reads beside it, inside the workspace's ``transforms/`` only."""
        ...
