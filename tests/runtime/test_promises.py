"""The promises of a running bus, one by one, over the real store and the real loader."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from esb.clock import ManualClock
from esb.errors import Invalid, Rejected, StoreBusy, Unavailable
from esb.message import OPEN_STATES, State
from esb.operations import NotAllowed, Who
from esb.steps.base import Reply
from esb.store.base import Filter

WHO = Who("tester", "because")

PLAIN = """
route: plain
key: body.lot
from: { route: {} }
retry: { max: 3, backoff: 10s, jitter: none }
steps:
  - to: { probe: erp }
"""


def run(scenario: Any) -> None:
    asyncio.run(scenario)


def test_a_message_goes_through_and_is_explained(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": PLAIN}) as bus:
            receipt = await bus.send("plain", {"lot": "0012"}, correlation_id="case-1")
            await bus.settle()
            stored = bus.store.get(receipt.message_id)
            assert (stored.state.value, stored.attempts) == ("done", 1)
            assert stored.envelope.correlation_id == "case-1"
            step = next(entry for entry in stored.trace if entry.get("step") == "to:probe")
            assert (step["status"], step["delivery_id"]) == (200, probe.got[0].id)
            bus.whole()

    run(scenario())


def test_a_retry_waits_in_the_store_and_goes_out_under_the_same_delivery_id(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        probe.script["erp"] = [Unavailable("503"), Unavailable("503")]
        async with start({"routes/a.yaml": PLAIN}) as bus:
            receipt = await bus.send("plain", {"lot": "1"})
            await bus.settle()
            assert bus.state(receipt.message_id) == "waiting"
            await bus.advance(9)
            assert len(probe.got) == 1
            await bus.advance(1)
            assert len(probe.got) == 2
            await bus.advance(20)
            assert bus.state(receipt.message_id) == "done"
            assert len({got.id for got in probe.got}) == 1
            assert [got.again for got in probe.got] == [False, True, True]
            bus.whole()

    run(scenario())


def test_a_wait_survives_a_restart(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        probe.script["erp"] = [Unavailable("503")]
        clock = ManualClock()
        async with start({"routes/a.yaml": PLAIN}, clock=clock) as bus:
            receipt = await bus.send("plain", {"lot": "1"})
            await bus.settle()
        async with start(clock=clock) as bus:
            assert bus.state(receipt.message_id) == "waiting"
            await bus.advance(10)
            assert bus.state(receipt.message_id) == "done"
            assert len({got.id for got in probe.got}) == 1

    run(scenario())


def test_after_the_last_retry_a_dead_letter_blocks_its_key_only(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        probe.script["erp"] = [Unavailable("503")] * 4
        async with start({"routes/a.yaml": PLAIN}) as bus:
            first = await bus.send("plain", {"lot": "1", "n": 1})
            await bus.settle()
            second = await bus.send("plain", {"lot": "1", "n": 2})
            for wait in (10, 20, 40):
                await bus.advance(wait)
            assert bus.state(first.message_id) == "dead"
            assert bus.state(second.message_id) == "held"
            other = await bus.send("plain", {"lot": "2", "n": 3})
            third = await bus.send("plain", {"lot": "1", "n": 4})
            await bus.settle()
            assert bus.state(other.message_id) == "done"
            assert bus.state(third.message_id) == "held"
            error = bus.store.get(first.message_id).error
            assert (error.error_class, error.step, error.at) == ("exhausted", "to:probe", "routes/a.yaml:7:5")
            bus.whole()

    run(scenario())


def test_retrying_the_dead_head_sends_it_and_then_those_behind_it_in_order(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        probe.script["erp"] = [Rejected("no")]
        async with start({"routes/a.yaml": PLAIN}) as bus:
            first = await bus.send("plain", {"lot": "1", "n": 1})
            await bus.settle()
            for n in (2, 3):
                await bus.send("plain", {"lot": "1", "n": n})
            done = await bus.operations.retry(Filter(ids=(first.message_id,)), WHO)
            assert done[0]["result"] == "queued"
            await bus.settle()
            assert [body["n"] for body in probe.bodies("erp")] == [1, 1, 2, 3]
            assert probe.got[0].id == probe.got[1].id
            assert bus.states("plain") == ["done"] * 3
            entry = bus.store.audit_entries()[-1]
            assert (entry["actor"], entry["action"], entry["reason"]) == ("tester", "dlq.retry", "because")
            assert bus.store.verify_audit() == []
            bus.whole()

    run(scenario())


def test_discarding_the_dead_head_needs_a_reason_and_lets_its_key_go_on(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        probe.script["erp"] = [Rejected("no")]
        async with start({"routes/a.yaml": PLAIN}) as bus:
            first = await bus.send("plain", {"lot": "1", "n": 1})
            await bus.settle()
            await bus.send("plain", {"lot": "1", "n": 2})
            with pytest.raises(NotAllowed):
                await bus.operations.discard(Filter(ids=(first.message_id,)), Who("tester"))
            await bus.operations.discard(Filter(ids=(first.message_id,)), WHO)
            await bus.settle()
            assert bus.states("plain") == ["discarded", "done"]
            bus.whole()

    run(scenario())


def test_a_blocked_key_stays_blocked_over_a_restart(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        probe.script["erp"] = [Rejected("no")]
        async with start({"routes/a.yaml": PLAIN}) as bus:
            first = await bus.send("plain", {"lot": "1", "n": 1})
            await bus.settle()
            await bus.send("plain", {"lot": "1", "n": 2})
        async with start() as bus:
            third = await bus.send("plain", {"lot": "1", "n": 3})
            await bus.settle()
            assert bus.state(third.message_id) == "held"
            await bus.operations.retry(Filter(ids=(first.message_id,)), WHO)
            await bus.settle()
            assert [body["n"] for body in probe.bodies("erp")] == [1, 1, 2, 3]
            bus.whole()

    run(scenario())


def test_with_skip_a_dead_letter_lets_its_key_go_on_and_its_retry_is_stale(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        probe.script["erp"] = [Rejected("no")]
        async with start({"routes/a.yaml": PLAIN + "order: { on_dead: skip }\n"}) as bus:
            first = await bus.send("plain", {"lot": "1", "n": 1})
            second = await bus.send("plain", {"lot": "1", "n": 2})
            await bus.settle()
            assert bus.states("plain") == ["dead", "done"]
            skipped = await bus.operations.retry(Filter(ids=(first.message_id,)), WHO)
            assert skipped[0]["result"] == "skipped"
            assert second.message_id in skipped[0]["why"]
            with pytest.raises(NotAllowed):
                await bus.operations.retry(Filter(ids=(first.message_id,)), Who("tester"), stale=True)
            await bus.operations.retry(Filter(ids=(first.message_id,)), WHO, stale=True)
            await bus.settle()
            assert bus.states("plain") == ["done", "done"]

    run(scenario())


OVERTAKE = PLAIN + "order: { overtake: \"body.kind == 'HOLD'\" }\n"


def test_a_hold_overtakes_a_waiting_release_and_supersedes_it(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        probe.script["erp"] = [Unavailable("503")]
        async with start({"routes/a.yaml": OVERTAKE}) as bus:
            await bus.send("plain", {"lot": "1", "kind": "RELEASE"})
            await bus.settle()
            await bus.send("plain", {"lot": "1", "kind": "HOLD"})
            await bus.settle()
            assert bus.states("plain") == ["superseded", "done"]
            await bus.advance(60)
            assert [body["kind"] for body in probe.bodies("erp")] == ["RELEASE", "HOLD"]
            bus.whole()

    run(scenario())


def test_a_hold_overtakes_a_dead_head_and_what_is_held_behind_it(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        probe.script["erp"] = [Rejected("no")]
        async with start({"routes/a.yaml": OVERTAKE}) as bus:
            for kind in ("RELEASE", "RELEASE"):
                await bus.send("plain", {"lot": "1", "kind": kind})
            await bus.settle()
            await bus.send("plain", {"lot": "1", "kind": "HOLD"})
            await bus.send("plain", {"lot": "1", "kind": "RELEASE"})
            await bus.settle()
            assert bus.states("plain") == ["superseded", "superseded", "done", "done"]
            bus.whole()

    run(scenario())


def test_a_dead_head_that_was_overtaken_is_not_retried_but_replayed(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        probe.script["erp"] = [Rejected("no")]
        async with start({"routes/a.yaml": OVERTAKE}) as bus:
            release = await bus.send("plain", {"lot": "1", "kind": "RELEASE"})
            await bus.settle()
            await bus.send("plain", {"lot": "1", "kind": "HOLD"})
            await bus.settle()
            one, at_will = Filter(ids=(release.message_id,)), Who("tester")
            for stale in (False, True):
                (left,) = await bus.operations.retry(one, WHO, stale=stale)
                assert left["result"] == "skipped"
                assert f"`esb replay {release.message_id} --reason …` makes a new message of it" in left["why"]
            (left,) = await bus.operations.replay(one, at_will)
            assert (left["result"], "that needs --reason" in left["why"]) == ("skipped", True)
            chosen = await bus.operations.replay(Filter(route="plain"), WHO, dry_run=True)
            assert release.message_id not in {item["id"] for item in chosen}
            (done,) = await bus.operations.replay(one, WHO)
            assert done["result"] == "replayed"
            await bus.settle()
            assert bus.states("plain") == ["superseded", "done", "done"]
            assert [body["kind"] for body in probe.bodies("erp")] == ["RELEASE", "HOLD", "RELEASE"]
            bus.whole()

    run(scenario())


def test_a_hold_waits_for_a_release_that_is_under_way_and_ends_it(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": OVERTAKE}) as bus:
            under_way = asyncio.get_running_loop().create_future()
            probe.script["erp"] = [under_way]
            await bus.send("plain", {"lot": "1", "kind": "RELEASE"})
            while not probe.got:
                await asyncio.sleep(0)
            await bus.send("plain", {"lot": "1", "kind": "HOLD"})
            assert len(probe.got) == 1
            under_way.set_result(Unavailable("503"))
            await bus.settle()
            assert bus.states("plain") == ["superseded", "done"]
            bus.whole()

    run(scenario())


TWO = """
route: two
from: { route: {} }
retry: { max: 3, backoff: 10s, jitter: none }
steps:
  - to: { probe: first }
    into: vars.first
  - set: { body.seen: vars.first.body.doc }
  - to: { probe: second }
