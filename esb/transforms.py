"""Transform files: JMESPath that builds a body, and Jinja that writes one as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from esb.errors import ConfigError, InternalFault, Invalid, Position, Problem
from esb.formats.base import Codec
from esb.formats.json import Json
from esb.formats.text import Text
from esb.formats.xml import Xml
from esb.language import Expression, ExpressionError, TextTemplate

#: what a rendered template is read as
Format = Literal["json", "xml", "text"]
_CODECS: Mapping[str, Codec] = {"json": Json(), "xml": Xml(), "text": Text()}
_INNER = {".json": "json", ".xml": "xml", ".idoc": "xml", ".txt": "text", ".text": "text", ".csv": "text"}


@dataclass(frozen=True, slots=True)
class JmesTransform:
    """A ``.jmes`` file (or inline ``jmespath:``): one expression, whose value is the new body."""

    name: str
    expression: Expression

    @property
    def names(self) -> frozenset[str]:
        return self.expression.names

    def apply(self, scope: Mapping[str, Any]) -> Any:
        """The new body. Raises InternalFault where the expression fails on this message."""
        return self.expression(scope)


@dataclass(frozen=True, slots=True)
class JinjaTransform:
    """A ``.j2`` file (or inline ``jinja:``): a text that is read as JSON, XML or text to become the new body."""

    name: str
    template: TextTemplate
    format: Format = "json"

    @property
    def names(self) -> frozenset[str]:
        return self.template.names

    def apply(self, scope: Mapping[str, Any]) -> Any:
        """The new body. Raises InternalFault where the template fails, or what it wrote is not of its format."""
        text = self.template.render(scope)
        if self.format == "text":
            return text
        try:
            return _CODECS[self.format].decode(text.encode("utf-8", "surrogatepass"))
        except Invalid as error:
            detail = error.violations[0].detail if error.violations else error.message
            message = f"template {self.name} did not write {self.format.upper()}: {detail}{_excerpt(text, detail)}"
            hint = "write values with `| tojson`" if self.format == "json" else "write values with `| e`"
            raise InternalFault(message, hint=hint) from error


class FileLanguage(Protocol):
    """Compiles whole files; both raise ExpressionError with line and column."""

    def compile_file(self, text: str, name: str) -> Expression: ...

    def file_template(self, text: str, name: str) -> TextTemplate: ...


def read_transform(
    name: str, text: str, path: str, language: FileLanguage, *, format_: Format | None = None
) -> JmesTransform | JinjaTransform:
    """Compile the content of a transform file; ``x.xml.j2`` and ``x.txt.j2`` name their format, else it is JSON.

    Raises ConfigError with the line and column of a fault.
    """
    try:
        if path.endswith(".jmes"):
            return JmesTransform(name, language.compile_file(text, name))
        return JinjaTransform(name, language.file_template(text, name), format_ or format_of(path))
    except ExpressionError as error:
        position = Position(path, error.line, error.column, max(1, error.length))
        raise ConfigError([Problem(error.code, error.message, position, hint=error.hint)]) from None


def format_of(path: str) -> Format:
    """The format that a file name such as ``order.xml.j2`` tells; JSON where it tells none."""
    stem = path.removesuffix(".j2")
    for suffix, name in _INNER.items():
        if stem.endswith(suffix):
            return name  # type: ignore[return-value]  # the values of _INNER are Formats
    return "json"


def _excerpt(text: str, detail: str) -> str:
    """The line of the rendered text that a fault stands on."""
    if not detail.startswith("line "):
        return ""
    number = int(detail[5:].split(",", maxsplit=1)[0].split(":", maxsplit=1)[0])
    lines = text.splitlines()
    if not 1 <= number <= len(lines):
        return ""
    line = lines[number - 1].strip()
    return f", in `{line if len(line) <= 80 else line[:79] + '…'}`"
