"""A message that was refused at the door passes the door when it is retried: contract, key, dedupe, tracked values, precedence."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from esb import failpoints
from esb.cli import cli
from esb.endpoints.base import Incoming, Receipt
from esb.errors import Rejected, StoreError, Unavailable
from esb.formats.json import Json
from esb.operations import Operations, Who
from esb.store.base import Filter, State
from tests.runtime.conftest import write

WHO = Who("tester", "because")

CONTRACT = {
    "type": "object",
    "required": ["lot"],
    "properties": {"lot": {"type": "string"}, "qty": {"type": "number"}},
}

ROUTE = """
route: door
key: body.lot
dedupe: body.id
track: { lot: body.lot }
from: { route: { contract: lot.v1 } }
retry: { max: 3, backoff: 10s, jitter: none }
order: { overtake: "body.kind == 'HOLD'" }
steps:
  - to: { probe: erp }
"""

FILES = {"routes/a.yaml": ROUTE, "schemas/lot.v1.json": json.dumps(CONTRACT)}


def run(scenario: Any) -> None:
    asyncio.run(scenario)


async def arrive(bus: Any, body: dict[str, Any]) -> Receipt:
    """As a source delivers that has no caller: what is refused is a dead letter."""
    spec = bus.supervisor.workspace.routes["door"]
    contract = getattr(spec.source.options, "contract", None)
    receipt: Receipt = await bus.supervisor.routes["door"].intake.accept(
        Incoming(json.dumps(body).encode(), codec=Json(), contract=contract)
    )
    return receipt


async def retry(bus: Any, id_: str) -> tuple[str, str]:
    result = (await bus.operations.retry(Filter(ids=(id_,)), WHO))[0]
    await bus.settle()
    return result["result"], result["why"]


def test_what_the_contract_refused_is_not_sent_by_a_retry(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(FILES) as bus:
            bad = await arrive(bus, {"lot": "1", "id": "A", "qty": "many"})
            assert bad.state == "dead"
            result, why = await retry(bus, bad.message_id)
            assert (result, bus.state(bad.message_id), probe.got) == ("skipped", "dead", [])
            assert why == "the door refuses it still: invalid at /qty; `esb dlq show` says more"  # and no value of it
            tried = await bus.operations.retry(Filter(ids=(bad.message_id,)), WHO, dry_run=True)
            assert tried[0]["result"] == "skipped"
            bus.whole()

    run(scenario())


def test_what_was_edited_until_it_passes_has_its_key_its_dedupe_key_and_its_lot(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(FILES) as bus:
            bad = await arrive(bus, {"lot": "1", "id": "A", "qty": "many"})
            await bus.operations.edit(bad.message_id, b'{"lot": "2", "id": "A", "qty": 3}', WHO)
            assert await retry(bus, bad.message_id) == ("queued", "")
            stored = bus.store.get(bad.message_id)
            assert (stored.state.value, stored.envelope.key, stored.envelope.track) == ("done", "2", {"lot": "2"})
            assert (probe.got[0].key, len(probe.got)) == ("2", 1)
            assert [one.envelope.id for one in bus.messages(track=(("lot", "2"),))] == [bad.message_id]
            assert bus.messages(track=(("lot", "1"),)) == []
            repeat = await arrive(bus, {"lot": "2", "id": "A", "qty": 3})
            await bus.settle()
            assert (repeat.state, repeat.duplicate_of, len(probe.got)) == ("duplicate", bad.message_id, 1)
            bus.whole()

    run(scenario())


def test_a_contract_that_was_mended_lets_it_in(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(FILES) as bus:
            bad = await arrive(bus, {"lot": "1", "id": "A", "qty": "many"})
            bus.write({"schemas/lot.v1.json": json.dumps({**CONTRACT, "properties": {}})})
            await bus.reload()
            assert await retry(bus, bad.message_id) == ("queued", "")
            assert (bus.state(bad.message_id), probe.got[0].key) == ("done", "1")

    run(scenario())


def test_a_mended_key_expression_puts_it_into_its_lane(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({**FILES, "routes/a.yaml": ROUTE.replace("body.lot\nd", "sum(body.lot)\nd")}) as bus:
            bad = await arrive(bus, {"lot": "1", "id": "A"})
            assert bad.state == "dead"
            bus.write(FILES)
            await bus.reload()
            probe.script["erp"] = [Unavailable("503")]
            await retry(bus, bad.message_id)
            behind = await arrive(bus, {"lot": "1", "id": "B"})
            await bus.settle()
            assert [bus.state(one.message_id) for one in (bad, behind)] == ["waiting", "queued"]
            await bus.advance(10)
            assert [body["id"] for body in probe.bodies("erp")] == ["A", "A", "B"]
            bus.whole()

    run(scenario())


def test_one_whose_effect_another_had_meanwhile_stays_out(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(FILES) as bus:
            bad = await arrive(bus, {"lot": "1", "id": "A", "qty": "many"})
            good = await arrive(bus, {"lot": "1", "id": "A", "qty": 3})
            await bus.operations.edit(bad.message_id, b'{"lot": "9", "id": "A", "qty": 3}', WHO)
            result, why = await retry(bus, bad.message_id)
            assert (result, good.message_id in why, bus.state(bad.message_id)) == ("skipped", True, "dead")
            assert len(probe.got) == 1
            bus.whole()

    run(scenario())


def test_one_that_is_older_than_what_was_delivered_for_its_key_is_stale(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(FILES) as bus:
            bad = await arrive(bus, {"lot": "1", "id": "A", "qty": "many"})
            await arrive(bus, {"lot": "1", "id": "B"})
            await bus.settle()
            await bus.operations.edit(bad.message_id, b'{"lot": "1", "id": "A"}', WHO)
            result, why = await retry(bus, bad.message_id)
            assert (result, why.startswith("stale"), len(probe.got)) == ("skipped", True, 1)
            done = await bus.operations.retry(Filter(ids=(bad.message_id,)), WHO, stale=True)
            assert done[0]["result"] == "queued"

    run(scenario())


def test_a_hold_that_is_let_in_overtakes_what_is_older(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(FILES) as bus:
            probe.script["erp"] = [Unavailable("503")]
            release = await arrive(bus, {"lot": "1", "id": "R"})
            await bus.settle()
            assert bus.state(release.message_id) == "waiting"
            hold = await arrive(bus, {"lot": "1", "id": "H", "kind": "HOLD", "qty": "all"})
            assert hold.state == "dead"
            await bus.operations.edit(hold.message_id, b'{"lot": "1", "id": "H", "kind": "HOLD"}', WHO)
            await retry(bus, hold.message_id)
            await bus.advance(60)
            assert [bus.state(one.message_id) for one in (release, hold)] == ["superseded", "done"]
            assert [body["id"] for body in probe.bodies("erp")] == ["R", "H"]
            bus.whole()

    run(scenario())


def test_what_a_hand_off_brought_keeps_what_it_carried_and_gets_the_rest(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        sender = (
            "route: sender\ntrack: { order: body.order }\nfrom: { route: {} }\nsteps: [ { to: { route: door } } ]\n"
        )
        async with start({**FILES, "routes/b.yaml": sender}) as bus:
            first = await bus.send("sender", {"order": "7", "lot": "1", "id": "A", "qty": "many"})
            await bus.settle()
            (bad,) = bus.messages(route="door")
            assert (bad.state.value, bad.envelope.key, bad.envelope.track) == ("dead", None, {"order": "7"})
            await bus.operations.edit(bad.envelope.id, b'{"order": "8", "lot": "1", "id": "A"}', WHO)
            assert await retry(bus, bad.envelope.id) == ("queued", "")
            stored = bus.store.get(bad.envelope.id)
            assert (stored.state.value, stored.envelope.key) == ("done", "1")
            assert (stored.envelope.track, stored.envelope.parent_id) == ({"order": "7", "lot": "1"}, first.message_id)
            bus.whole()

    run(scenario())


def test_one_that_would_only_expire_stays_a_dead_letter(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({**FILES, "routes/a.yaml": ROUTE + "ttl: 1m\n"}) as bus:
            bad = await arrive(bus, {"lot": "1", "id": "A", "qty": "many"})
            await bus.operations.edit(bad.message_id, b'{"lot": "1", "id": "A"}', WHO)
            await bus.advance(60)
            assert await retry(bus, bad.message_id) == ("skipped", "it is older than the `ttl` of route door")
            assert bus.state(bad.message_id) == "dead"

    run(scenario())


def test_it_is_retried_and_not_replayed(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(FILES) as bus:
            bad = await arrive(bus, {"lot": "1", "id": "A", "qty": "many"})
            done = await bus.operations.replay(Filter(ids=(bad.message_id,)), WHO)
            assert (done[0]["result"], "dlq retry" in done[0]["why"], probe.got) == ("skipped", True, [])

    run(scenario())


def test_without_its_route_nobody_can_say_what_may_pass(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start(FILES) as bus:
            bad = await arrive(bus, {"lot": "1", "id": "A", "qty": "many"})
            nowhere = Operations(bus.store, bus.clock)
            done = await nowhere.retry(Filter(ids=(bad.message_id,)), WHO)
            assert (done[0]["result"], bus.state(bad.message_id)) == ("skipped", "dead")

    run(scenario())


def test_files_with_faults_keep_out_what_was_refused_and_nothing_else(start: Any, probe: Any, tmp_path: Path) -> None:
    async def two() -> list[str]:
        async with start(FILES) as bus:
            probe.script["erp"] = [Rejected("locked")]
            found = [await arrive(bus, {"lot": lot, "id": lot, "qty": qty}) for lot, qty in (("1", "many"), ("2", 1))]
            await bus.settle()
            return [one.message_id for one in found]

    ids = asyncio.run(two())
    write(tmp_path, {"routes/a.yaml": ROUTE.replace("steps:", "stepz:")})
    done = CliRunner().invoke(cli, ["dlq", "retry", "--all", "-C", str(tmp_path), "--json"])
    found = {one["id"]: (one["result"], "esb lint" in one["why"]) for one in json.loads(done.stdout)["items"]}
    assert found == {ids[0]: ("skipped", True), ids[1]: ("queued", False)}


@pytest.mark.parametrize(
    ("edited", "passes"), [('{"lot": "1", "id": "A", "qty": "many"}', False), ('{"lot": "1"}', True)]
)
def test_the_files_of_a_stopped_bus_say_what_may_pass(
    start: Any, probe: Any, tmp_path: Path, edited: str, passes: bool
) -> None:
    async def refuse() -> str:
        async with start(FILES) as bus:
            bad = await arrive(bus, {"lot": "1", "id": "A", "qty": "many"})
            await bus.operations.edit(bad.message_id, edited.encode(), WHO)
            return bad.message_id

    async def look(id_: str) -> None:
        async with start() as bus:
            assert bus.state(id_) == ("done" if passes else "dead")
            assert [got.key for got in probe.got] == (["1"] if passes else [])

    id_ = asyncio.run(refuse())
    words = ["dlq", "retry", id_, "--reason", "because", "-C", str(tmp_path), "--json"]
    done = CliRunner().invoke(cli, words)
    assert json.loads(done.stdout)["items"][0]["result"] == ("queued" if passes else "skipped"), done.output
    asyncio.run(look(id_))


def test_the_alert_of_one_that_is_refused_is_stored_with_it_or_not_at_all(
    start: Any, probe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ends the process behind the commit of the dead letter, or fails the next one, takes nothing of it."""

    async def scenario() -> None:
        settings = "bus: t\nalerts: { oncall: { probe: desk } }\n"
        async with start({**FILES, "routes/a.yaml": ROUTE + "alert: oncall\n", "esb.yaml": settings}) as bus:
            for nth, told in ((1, 0), (2, 1)):
                text = f"store.before_commit=error@{nth}"
                points = failpoints.Failpoints.read({"ESB_TEST": "1", "ESB_FAILPOINTS": text})
                monkeypatch.setattr(failpoints, "_PROCESS", points)
                with contextlib.suppress(StoreError):
                    await arrive(bus, {"lot": "1", "id": "A", "qty": "many"})
                    await bus.send("door", {"lot": "2"}, source_key="next")  # whose commit is the second
                await bus.settle()
                monkeypatch.undo()
                await bus.advance(60)
                assert len(bus.messages(route="door", states=(State.DEAD,))) == told
                assert [one["class"] for one in probe.bodies("desk")] == ["invalid"] * told
            bus.whole()

    run(scenario())
