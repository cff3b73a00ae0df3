"""What a codec is: bytes to a body and back, with declared encodings and exact numbers."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from esb.spec import MISSING, Kind, MapNode, Node, Reader, ScalarNode, read_options


class Codec(Protocol):
    """A registered format with its options (a frozen dataclass).

    ``decode`` raises :class:`~esb.errors.Invalid` with a violation that says where (line, offset or pointer); ``encode``
    raises it where a body cannot be written in this format. Neither ever turns a number into a float. ``media_types`` choose
    the format where a source names none; a format may have ``also_accepts``, more types that a source which names it takes.
    """

    content_type: ClassVar[str]
    media_types: ClassVar[tuple[str, ...]]
    suffixes: ClassVar[tuple[str, ...]]

    def decode(self, data: bytes) -> Any: ...

    def encode(self, body: Any) -> bytes: ...


class CodecKind(Kind):
    """``format: json`` or ``format: { csv: { delimiter: ";" } }``."""

    label = "a format"
    takes_mapping = True

    def read(self, node: Node, reader: Reader) -> Any:
        formats = reader.resources.registry.family("format")
        if isinstance(node, ScalarNode) and isinstance(node.value, str):
            name, options, at = node.value, None, node
        elif isinstance(node, MapNode) and len(node.entries) == 1:
            at, options = node.entries[0]
            name = at.text
        else:
            return reader.wrong_type(node, self, hint='write `json`, or `{ csv: { delimiter: ";" } }`')
        component = formats.get(name)
        if component is None:
            return reader.problem(
                "ESB205",
                f"unknown format `{name}`",
                at,
                hint=reader.nearest(name, formats, "formats") or f"known here: {', '.join(sorted(formats))}",
                label="not a format",
            )
        with reader.inside(name):
            if options is None:
                return read_options(component.cls, MapNode(node.position), reader)
            return read_options(component.cls, options, reader)

    def schema(self) -> dict[str, Any]:
        return {"$ref": "#/$defs/format"}


__all__ = ["MISSING", "Codec", "CodecKind"]
