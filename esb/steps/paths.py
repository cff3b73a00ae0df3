"""Where a step writes: ``vars.x``, ``headers.x``, ``body``, ``body.x.y``. Not an expression: a path names one place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from esb.errors import InternalFault
from esb.language.values import plain
from esb.message import EMPTY, Message
from esb.spec import Kind, Node, Reader, ScalarNode

Path = tuple[str, ...]

_NAME = re.compile(r'\.(?:([^.\[\]"\s]+)|"([^"]+)")|(\[\])')
_ELSEWHERE = {
    "meta": ("`meta` is written by the bus only", "keep the value in `vars.{rest}`"),
    "site": ("`site` is fixed in esb.yaml", "keep the value in `vars.{rest}`"),
}


class _PathError(Exception):
    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


def _parse(text: str, *, lists: bool) -> Path:
    root = re.split(r"[.\[]", text, maxsplit=1)[0]
    if root in _ELSEWHERE:
        message, hint = _ELSEWHERE[root]
        raise _PathError(message, hint.format(rest=text[len(root) + 1 :] or "x"))
    if root not in ("body", "vars", "headers"):
        words = f"write `vars.{text}` or `body.{text}`" if re.fullmatch(r"[\w.-]+", text) else "write `vars.x`"
        raise _PathError(f"`{text}` names no place in a message", f"{words}; a place begins with body, vars or headers")
    names: list[str] = []
    at = len(root)
    while at < len(text):
        match = _NAME.match(text, at)
        if match is None or (match[3] and not lists):
            raise _PathError(
                f"`{text}` is not a path from `{text[at:]}` on",
                'write names with dots: `body.x.y`, `body."a name"`'
                + ("" if lists else "; to change a list, give the whole list a new value with an expression"),
            )
        at = match.end()
        if not match[3]:
            names.append(match[1] or match[2])
    if root == "headers":
        # header names are flat and lower-case; dots belong to the name
        names = [".".join(names).lower()] if names else []
    if not names and root != "body":
        raise _PathError(f"`{root}` needs a name", f"write `{root}.x`")
    return (root, *names)


class PathKind(Kind):
    """A path to write to; ``nested`` paths must name something inside the body, and may go through lists."""

    def __init__(self, *, nested: bool = False) -> None:
        self.nested = nested
        self.label = "a place in the message (`body.x`, `vars.x`, `headers.x`)"

    def read(self, node: Node, reader: Reader) -> Any:
        if not isinstance(node, ScalarNode) or not isinstance(node.value, str):
            return reader.wrong_type(node, self)
        return self.parse(node.value, node, reader)

    def parse(self, text: str, node: Node, reader: Reader) -> Any:
        """The path that ``text`` names, or MISSING after a problem at ``node``."""
        try:
            path = _parse(text, lists=self.nested)
        except _PathError as error:
            return reader.problem("ESB101", error.message, node, hint=error.hint, label="not a place to write to")
        if self.nested and path == ("body",):
            return reader.problem(
                "ESB101", "the body as a whole cannot be removed", node, hint="write `set: { body: '`null`' }`"
            )
        if self.nested and text.endswith("[]"):
            return reader.problem("ESB101", f"`{text}` ends in `[]`", node, hint=f"write `{text[:-2]}` for the list")
        return path

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": r"^(body|vars|headers)([.\[]|$)"}


def header_text(value: Any, name: str) -> str | None:
    """A header's value as text; None (null) means that there is no such header. Raises InternalFault."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, Decimal)):
        return plain(value)
    if not isinstance(value, str):
        raise InternalFault(
            f"header `{name}` must be one value, not {'a list' if isinstance(value, list) else 'an object'}",
            hint="pick one field, or write it as text with an expression",
        )
    if "\n" in value or "\r" in value or "\0" in value:
        raise InternalFault(f"header `{name}` would hold a line break", hint="take it out with `replace`")
    return value


def set_path(message: Message, path: Sequence[str], value: Any) -> Message:
    """The message with ``vars.x``, ``headers.x`` or ``body.x.y`` set; objects on the way are copied or made.

    ``("body",)`` replaces the whole body. Raises InternalFault where a part of the path is not an object.
    """
    root = path[0]
    changed = value if len(path) == 1 else put_in(getattr(message, root), path, 1, value)
    if root == "vars":
        return message.derive(vars=changed)
    return message.derive(body=changed) if root == "body" else message.derive(headers=changed)


def put_in(container: Any, path: Sequence[str], index: int, value: Any) -> Any:
    """``container`` (the part of a message at ``path[:index]``) with ``value`` at the rest of ``path``; a copy, always.

    Null counts as an empty object. Raises InternalFault where a part of the path is not an object.
    """
    if container is None:
        container = EMPTY
    elif not isinstance(container, Mapping):
        raise InternalFault(
            f"cannot set `{'.'.join(path)}`: `{'.'.join(path[:index])}` is {_in_words(container)}, not an object",
            hint=f"set `{'.'.join(path[:index])}` as a whole, or guard the step with `if`",
        )
    name = path[index]
    if index + 1 < len(path):
        value = put_in(container.get(name), path, index + 1, value)
    return {**container, name: value}


def _in_words(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, str):
        return "a text"
    return "raw bytes" if isinstance(value, bytes) else "a single value"
