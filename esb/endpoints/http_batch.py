"""Many requests in one: OData's `$batch`, as an option of the `http` sink."""

from __future__ import annotations

import re
from dataclasses import dataclass

from esb.language import Expression
from esb.spec import MapNode, Node, Reader, option


@dataclass(frozen=True, slots=True)
class Batch:
    """Send the items of a list in one `$batch` request (`multipart/mixed`), each as a request of its own inside."""

    each: Expression = option(
        doc="List whose items are sent; in `path`, `query`, `headers` and `body` the item is `body`.",
        example="body.items",
        shorthand=True,
    )
    path: str = option(
        default="/$batch",
        doc="Where the batch is sent, below `base_url`: the service's root.",
        example="/API_LOT/$batch",
    )
    atomic: bool = option(
        default=True,
        doc="One changeset: all items take effect or none. `false`: each by itself, and a retry sends all of them again under the same `Idempotency-Key`s.",
        example=False,
    )

    def check(self, node: Node, reader: Reader) -> None:
        if not re.fullmatch(r"(?:/[A-Za-z0-9_.~;=-]+)*/\$batch", self.path):
            at = (node.get("path") if isinstance(node, MapNode) else None) or node
            reader.problem("ESB103", "`path` of a batch ends with `/$batch`", at, hint="write `/API_LOT/$batch`")

    @property
    def root(self) -> str:
        """The path of the service, below which the items are; ends with a slash."""
        return self.path.removesuffix("$batch")
