"""One delivery to a database: its values, and its place in a group or a transaction of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from esb.endpoints._sql.faults import fault_of
from esb.endpoints._sql.live import LiveSql
from esb.endpoints._sql.values import parameter
from esb.endpoints._sql.work import Part, alone
from esb.endpoints.base import Delivery
from esb.errors import Invalid
from esb.formats.faults import shown
from esb.steps.base import Reply

if TYPE_CHECKING:
    from esb.endpoints.sql import SqlSink


async def send(sink: SqlSink, delivery: Delivery, live: LiveSql) -> Reply:
    """Run the statement within ``delivery.timeout``. Raises Rejected, Unavailable, Timeout, Invalid."""
    rows = parameters(sink, delivery.scope, live.dialect)
    if not rows:
        return Reply(body={"rows": 0})
    part = Part(sink, sink.sql(live.dialect), rows, delivery.id)
    end = time.monotonic() + delivery.timeout
    if sink.batch > 1 and (reply := await live.groups.send(part, delivery.timeout)) is not None:
        return reply
    left = max(end - time.monotonic(), 0.05)
    try:
        async with live.borrowed() as session:
            return await session.run(lambda c: alone(part, live, left, c), left)
    except Exception as error:
        raise fault_of(live.name, error) from error


def parameters(sink: SqlSink, scope: Mapping[str, Any], dialect: str) -> list[dict[str, Any]]:
    """The bound values, one mapping per row. Raises Invalid for values that no column can hold."""
    items: Sequence[Any] = [scope.get("body")]
    if sink.each is not None:
        found = sink.each(scope)
        if not isinstance(found, list):
            raise Invalid(f"`each` is {shown(found)}, not a list of rows")
        items = found
    rows = []
    for item in items:
        inside = {**scope, "body": item}
        rows.append({name: parameter(name, value(inside), dialect) for name, value in sink.values.items()})
    return rows
