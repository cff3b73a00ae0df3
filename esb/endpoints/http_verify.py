"""What asks a system whether it has a message already, as an option of the `http` sink."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from esb.endpoints._http.urls import UrlKind, UrlTemplate
from esb.language import Expression, TextTemplate
from esb.message import EMPTY
from esb.spec import Kind, MapNode, Node, Reader, ScalarNode, option, part_of, read_options
from esb.spec.schema import options_schema

_FORMS = "write `verify: { to: erp.get-order, done_when: … }`, or `{ path: /orders/…, done_when: … }` for a GET"
_IN_PLACE = "write its `path` (or `url`) here, beside `done_when`: it is asked by a GET"


class NamedKind(Kind):
    """An operation, kept as it is written: those of a connector refer to each other, and sites have names of their own."""

    label = "an operation (`connector.operation`)"

    def read(self, node: Node, reader: Reader) -> Any:
        if isinstance(node, MapNode):
            return reader.wrong_type(node, self, hint=f"for an endpoint of its own {_IN_PLACE}")
        return node if isinstance(node, ScalarNode) and isinstance(node.value, str) else reader.wrong_type(node, self)

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


class VerifyKind(Kind):
    """The options of :class:`Verify`; what is written like something else is told how it is written."""

    label = "a mapping"

    def read(self, node: Node, reader: Reader) -> Any:
        if not isinstance(node, MapNode):
            return reader.wrong_type(node, self, hint=_FORMS)
        if (key := node.key("http")) is not None:
            return reader.problem(
                "ESB101", "unknown key `http` in `verify`", key, hint=_IN_PLACE, label="not known here"
            )
        return read_options(Verify, node, reader)

    def schema(self) -> dict[str, Any]:
        return options_schema(Verify)


@dataclass(frozen=True, slots=True)
class Verify:
    """How the system is asked whether it has the message, before it is sent again; exactly one of `to`, `path` and `url`."""

    kind = VerifyKind()
    to: Annotated[ScalarNode, NamedKind()] | None = option(
        default=None,
        doc="The operation that asks; it must change nothing. In a connector's file it is one of the same connector.",
        example="erp.get-order",
        aliases=("verify", "operation", "ask", "check", "endpoint"),
    )
    path: Annotated[UrlTemplate, UrlKind(whole=False)] | None = option(
        default=None,
        doc="Beside `path`: what is asked by a GET at the same system.",
        example="/orders/{{ body.order_no }}",
    )
    url: Annotated[UrlTemplate, UrlKind(whole=True)] | None = option(
        default=None,
        doc="Beside `url`: the same, as a whole address of that system.",
        example="https://mes.example.com/orders/{{ body.order_no }}",
    )
    query: Mapping[str, TextTemplate] = option(
        default=EMPTY, doc="Fields of the query of that GET.", example="{ order: '{{ body.order_no }}' }"
    )
    headers: Mapping[str, TextTemplate] = option(
        default=EMPTY, doc="Headers of that GET.", example="{ Accept: application/json }"
    )
    done_when: Expression = option(
        doc="True where the answer (`meta.reply`) says that the system has the message.",
        example="meta.reply.status == `200`",
        aliases=("success_when", "when", "done", "until", "if"),
    )

    def check(self, node: Node, reader: Reader) -> None:
        named = [name for name in ("to", "path", "url") if getattr(self, name) is not None]
        if len(named) != 1:
            words = f"not both `{named[0]}` and `{named[1]}`" if named else "and has neither"
            at = part_of(node, named[1]) if named else node
            reader.problem("ESB107", f"`verify` asks one of `to`, `path` and `url`, {words}", at, hint=_FORMS)
        elif self.to is not None and (self.query or self.headers):
            name = "query" if self.query else "headers"
            hint = "write it in the operation that asks"
            reader.problem("ESB107", f"`{name}` belongs to a `path`, not to `to`", part_of(node, name), hint=hint)
