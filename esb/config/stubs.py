"""What a target answers in a test: `stubs` of a route test, and the `stub` of a connector."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal

from esb.language import Expression
from esb.message import EMPTY
from esb.spec import Kind, MapNode, Node, Reader, ScalarNode, option, part_of


class BesideKind(Kind):
    """A file named from where the text stands; the value is its path from the root of the workspace."""

    label = "the name of a file, from the folder of this one"

    def read(self, node: Node, reader: Reader) -> Any:
        if not isinstance(node, ScalarNode) or not isinstance(node.value, str):
            return reader.wrong_type(node, self)
        path = posixpath.normpath(posixpath.join(posixpath.dirname(node.position.path), node.value))
        if path.startswith(("../", "/")):
            return reader.problem("ESB504", "this file is outside of the workspace", node, hint="copy the file")
        if not reader.resources.exists(path):
            return reader.problem("ESB320", f"there is no file {path}", node, label="not there")
        return path

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


Beside = Annotated[str, BesideKind()]


@dataclass(frozen=True, slots=True)
class Stub:
    """One answer of a stubbed target. The first one that fits and is not used up is given."""

    fail: Literal["unavailable", "timeout", "rejected", "invalid"] | None = option(
        default=None, doc="Fail with this error class instead of answering.", example="unavailable"
    )
    message: str = option(default="", doc="Words of the failure.", example="locked by a user")
    status: int | None = option(
        default=None, doc="Status of the answer; 200 for HTTP.", example=201, minimum=100, maximum=599
    )
    headers: Mapping[str, str] = option(default=EMPTY, doc="Headers of the answer.", example="{ retry-after: '60' }")
    json: Any = option(default=None, doc="Body of the answer.", example="{ ok: true }")
    body: str | None = option(default=None, doc="Body of the answer as a text.", example="OK")
    file: Beside | None = option(
        default=None, doc="Body of the answer from a file, named from the folder of this one.", example="answer.json"
    )
    when: Expression | None = option(
        default=None,
        doc="Answer only what this is true of; `body`, `headers` and `meta` are those of what is sent.",
        example="body.lot == '4711'",
    )
    slow: timedelta | None = option(
        default=None, doc="How long the answer takes, on the clock of the test.", example="20s"
    )
    times: int | None = option(
        default=None, doc="How often it is given; without it as often as asked.", example=2, minimum=1
    )

    def check(self, node: Node, reader: Reader) -> None:
        bodies = [name for name in ("json", "body", "file") if getattr(self, name) is not None]
        if len(bodies) > 1:
            reader.problem("ESB107", f"an answer has one body, not {' and '.join(bodies)}", part_of(node, bodies[1]))
        if self.fail is not None and (bodies or self.status is not None):
            reader.problem(
                "ESB107",
                "a stub fails or answers, not both",
                part_of(node, "fail"),
                hint="for an error with a body write `status: 503` and no `fail`",
            )
        if self.message and self.fail is None:
            key = node.key("message") if isinstance(node, MapNode) else None
            reader.problem("ESB102", "`message` needs `fail`", key or node, hint="an answer has `json` or `body`")


__all__ = ["Beside", "Stub"]