"""


def test_a_confirmed_delivery_is_not_sent_again_when_a_later_step_is_retried(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        probe.script["first"] = [Reply(201, {}, {"doc": "4711"})]
        probe.script["second"] = [Unavailable("503")]
        clock = ManualClock()
        async with start({"routes/a.yaml": TWO}, clock=clock) as bus:
            await bus.send("two", {"a": 1})
            await bus.settle()
        async with start(clock=clock) as bus:  # also not after a restart
            await bus.advance(10)
            assert len(probe.bodies("first")) == 1
            assert probe.bodies("second") == [{"a": 1, "seen": "4711"}] * 2
            assert bus.states("two") == ["done"]

    run(scenario())


def test_a_replay_is_a_new_message_under_the_same_delivery_ids(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": TWO}) as bus:
            receipt = await bus.send("two", {"a": 1})
            await bus.settle()
            done = await bus.operations.replay(Filter(ids=(receipt.message_id,)), WHO)
            await bus.settle()
            new = bus.store.get(done[0]["new_id"])
            assert (new.state.value, new.envelope.replay_of) == ("done", receipt.message_id)
            ids = [got.id for got in probe.got]
            assert ids[:2] == ids[2:]
            bus.whole()

    run(scenario())


def test_a_repeat_is_a_duplicate_linked_to_the_first(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": PLAIN + "dedupe: body.id\n"}) as bus:
            first = await bus.send("plain", {"lot": "1", "id": "x"})
            again = await bus.send("plain", {"lot": "1", "id": "x"})
            await bus.settle()
            assert (again.state, again.duplicate_of) == ("duplicate", first.message_id)
            assert bus.states("plain") == ["done", "duplicate"]
            assert len(probe.got) == 1
            bus.whole()

    run(scenario())


def test_a_message_older_than_its_ttl_expires(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        probe.script["erp"] = [Unavailable("503")] * 9
        async with start({"routes/a.yaml": PLAIN + "ttl: 15s\n"}) as bus:
            await bus.send("plain", {"lot": "1"})
            await bus.settle()
            await bus.advance(10)
            await bus.advance(10)
            assert bus.states("plain") == ["expired"]
            bus.whole()

    run(scenario())


def test_what_a_person_retries_does_not_expire_before_it_is_sent(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        probe.script["erp"] = [Rejected("locked"), Unavailable("503")]
        async with start({"routes/a.yaml": PLAIN + "ttl: 1m\n"}) as bus:
            receipt = await bus.send("plain", {"lot": "1"})
            await bus.settle()
            await bus.advance(600)
            await bus.operations.retry(Filter(ids=(receipt.message_id,)), WHO)
            await bus.settle()
            assert bus.state(receipt.message_id) == "waiting"
            await bus.advance(10)
            assert (bus.state(receipt.message_id), len(probe.got)) == ("done", 3)
            bus.whole()

    run(scenario())


def test_a_full_queue_refuses_and_takes_again_when_there_is_room(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        probe.script["erp"] = [Unavailable("503")] * 2
        async with start({"routes/a.yaml": PLAIN, "esb.yaml": "bus: t\nlimits: { queue: 2 }\n"}) as bus:
            await bus.send("plain", {"lot": "1"})
            await bus.send("plain", {"lot": "2"})
            await bus.settle()
            with pytest.raises(StoreBusy) as refused:
                await bus.send("plain", {"lot": "3"})
            assert refused.value.retry_after > timedelta(0)
            assert not bus.supervisor.routes["plain"].intake.open
            await bus.advance(10)
            await bus.send("plain", {"lot": "3"})
            bus.whole()

    run(scenario())


CONTRACT = '{"type": "object", "required": ["lot"], "properties": {"lot": {"type": "string"}}}'


def test_a_bad_payload_is_a_dead_letter_with_its_original_or_refused_as_the_source_wants(
    start: Any, probe: Any
) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": PLAIN, "schemas/lot.v1.json": CONTRACT}) as bus:
            dead = await bus.send("plain", b'{"lot": "1", "lot": "2"}')
            assert dead.state == "dead"
            assert bus.store.payload(bus.messages()[0].envelope.seq)[0].body == b'{"lot": "1", "lot": "2"}'
            with pytest.raises(Invalid):
                await bus.send("plain", b"{", on_invalid="refuse")
            assert bus.states("plain") == ["dead"]
            bus.whole()

    run(scenario())


FANOUT = """
route: fan
key: body.lot
from: { route: {} }
retry: { max: 5, backoff: 10s, jitter: none }
steps:
  - fanout:
      erp: { steps: [ { to: { probe: erp } } ] }
      wms: { steps: [ { to: { probe: wms } } ] }
      mes: { if: body.mes, steps: [ { to: { probe: mes } } ] }
