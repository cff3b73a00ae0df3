"""``reconcile``: what two systems do not agree on, tracked until they do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Protocol, cast

from esb.errors import Invalid
from esb.language import Expression, TextTemplate
from esb.message import Message
from esb.registry import step
from esb.spec import option
from esb.steps.base import Context
from esb.steps.keys import key_text

#: Differences of one run; beyond it something else is wrong than single records.
MOST = 10_000


@dataclass(frozen=True, slots=True)
class Found:
    """One difference, as the step found it."""

    key: str
    fingerprint: str
    what: str
    value: Decimal
    unit: str
    owner: str
    repair: str
    sides: Mapping[str, Any]


class Tracks(Protocol):
    """What the step asks of its context: keep the list of differences."""

    async def differences(self, found: Sequence[Found]) -> Mapping[str, Any]:
        """Take over a whole comparison; gives ``opened`` and ``closed`` keys and the number ``open``."""
        ...


@dataclass(frozen=True, slots=True)
class Side:
    """The records of one system."""

    items: Expression = option(doc="Its records, a list.", example="vars.erp.body.d.results")
    key: Expression = option(doc="What a record is known by in both systems; over `body`, the record.", example="body.Batch")  # fmt: skip
    name: str = option(default="", doc="What the system is called.", example="ERP")


@step("reconcile", pattern="Content Enricher")
@dataclass(frozen=True, slots=True)
class Reconcile:
    """Compare the records of two systems and track what they do not agree on, until they do.

    Records are matched by key; expressions see `body.key`, `body.left` and `body.right` (null where a side has none). What `differs` is
    opened with its age, value, owner and proposed repair, seen again by each later run, and closed by the first run that does not find it;
    `esb reconcile ls|show|close` shows the list, and closes what a person accepts as it is (until it changes). The body becomes
    `{ compared, found, opened, closed, open }`, lists of keys for `opened` and `closed`, so that later steps can tell somebody.
    Both lists must be whole: an answer that is cut short looks like differences. `{ left: …, right: …, differs: … }`
    """

    left: Side = option(doc="The records of one system.", example="{ name: ERP, items: vars.erp, key: body.Batch }")
    right: Side = option(doc="The records of the other.", example="{ name: QMS, items: vars.qms, key: body.lot }")
    differs: Expression | None = option(
        default=None,
        doc="True where the two do not agree; without it where one is missing or they are not equal.",
        example="(body.left.blocked || `0`) != (body.right.held || `0`)",
    )
    what: TextTemplate | None = option(
        default=None,
        doc="What is wrong, in words.",
        example="ERP and QMS do not agree on lot {{ body.key }}",
    )
    value: Expression | None = option(default=None, doc="What it is worth.", example="mul(body.left.blocked, `0.37`)")
    unit: str = option(default="", doc="Unit of the value.", example="EUR")
    owner: TextTemplate | None = option(default=None, doc="Who has to act.", example="quality-it")
    repair: TextTemplate | None = option(
        default=None, doc="What to do about it.", example="esb replay ID of the hold, or block the lot in the ERP"
    )

    async def apply(self, message: Message, context: Context) -> Message:
        left, right = (self._records(side, message, context) for side in (self.left, self.right))
        found = []
        for key in sorted(left.keys() | right.keys()):
            pair = message.derive(body={"key": key, "left": left.get(key), "right": right.get(key)})
            if (one := self._compared(key, pair, context)) is not None:
                found.append(one)
        if len(found) > MOST:
            raise Invalid(f"{len(found)} differences: one of the two lists cannot be right", hint=f"at most {MOST}")
        done = await cast("Tracks", context).differences(found)
        facts = {"compared": len(left.keys() | right.keys()), "found": len(found), **done}
        context.note(
            compared=facts["compared"], found=len(found), opened=len(done["opened"]), closed=len(done["closed"])
        )
        return message.derive(body=facts)

    @staticmethod
    def _records(side: Side, message: Message, context: Context) -> dict[str, Any]:
        items = side.items(context.scope(message))
        if not isinstance(items, list):
            raise Invalid(
                f"`{side.items.text}` is no list", hint="an answer without its list must not look like an empty one"
            )
        found: dict[str, Any] = {}
        for item in items:
            key = key_text(side.key(context.scope(message.derive(body=item))), "key")
            if key is None:
                raise Invalid(f"a record of {side.name or 'one side'} has no `{side.key.text}`")
            if key in found:
                raise Invalid(f"{side.name or 'one side'} has two records of {key!r}", hint="let `key` tell them apart")
            found[key] = item
        return found

    def _compared(self, key: str, pair: Message, context: Context) -> Found | None:
        scope = context.scope(pair)
        left, right = pair.body["left"], pair.body["right"]
        differs = (
            self.differs.truth(scope) if self.differs is not None else left is None or right is None or left != right
        )
        if not differs:
            return None
        sides = {"left": left, "right": right}
        text = json.dumps(sides, sort_keys=True, default=str, separators=(",", ":"))

        def words(template: TextTemplate | None) -> str:
            return template.render(scope)[:2000] if template is not None else ""

        return Found(
            key=key,
            fingerprint=hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32],
            what=words(self.what) or self._default(left, right),
            value=_number(self.value(scope)) if self.value is not None else Decimal(0),
            unit=self.unit,
            owner=words(self.owner),
            repair=words(self.repair),
            sides=sides,
        )

    def _default(self, left: Any, right: Any) -> str:
        names = self.left.name or "left", self.right.name or "right"
        if left is None or right is None:
            return f"{names[0 if left is None else 1]} does not have it"
        return f"{names[0]} and {names[1]} do not agree"


def _number(value: Any) -> Decimal:
    try:
        return Decimal(value) if isinstance(value, (int, Decimal, str)) and not isinstance(value, bool) else Decimal(0)
    except InvalidOperation:
        return Decimal(0)
