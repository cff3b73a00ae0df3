"""Addresses whose fixed parts come from the workspace and whose values come from messages, and never the other way round."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from esb.endpoints.addresses import has_port
from esb.errors import Invalid, Position
from esb.language import TextTemplate
from esb.language.base import compile_at
from esb.spec import MISSING, Kind, Node, Reader, ScalarNode

CONTROL = re.compile(r"[\x00-\x1f\x7f]")
ORIGIN = re.compile(r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?", re.IGNORECASE)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_QUOTED = re.compile(r"""'[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\]*(?:\\.[^"\\]*)*\"""")
#: What stays as it is in the fixed part of an address; blanks and the like are encoded.
_SAFE = "/?&=:@!$'()*+,;%~-._[]"


@dataclass(frozen=True, slots=True)
class UrlTemplate:
    """A path with query, and before it the fixed ``origin`` (``https://host:443``) where it is a whole address.

    ``parts`` are fixed text, already encoded, and templates in turn.
    """

    text: str
    parts: tuple[str | TextTemplate, ...]
    origin: str = ""

    def render(self, scope: Mapping[str, Any]) -> str:
        """Path and query. A value fills a part of the path and never makes a new one. Raises Invalid."""
        first = self.parts[0]
        if len(self.parts) == 1 and isinstance(first, str):
            return first
        rendered = []
        in_path = True
        for part in self.parts:
            if isinstance(part, str):
                in_path = in_path and "?" not in part
                rendered.append(part)
                continue
            value = part.render(scope)
            if in_path and not value:
                raise Invalid(f"the address `{self.text}` has an empty value for `{part.text}`")
            rendered.append(quoted(value, part.text))
        address = "".join(rendered)
        if len(self.parts) > 1 and any(part in (".", "..") for part in address.partition("?")[0].split("/")):
            raise Invalid(f"the address `{self.text}` gets a dot for a part of its path")
        return address

    @property
    def names(self) -> frozenset[str]:
        """The dotted paths that its values read."""
        return frozenset(name for part in self.parts if isinstance(part, TextTemplate) for name in part.names)


def quoted(value: str, what: str) -> str:
    """``value`` percent-encoded whole. Raises Invalid for control characters and for text that is not Unicode."""
    if CONTROL.search(value):
        raise Invalid(f"the value of `{what}` holds a control character and cannot stand in an address")
    try:
        return quote(value, safe="")
    except UnicodeEncodeError:
        raise Invalid(f"the value of `{what}` is not valid Unicode and cannot stand in an address") from None


def pieces(text: str) -> Iterator[tuple[int, str, bool]]:
    """The text cut at ``{{ … }}``: offset, piece, and whether it is a template. Raises ValueError with an offset."""
    at = 0
    while (start := text.find("{{", at)) >= 0:
        if start > at:
            yield at, text[at:start], False
        end = start + 2
        while not text.startswith("}}", end):
            literal = _QUOTED.match(text, end)
            end = literal.end() if literal else end + 1
            if end >= len(text):
                raise ValueError(start)
        yield start, text[start : end + 2], True
        at = end + 2
    if at < len(text):
        yield at, text[at:], False


class UrlKind(Kind):
    """Reads a path, or with ``whole`` an address whose host is fixed."""

    def __init__(self, *, whole: bool) -> None:
        self.whole = whole
        self.label = "an http or https address" if whole else "a path (Jinja for its values)"

    def read(self, node: Node, reader: Reader) -> Any:
        if not isinstance(node, ScalarNode) or not isinstance(node.value, str):
            return reader.wrong_type(node, self)
        text, origin = node.value, ""
        if self.whole:
            origin = self._origin(node, reader)
            if origin is MISSING:
                return MISSING
            text = text[len(origin) :]
        elif ORIGIN.match(text):
            return reader.problem(
                "ESB103", "`path` is a whole address", node, hint="write it as `url`, without connector"
            )
        if "{%" in text or "{#" in text:
            return reader.problem(
                "ESB406", "an address takes values only: `{{ … }}`", node, hint="choose in a step before"
            )
        return self._compile(node, text, origin, reader)

    def _origin(self, node: ScalarNode, reader: Reader) -> Any:
        text = str(node.value)
        match = ORIGIN.match(text)
        rest = text[match.end() :] if match else text
        if match is not None and (not rest or rest[0] in "/?"):
            if not has_port(match[0]):
                hint = "write it like `https://erp.example.com:8443/orders`, or leave the port out"
                return reader.problem("ESB103", "an address has a port between 1 and 65535", node, hint=hint)
            return match[0]
        authority = re.split(r"[/?]", re.sub(r"^[A-Za-z]+://", "", text), maxsplit=1)[0]
        if "{{" in authority or text.startswith("{{"):
            return reader.problem(
                "ESB505",
                "the host of an address cannot come from a message",
                node,
                hint="write the host out (or `${NAME}` of the environment); values may stand in path and query",
            )
        if "@" in authority:
            return reader.problem("ESB501", "an address holds a user", node, hint="use `auth: { basic: … }`")
        return reader.problem("ESB103", f"`{self.label}` is needed, such as `https://erp.example.com/orders`", node)

    def _compile(self, node: ScalarNode, text: str, origin: str, reader: Reader) -> Any:
        parts: list[Any] = []
        try:
            for offset, piece, is_template in pieces(text):
                at = _inside(node, len(origin) + offset, len(piece))
                parts.append(_template(at, piece, node, reader) if is_template else _literal(at, piece, reader))
        except ValueError as error:
            at = _inside(node, len(origin) + int(error.args[0]), 2)
            return reader.problem("ESB406", "`{{` without `}}`", at)
        if not parts or not isinstance(parts[0], str) or parts[0][:1] not in ("/", "?"):
            parts.insert(0, "/")
        return reader.unless_missing(UrlTemplate(str(node.value), tuple(parts), origin), parts)

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


def _inside(node: ScalarNode, offset: int, length: int) -> Position:
    at = node.position
    if "\n" in node.text or node.expanded:
        return at
    return Position(at.path, at.line, at.column + (1 if node.quoted else 0) + offset, length)


def _template(at: Position, piece: str, node: ScalarNode, reader: Reader) -> Any:
    inner = ScalarNode(at, piece, piece, quoted=False, expanded=node.expanded)
    return compile_at(inner, reader, reader.resources.language.template)


def _literal(at: Position, piece: str, reader: Reader) -> Any:
    if "#" in piece or "\\" in piece or CONTROL.search(piece):
        return reader.problem("ESB103", "an address has no `#`, `\\` or control characters", at)
    if _BAD_ESCAPE.search(piece):
        return reader.problem("ESB103", "`%` begins an escape such as `%20`", at)
    return quote(piece, safe=_SAFE)