"""


def test_branches_have_queues_of_their_own_and_keep_the_order_of_their_key(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        probe.script["erp"] = [Unavailable("503")]
        async with start({"routes/a.yaml": FANOUT}) as bus:
            parent = await bus.send("fan", {"lot": "1", "n": 1, "mes": False})
            await bus.send("fan", {"lot": "1", "n": 2, "mes": True})
            await bus.settle()
            assert [body["n"] for body in probe.bodies("wms")] == [1, 2]
            assert [body["n"] for body in probe.bodies("erp")] == [1]
            assert [body["n"] for body in probe.bodies("mes")] == [2]
            await bus.advance(10)
            assert [body["n"] for body in probe.bodies("erp")] == [1, 1, 2]
            children = bus.store.children([parent.message_id])
            assert sorted(child.envelope.scope for child in children) == ["fanout/erp", "fanout/wms"]
            assert {child.envelope.correlation_id for child in children} == {parent.correlation_id}
            bus.whole()

    run(scenario())


SPLIT = """
route: rows
from: { route: {} }
track: { file: body.name }
steps:
  - split:
      each: body.rows
      key: body.id
      steps:
        - to: { probe: erp }
"""


def test_a_split_makes_keyed_messages_and_one_bad_item_does_not_stop_the_others(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        probe.script["erp"] = [Rejected("no")]
        async with start({"routes/a.yaml": SPLIT}) as bus:
            rows = [{"id": "a", "n": 1}, {"id": "a", "n": 2}, {"id": "b", "n": 3}]
            await bus.send("rows", {"name": "f.csv", "rows": rows})
            await bus.settle()
            assert bus.states("rows") == ["done", "dead", "held", "done"]
            assert all(stored.envelope.track == {"file": "f.csv"} for stored in bus.messages(route="rows"))
            bus.whole()

    run(scenario())


def test_publish_reaches_every_subscriber_in_the_transaction_of_its_message(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        files = {
            "routes/p.yaml": "route: pub\nfrom: { route: {} }\nsteps: [ { publish: lots } ]\n",
            "routes/s1.yaml": "route: sub-one\nfrom: { topic: lots }\nsteps: [ { to: { probe: one } } ]\n",
            "routes/s2.yaml": "route: sub-two\nkey: body.lot\nfrom: { topic: lots }\nsteps: [ { to: { probe: two } } ]\n",
        }
        async with start(files) as bus:
            receipt = await bus.send("pub", {"lot": "7"})
            await bus.settle()
            assert probe.bodies("one") == probe.bodies("two") == [{"lot": "7"}]
            children = bus.store.children([receipt.message_id])
            assert sorted((c.envelope.route, c.envelope.key) for c in children) == [("sub-one", None), ("sub-two", "7")]
            bus.whole()

    run(scenario())


def test_on_error_steps_run_instead_and_end_the_message_well(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        route = PLAIN + "on_error:\n  - { for: rejected, steps: [ { to: { probe: desk } } ] }\n"
        probe.script["erp"] = [Rejected("unknown lot")]
        async with start({"routes/a.yaml": route}) as bus:
            await bus.send("plain", {"lot": "1"})
            await bus.settle()
            assert bus.states("plain") == ["done"]
            assert probe.bodies("desk") == [{"lot": "1"}]

    run(scenario())


def test_a_delay_waits_in_the_store_and_uses_up_no_attempt(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        route = "route: slow\nfrom: { route: {} }\nsteps:\n  - delay: 5s\n  - to: { probe: erp }\n"
        clock = ManualClock()
        async with start({"routes/a.yaml": route}, clock=clock) as bus:
            await bus.send("slow", {"a": 1})
            await bus.settle()
            assert bus.states("slow") == ["waiting"]
        async with start(clock=clock) as bus:
            await bus.advance(5)
            stored = bus.messages(route="slow")[0]
            assert (stored.state.value, stored.attempts) == ("done", 1)

    run(scenario())


@pytest.mark.parametrize("retry", ["max: 99", "max: 3", "max: 0"])
def test_drop_after_ends_a_message_whose_target_stays_down_and_not_the_last_retry(
    start: Any, probe: Any, retry: str
) -> None:
    async def scenario() -> None:
        route = PLAIN.replace("max: 3", retry)
        probe.script["erp"] = [Unavailable("503")] * 99
        async with start({"routes/a.yaml": route + "when_down: { drop_after: 1m }\n"}) as bus:
            await bus.send("plain", {"lot": "1"})
            await bus.settle()
            for _ in range(12):
                assert bus.states("plain") == ["waiting"]
                await bus.advance(5)
            stored = bus.messages(route="plain")[0]
            assert stored.state.value == "done"
            assert "dropped" in stored.reason
            bus.whole()

    run(scenario())


def test_what_a_person_retries_is_not_dropped_in_an_outage(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        probe.script["erp"] = [Rejected("locked"), *[Unavailable("503")] * 4]
        async with start({"routes/a.yaml": PLAIN + "when_down: { drop_after: 1m }\n"}) as bus:
            receipt = await bus.send("plain", {"lot": "1"})
            await bus.settle()
            await bus.advance(600)
            await bus.operations.retry(Filter(ids=(receipt.message_id,)), WHO)
            for _ in range(8):
                await bus.advance(10)
            assert (bus.state(receipt.message_id), len(probe.got)) == ("dead", 5)
            bus.whole()

    run(scenario())


def test_a_fallback_runs_when_the_target_is_down(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        route = PLAIN + "when_down: { fallback: [ { to: { probe: paper } } ] }\n"
        probe.script["erp"] = [Unavailable("503")]
        async with start({"routes/a.yaml": route}) as bus:
            await bus.send("plain", {"lot": "1"})
            await bus.settle()
            assert bus.states("plain") == ["done"]
            assert probe.bodies("paper") == [{"lot": "1"}]

    run(scenario())


def test_a_paused_route_refuses_and_rests_over_a_restart(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": PLAIN}) as bus:
            await bus.operations.pause("plain", WHO, paused=True)
            with pytest.raises(StoreBusy):
                await bus.send("plain", {"lot": "1"})
        async with start() as bus:
            with pytest.raises(StoreBusy):
                await bus.send("plain", {"lot": "1"})
            await bus.operations.pause("plain", WHO, paused=False)
            await bus.send("plain", {"lot": "1"})
            await bus.settle()
            assert bus.states("plain") == ["done"]

    run(scenario())


def test_a_dead_letter_raises_its_alert_as_a_message_of_its_own(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        desk = "route: desk\nfrom: { topic: alert.oncall }\nsteps: [ { to: { probe: desk } } ]\n"
        settings = "bus: t\nalerts: { oncall: { http: { url: 'http://127.0.0.1:9/alerts' } } }\n"
        route = PLAIN + "alert: oncall\n"
        probe.script["erp"] = [Rejected("unknown lot")]
        async with start({"routes/a.yaml": route, "routes/d.yaml": desk, "esb.yaml": settings}) as bus:
            dead = await bus.send("plain", {"lot": "1"})
            await bus.settle()
            await bus.send("plain", b"{")
            await bus.settle()
            told = probe.bodies("desk")
            assert [(one["route"], one["class"]) for one in told] == [("plain", "rejected"), ("plain", "invalid")]
            assert (told[0]["message_id"], told[0]["key"]) == (dead.message_id, "1")
            bus.whole()

    run(scenario())


def test_a_repeat_of_a_synchronous_call_gets_the_answer_of_the_first(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        route = "route: sync\nfrom: { route: {} }\nsteps:\n  - respond: { status: 201, body: \"{ doc: '4711' }\" }\n"
        async with start({"routes/a.yaml": route}) as bus:
            first = await bus.send("sync", {"a": 1}, source_key="client:k", correlation_id="case-1")
            await bus.settle()
            again = await bus.send("sync", {"a": 1}, source_key="client:k", correlation_id="case-2")
            assert (again.state, again.message_id, again.correlation_id) == ("known", first.message_id, "case-1")
            for _ in range(300):  # the answer outlives the short memory of the process
                await bus.send("sync", {"a": 1})
            await bus.settle()
            outcome = await bus.supervisor.routes["sync"].intake.outcome(again.message_id, 1.0)
            assert (outcome.state, outcome.response) == ("done", (201, {}, {"doc": "4711"}))

    run(scenario())


@pytest.mark.parametrize(
    ("steps", "answer"),
    [
        ("{ respond: { status: 201 } }, { reject: { reason: 'no' } }", ("dead", None)),
        ("{ respond: { status: 201 } }, { reject: { reason: 'no' } } ]\non_error: [ { for: rejected, reply: REPLY }",
         ("dead", (409, {}, "sorry"))),
        ("{ set: { body: headers.x } }, { respond: { status: 200 } }", ("done", (200, {}, "é"))),
    ],
)  # fmt: skip
def test_after_a_restart_a_repeat_gets_the_answer_of_the_first(start: Any, probe: Any, steps: str, answer: Any) -> None:
    async def scenario() -> None:
        route = f"route: sync\nfrom: {{ route: {{}} }}\nsteps: [ {steps} ]\n"
        route = route.replace("REPLY", "{ status: 409, body: sorry }")
        async with start({"routes/a.yaml": route}) as bus:
            first = await bus.send("sync", {}, source_key="client:k", headers={"x": "é"})
            await bus.settle()
            told = await bus.supervisor.routes["sync"].intake.outcome(first.message_id, 1.0)
            assert (told.state, told.response) == answer
            clock = bus.clock
        async with start(clock=clock) as bus:
            again = await bus.send("sync", {}, source_key="client:k", headers={"x": "é"})
            told = await bus.supervisor.routes["sync"].intake.outcome(again.message_id, 1.0)
            assert (told.state, told.response) == answer

    run(scenario())


def test_after_a_restart_a_repeat_gets_the_bytes_that_the_first_was_answered(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        route = "route: sync\nfrom: { route: {} }\nsteps: [ { to: { probe: erp }, into: body }, { set: { body: body.body } }, { respond: {} } ]\n"
        probe.script["erp"] = [Reply(200, body=b"%PDF\xff")]
        async with start({"routes/a.yaml": route}) as bus:
            first = await bus.send("sync", {}, source_key="client:k")
            await bus.settle()
            clock = bus.clock
        async with start(clock=clock) as bus:
            told = await bus.supervisor.routes["sync"].intake.outcome(first.message_id, 1.0)
            assert told.response == (200, {}, b"%PDF\xff")

    run(scenario())


def test_a_message_that_was_superseded_before_its_start_was_stored_is_not_sent(start: Any, probe: Any) -> None:
    """Both are accepted in one commit; the hold overtakes the release before that has sent anything."""

    async def scenario() -> None:
        async with start({"routes/a.yaml": OVERTAKE}) as bus:
            release = {"lot": "1", "kind": "RELEASE"}
            await asyncio.gather(bus.send("plain", release), bus.send("plain", {"lot": "1", "kind": "HOLD"}))
            await bus.settle()
            assert bus.states("plain") == ["superseded", "done"]
            assert [body["kind"] for body in probe.bodies("erp")] == ["HOLD"]
            bus.whole()

    run(scenario())


CONNECTOR = """
connector: erp
type: probe
circuit: { failures: 1, open_for: 30s }
operations:
  post: { name: erp }
