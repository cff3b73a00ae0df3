"""``enrich``: ask a system and go on with its answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from esb.message import Message
from esb.registry import step
from esb.spec import MapNode, Node, Reader, option
from esb.steps.base import Context, Target


@step("enrich", pattern="Content Enricher")
@dataclass(frozen=True, slots=True)
class Enrich:
    """Ask a connector's operation or an inline endpoint that answers (`http`, `sql`), and put the answer `into:`.

    Without `into:` beside the step the answer is the new body. The question must change nothing at the target: it is asked
    again on every attempt. With `cache` an equal question (same operation, same values) within that time is answered from memory.
    """

    from_: Target = option(
        doc="`connector.operation`, or an endpoint with its options.",
        example="erp.material",
        shorthand=True,
        aliases=("to", "uri", "call", "with"),
    )
    cache: timedelta | None = option(
        default=None, doc="How long an answer may be used again.", example="10m", aliases=("ttl", "expire")
    )

    def check(self, node: Node, reader: Reader) -> None:
        if getattr(self.from_.sink, "handoff", None) is not None:
            at = (node.get("from") if isinstance(node, MapNode) else None) or node
            hint = "ask a system by `http` or `sql`, or hand over with `to` or `publish`"
            reader.problem("ESB105", f"`{self.from_.name}` gives no answer", at, hint=hint)

    async def apply(self, message: Message, context: Context) -> Message:
        reply = await context.ask(self.from_, message, cache=self.cache)
        return message.derive(body=reply.body)
