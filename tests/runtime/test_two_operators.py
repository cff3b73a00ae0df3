"""Two people act on one message at the same moment: one is first, and the other is told what became of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from esb.errors import Rejected
from esb.operations import Who
from esb.store.base import Filter

ROUTE = "route: door\nfrom: { route: {} }\nsteps: [ { to: { probe: erp } } ]\n"
ANA, BEN = Who("ana", "because"), Who("ben", "because")


def both(what: str, other: str) -> Any:
    async def scenario(start: Any, probe: Any) -> tuple[Any, Any, str, list[str]]:
        async with start({"routes/a.yaml": ROUTE}) as bus:
            probe.script["erp"] = [Rejected("no"), Rejected("no"), Rejected("no")]
            id_ = (await bus.send("door", {"n": 0})).message_id
            await bus.settle()
            acts = {
                "edit": lambda who: bus.operations.edit(id_, f'{{"by": "{who.actor}"}}'.encode(), who),
                "discard": lambda who: bus.operations.discard(Filter(ids=(id_,)), who),
                "retry": lambda who: bus.operations.retry(Filter(ids=(id_,)), who),
            }
            found = await asyncio.gather(acts[what](ANA), acts[other](BEN))
            first, second = (one if isinstance(one, dict) else one[0] for one in found)
            body = bus.store.payload(bus.store.get(id_).envelope.seq)[0].body.decode()
            done = [entry["actor"] for entry in bus.store.audit_entries() if entry["object"] == id_]
            await bus.settle()
            bus.whole()
            return first, second, body, done

    return scenario


def test_of_two_edits_at_the_same_moment_one_is_saved_and_nobody_is_told_wrong(start: Any, probe: Any) -> None:
    first, second, body, done = asyncio.run(both("edit", "edit")(start, probe))
    assert (first["result"], body, done) == ("edited", '{"by": "ana"}', ["ana"])
    assert (second["result"], second["why"]) == ("skipped", "ana edited it meanwhile: look at it again")


@pytest.mark.parametrize("late", ["edit", "discard"])
def test_who_comes_after_a_discard_is_told_that_it_is_discarded(start: Any, probe: Any, late: str) -> None:
    first, second, _, done = asyncio.run(both("discard", late)(start, probe))
    assert (first["result"], done) == ("discarded", ["ana"])
    assert (second["result"], second["why"]) == ("skipped", "is discarded, not dead")


def test_who_edits_after_a_retry_is_told_that_it_waits_to_run(start: Any, probe: Any) -> None:
    first, second, body, done = asyncio.run(both("retry", "edit")(start, probe))
    assert (first["result"], body, done) == ("queued", '{"n": 0}', ["ana"])
    assert (second["result"], "not dead" in second["why"] or second["why"] == "it runs") == ("skipped", True)
