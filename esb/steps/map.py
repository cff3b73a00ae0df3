"""``map``: a new body, field by field."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from esb.errors import MessageError
from esb.language import Expression
from esb.language.base import ExpressionKind
from esb.message import Message
from esb.registry import step
from esb.spec import MISSING, Kind, ListNode, MapNode, Node, Reader, ScalarNode, option
from esb.steps.base import Context

Build = Callable[[Mapping[str, Any]], Any]

_EXPRESSION = ExpressionKind()


class FieldsKind(Kind):
    """A mapping of target fields to expressions, nested mappings and lists of them."""

    label = "a mapping of target fields to expressions"

    def read(self, node: Node, reader: Reader) -> Any:
        if not isinstance(node, MapNode):
            return reader.wrong_type(
                node, self, hint="write `field: expression`; for one expression use `transform: { jmespath: … }`"
            )
        if not node.entries:
            return reader.problem("ESB102", "`map` names no field", node, hint="write `field: expression`")
        leaves: list[tuple[str, Expression]] = []
        build = self._object(node, reader, "", leaves)
        return MISSING if build is MISSING else Fields(build, tuple(leaves))

    def _value(self, node: Node, reader: Reader, place: str, leaves: list[tuple[str, Expression]]) -> Any:
        match node:
            case MapNode():
                return self._object(node, reader, place, leaves)
            case ListNode():
                builds = [
                    self._value(item, reader, f"{place}[{index}]", leaves) for index, item in enumerate(node.items)
                ]
                return reader.unless_missing(_list(tuple(builds)), builds)
            case ScalarNode() if node.value is None:
                return reader.problem(
                    "ESB103", f"`{place}` has no expression", node, hint=f"for null write `{place}: '`null`'`"
                )
        expression = _EXPRESSION.read(node, reader)
        if expression is not MISSING:
            leaves.append((place, expression))
        return expression

    def _object(self, node: MapNode, reader: Reader, place: str, leaves: list[tuple[str, Expression]]) -> Any:
        fields: dict[str, _Field] = {}
        broken = False
        for key, value in node.entries:
            name = key.text.removesuffix("?")
            inside = f"{place}.{name}" if place else name
            with reader.inside(inside):
                build = self._value(value, reader, inside, leaves)
            if name in fields:
                build = reader.problem(
                    "ESB109", f"`{name}` is mapped twice", key, hint="`field?` and `field` are the same target field"
                )
            broken = broken or build is MISSING
            left_out = key.text.endswith("?")
            fields[name] = _Field(name, build, left_out, isinstance(value, (MapNode, ListNode)))
        return MISSING if broken else _object(tuple(fields.values()))

    def schema(self) -> dict[str, Any]:
        value = {"type": ["string", "object", "array"]}
        return {"type": "object", "additionalProperties": value, "minProperties": 1}


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    build: Build
    left_out: bool
    nested: bool


def _list(builds: tuple[Build, ...]) -> Build:
    return lambda scope: [build(scope) for build in builds]


def _object(fields: tuple[_Field, ...]) -> Build:
    if not any(field.left_out for field in fields):
        return _whole(fields)
    return lambda scope: dict(_kept(fields, scope))


def _whole(fields: tuple[_Field, ...]) -> Build:
    pairs = tuple((field.name, field.build) for field in fields)
    quick = tuple((name, getattr(build, "evaluate", build)) for name, build in pairs)

    def build_all(scope: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return {name: evaluate(scope) for name, evaluate in quick}
        except Exception:  # noqa: BLE001 - again, by what says in words which expression failed and why
            return {name: build(scope) for name, build in pairs}

    return build_all


def _kept(fields: tuple[_Field, ...], scope: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for field in fields:
        value = field.build(scope)
        if not field.left_out or (value if field.nested else value is not None):
            yield field.name, value


@dataclass(frozen=True, slots=True)
class Fields:
    """A compiled mapping: ``build`` makes the new body; ``leaves`` are its expressions by target field."""

    kind = FieldsKind()
    build: Build
    leaves: tuple[tuple[str, Expression], ...] = ()

    def culprit(self, scope: Mapping[str, Any]) -> str:
        """The first target field whose expression fails, empty where none does."""
        for place, expression in self.leaves:
            try:
                expression(scope)
            except MessageError:
                return place
        return ""


@step("map", pattern="Message Translator")
@dataclass(frozen=True, slots=True)
class Map:
    """Make a new body, field by field.

    Each target field is an expression over the message as it came in; mappings and lists nest. A field that gives null
    stays in the body as null; written `field?` it is left out instead (a nested `field?` when nothing is left in it).
    `{ order: body.no, lines: "body.items[].{ pos: line, qty: menge }", note?: body.text }`
    """

    fields: Fields = option(
        doc="Target field: expression, or a nested mapping or list of them.",
        example="{ order_no: body.AUFNR, plant: vars.werks, note?: body.text }",
        rest=True,
        shorthand=True,
    )

    def apply(self, message: Message, context: Context) -> Message:
        scope = context.scope(message)
        try:
            return message.derive(body=self.fields.build(scope))
        except MessageError:
            context.note(field=self.fields.culprit(scope))
            raise