"""


def test_while_the_circuit_is_open_no_attempt_is_used_up_and_one_probe_closes_it(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        route = PLAIN.replace("to: { probe: erp }", "to: erp.post").replace("max: 3", "max: 1")
        probe.script["erp"] = [Unavailable("503")]
        async with start({"routes/a.yaml": route, "connectors/erp.yaml": CONNECTOR}) as bus:
            await bus.send("plain", {"lot": "1"})
            await bus.settle()
            await bus.send("plain", {"lot": "2"})
            await bus.settle()
            assert len(probe.got) == 1  # the second was not tried: the circuit is open
            await bus.advance(15)
            assert len(probe.got) == 1
            await bus.advance(30)
            assert bus.states("plain") == ["done", "done"]
            assert [stored.attempts for stored in bus.messages(route="plain")] == [2, 1]

    run(scenario())


def test_reject_when_down_refuses_new_messages_while_the_circuit_is_open(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        route = PLAIN.replace("to: { probe: erp }", "to: erp.post") + "when_down: { reject: 503 }\n"
        probe.script["erp"] = [Unavailable("503")]
        async with start({"routes/a.yaml": route, "connectors/erp.yaml": CONNECTOR}) as bus:
            await bus.send("plain", {"lot": "1"})
            await bus.settle()
            with pytest.raises(Unavailable) as refused:
                await bus.send("plain", {"lot": "2"})
            assert refused.value.reply == {"status": 503}
            await bus.advance(30)
            await bus.send("plain", {"lot": "2"})
            await bus.settle()
            assert bus.states("plain") == ["done", "done"]

    run(scenario())


@pytest.mark.parametrize("purged", [False, True])
def test_a_discarded_message_gives_its_dedupe_key_back(start: Any, probe: Any, purged: bool) -> None:
    async def scenario() -> None:
        probe.script["erp"] = [Rejected("no")]
        async with start({"routes/a.yaml": PLAIN + "dedupe: body.id\n"}) as bus:
            first = await bus.send("plain", {"lot": "1", "id": "x"})
            await bus.settle()
            assert (await bus.send("plain", {"lot": "1", "id": "x"})).duplicate_of == first.message_id
            await bus.operations.discard(Filter(ids=(first.message_id,)), WHO)
            if purged:
                assert await bus.store.purge(bus.clock.now() + timedelta(hours=1), [State.DISCARDED]) == 1
            again = await bus.send("plain", {"lot": "1", "id": "x"})
            await bus.settle()
            assert bus.state(again.message_id) == "done"
            assert (await bus.send("plain", {"lot": "1", "id": "x"})).duplicate_of == again.message_id
            bus.whole()

    run(scenario())


def test_replaying_a_selection_makes_every_delivery_once(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": FANOUT}) as bus:
            await bus.send("fan", {"lot": "1", "mes": False})
            await bus.settle()
            for _ in range(2):  # an earlier replay is no original
                await bus.operations.replay(Filter(route="fan"), WHO)
                await bus.settle()
            assert len(probe.bodies("erp")) == len(probe.bodies("wms")) == 3
            assert len({got.id for got in probe.got}) == 2
            bus.whole()

    run(scenario())


def test_a_dead_message_that_blocks_its_key_is_retried_and_not_replayed(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        probe.script["erp"] = [Rejected("no")]
        async with start({"routes/a.yaml": PLAIN}) as bus:
            dead = await bus.send("plain", {"lot": "1"})
            await bus.settle()
            done = await bus.operations.replay(Filter(ids=(dead.message_id,)), WHO)
            assert (done[0]["result"], "dlq retry" in done[0]["why"]) == ("skipped", True)

    run(scenario())


def test_messages_that_arrive_while_their_lane_is_released_run_in_order(start: Any, probe: Any) -> None:
    """Whichever commit comes first, nothing stays held behind nothing and nothing overtakes."""

    async def scenario() -> None:
        async with start({"routes/a.yaml": PLAIN}) as bus:
            for lot in range(20):
                probe.script["erp"] = [Rejected("no")]
                dead = await bus.send("plain", {"lot": str(lot), "n": 0})
                await bus.settle()
                sends = [bus.send("plain", {"lot": str(lot), "n": n}) for n in range(1, 9)]
                discard = bus.operations.discard(Filter(ids=(dead.message_id,)), WHO)
                await asyncio.gather(*sends[: lot % 8], discard, *sends[lot % 8 :])
                await bus.settle()
                sent = [body["n"] for body in probe.bodies("erp") if body["lot"] == str(lot)]
                accepted = [stored.envelope.seq for stored in bus.messages(route="plain", key=str(lot))]
                assert len(sent) == len(accepted) == 9
                assert bus.store.find(Filter(route="plain", states=tuple(OPEN_STATES))) == []
            bus.whole()

    run(scenario())


def test_a_replayed_hold_takes_its_turn_and_supersedes_nothing(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": OVERTAKE}) as bus:
            hold = await bus.send("plain", {"lot": "1", "kind": "HOLD"})
            await bus.settle()
            probe.script["erp"] = [Rejected("no")]
            await bus.send("plain", {"lot": "1", "kind": "RELEASE"})
            await bus.settle()
            await bus.send("plain", {"lot": "1", "kind": "RELEASE"})
            await bus.operations.replay(Filter(ids=(hold.message_id,)), WHO)
            await bus.send("plain", {"lot": "1", "kind": "RELEASE"})
            await bus.settle()
            assert bus.states("plain") == ["done", "dead", "held", "held", "held"]
            bus.whole()

    run(scenario())


def test_a_store_that_cannot_write_kills_no_message(start: Any, probe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": PLAIN}) as bus:
            real, refusals = bus.store.start_then, [StoreBusy("the disk is full"), StoreBusy("the disk is full")]

            def full(seq: int, attempts: int, then: Any) -> None:
                if refusals:
                    asyncio.get_running_loop().call_soon(then, refusals.pop())
                else:
                    real(seq, attempts, then)

            monkeypatch.setattr(type(bus.store), "start_then", lambda _store, *words: full(*words))
            _, second = await asyncio.gather(*[bus.send("plain", {"lot": "1"}) for _ in range(2)])
            while refusals or bus.state(second.message_id) != "done":
                bus.clock.advance(1)
                await asyncio.sleep(0)
            assert len(probe.got) == 2
            bus.whole()

    run(scenario())


def test_reject_when_down_lets_the_probe_in_once_its_time_has_come(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        route = PLAIN.replace("to: { probe: erp }", "to: erp.post").replace("max: 3", "max: 0")
        probe.script["erp"] = [Unavailable("503")]
        async with start(
            {"routes/a.yaml": route + "when_down: { reject: 503 }\n", "connectors/erp.yaml": CONNECTOR}
        ) as bus:
            await bus.send("plain", {"lot": "1"})
            await bus.settle()
            with pytest.raises(Unavailable):
                await bus.send("plain", {"lot": "2"})
            await bus.advance(30)
            await bus.send("plain", {"lot": "2"})
            await bus.settle()
            assert bus.states("plain") == ["dead", "done"]

    run(scenario())


def test_a_fault_has_two_addresses_the_line_of_the_workspace_and_the_part_of_the_payload(start: Any) -> None:
    async def scenario() -> None:
        route = (
            "route: a\nfrom: { route: {} }\nsteps:\n  - map:\n      qty: number(body.line.qty)\n      lot: body.lot\n"
        )
        async with start({"routes/a.yaml": route}) as bus:
            sent = await bus.send("a", {"line": {"qty": "many"}, "lot": "1"})
            await bus.settle()
            error = bus.store.get(sent.message_id).error
            assert (error.step, error.at, error.pointer) == ("map", "routes/a.yaml:4:5", "/line/qty")
            assert error.as_dict()["at"] == "routes/a.yaml:4:5"

    run(scenario())


def test_a_split_beyond_its_bound_is_refused_whole(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        route = SPLIT.replace("      key: body.id\n", "      key: body.id\n      max_items: 2\n")
        async with start({"routes/a.yaml": route}) as bus:
            await bus.send("rows", {"name": "f", "rows": [{"id": str(n)} for n in range(3)]})
            await bus.settle()
            (stored,) = bus.messages(route="rows")
            assert (stored.state.value, stored.error.error_class) == ("dead", "invalid")
            assert "max_items" in stored.error.hint

    run(scenario())


def test_a_retry_behind_a_newer_delivery_to_one_of_the_targets_is_stale(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        route = TWO.replace("from:", "key: body.lot\norder: { on_dead: skip }\nfrom:")
        async with start({"routes/a.yaml": route}) as bus:
            probe.script["first"] = [Rejected("no")]
            old = await bus.send("two", {"lot": "1", "n": 1})
            await bus.settle()
            probe.script["second"] = [Unavailable("503")]
            newer = await bus.send("two", {"lot": "1", "n": 2})
            await bus.settle()
            assert bus.state(newer.message_id) == "waiting"
            done = await bus.operations.retry(Filter(ids=(old.message_id,)), WHO)
            assert (done[0]["result"], newer.message_id in done[0]["why"]) == ("skipped", True)

    run(scenario())


def test_a_replay_passes_its_own_dedupe_step(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        route = "route: once\nfrom: { route: {} }\nsteps:\n  - dedupe: body.id\n  - to: { probe: erp }\n"
        async with start({"routes/a.yaml": route}) as bus:
            first = await bus.send("once", {"id": "x"})
            await bus.send("once", {"id": "x"})
            await bus.settle()
            assert len(probe.got) == 1
            again = await bus.operations.replay(Filter(ids=(first.message_id,)), WHO)
            await bus.settle()
            await bus.operations.replay(Filter(ids=(again[0]["new_id"],)), WHO)
            await bus.settle()
            assert len(probe.got) == 3
            assert len({got.id for got in probe.got}) == 1

    run(scenario())


def test_a_message_that_was_stored_without_anybody_hearing_of_it_runs_when_it_is_sent_again(
    start: Any, probe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with start({"routes/a.yaml": PLAIN}) as bus:
            real = type(bus.store).accept_then

            def unheard(store: Any, new: Any, then: Any) -> None:
                real(store, new, lambda _: then(StoreBusy("the commit reported an error")))

            with monkeypatch.context() as patch:
                patch.setattr(type(bus.store), "accept_then", unheard)
                with pytest.raises(StoreBusy):
                    await bus.send("plain", {"lot": "1"}, source_key="client:k")
                await bus.settle()
            assert probe.got == []
            again = await bus.send("plain", {"lot": "1"}, source_key="client:k")
            await bus.settle()
            assert (again.state, bus.state(again.message_id), len(probe.got)) == ("known", "done", 1)

    run(scenario())


def test_limits_of_a_reload_are_in_force(start: Any, probe: Any) -> None:
    async def scenario() -> None:
        probe.script["erp"] = [Unavailable("503")] * 9
        async with start({"routes/a.yaml": PLAIN}) as bus:
            await bus.send("plain", {"lot": "1"})
            bus.write({"esb.yaml": "bus: t\nlimits: { queue: 1 }\n"})
            await bus.reload()
            with pytest.raises(StoreBusy):
                await bus.send("plain", {"lot": "2"})

    run(scenario())
