"""What every store promises. A new store joins by one more entry in ``KINDS``; each test ends with a count of everything."""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from esb.clock import ManualClock
from esb.errors import ErrorRecord, StoreError, Violation
from esb.message import MOVES, OPEN_STATES, Envelope, State, new_id
from esb.store import open_store
from esb.store.base import Accepted, AuditEntry, Confirmed, DedupeKey, Filter, NewMessage, NewPayload, Settlement
from esb.store.suspect import AHEAD
from tests.servers.postgres import Postgres, empty_store

NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
WHO = AuditEntry("mia", "dlq.retry", "x", "checked with the supplier")
BROKEN = ErrorRecord("rejected", "lot 4711 is locked", step="to:erp.usage-decision", pointer="/lot")

Test = Callable[..., Awaitable[None]]


class SqliteBox:
    """Opens, leaves and kills one SQLite store."""

    url = "sqlite:///.esb/bus.db"

    def __init__(self, root: Path, server: Callable[[], Postgres]) -> None:
        del server
        self.root = root
        self.clock = ManualClock(NOW)
        self.store: Any = None

    async def open(self) -> Any:
        self.store = await open_store(self.url, self.root, clock=self.clock, min_free=0)
        return self.store

    def kill(self) -> None:
        """As a dead process leaves it: nothing is noted, the connections are gone."""
        for reader in (self.store._hot, self.store._search):
            reader.close()
        self.store._writer.connection.close()


class PostgresBox(SqliteBox):
    """The same in an empty schema of a private PostgreSQL."""

    def __init__(self, root: Path, server: Callable[[], Postgres]) -> None:
        super().__init__(root, server)
        self.url = empty_store(server())

    def kill(self) -> None:
        self.store._committer.close()
        super().kill()
        self.store._database.close()


KINDS = {"sqlite": SqliteBox, "postgresql": PostgresBox}


@pytest.fixture(params=list(KINDS))
def box(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return KINDS[request.param](tmp_path, lambda: request.getfixturevalue("postgres"))


def on_store(test: Test) -> Callable[..., None]:
    """Run a test on a fresh store; afterwards every message must be accounted for and the audit whole."""

    @functools.wraps(test)
    def run(box: Any, **more: Any) -> None:
        async def main() -> None:
            await box.open()
            await test(box, **more)
            assert box.store.verify_conservation() == []
            assert box.store.verify_audit() == []
            await box.store.close()

        asyncio.run(main())

    return run


def envelope(route: str = "qms-to-erp", **parts: Any) -> Envelope:
    id_ = parts.pop("id", None) or new_id()
    filled = {
        "body": b'{"lot":"0012"}',
        "content": "json",
        "accepted_at": NOW,
        "origin": id_,
        "correlation_id": id_,
        "version": "v1",
    }
    return Envelope(id=id_, route=route, **(filled | parts))


def new(route: str = "qms-to-erp", *, state: State = State.QUEUED, **parts: Any) -> NewMessage:
    own = {name: parts.pop(name) for name in list(parts) if name in NewMessage.__slots__}
    return NewMessage(envelope(route, **parts), state=state, **own)


def done(seq: int, **parts: Any) -> Settlement:
    return Settlement(seq, State.DONE, parts.pop("attempts", 1), parts.pop("at", NOW), **parts)


def dead(seq: int, **parts: Any) -> Settlement:
    filled = {"error": BROKEN, "trace": [{"step": "to:erp.usage-decision", "ms": 3}]} | parts
    return Settlement(seq, State.DEAD, filled.pop("attempts", 1), filled.pop("at", NOW), **filled)


def key(name: str, *, space: str = "dedupe", days: int = 7, fingerprint: str = "") -> DedupeKey:
    return DedupeKey(space, name, NOW + timedelta(days=days), fingerprint)


async def started(store: Any, **parts: Any) -> Accepted:
    accepted: Accepted = await store.accept(new(**parts))
    if accepted.state is not State.QUEUED:
        return accepted
    assert await store.start(accepted.seq, 1, NOW)
    return structs.replace(accepted, state=State.RUNNING)


async def died(store: Any, *, hold: bool = True, error: ErrorRecord = BROKEN, **parts: Any) -> Accepted:
    accepted = await started(store, **parts)
    await store.settle(dead(accepted.seq, hold_lane=hold, error=error))
    return accepted


def states(store: Any, route: str = "qms-to-erp") -> dict[str, int]:
    for counts in store.counts():
        if counts.route == route:
            return {name: n for name, n in counts.states.items() if n}
    return {}


def state_of(store: Any, accepted: Accepted) -> State:
    return store.get(accepted.id).state


def seqs(found: Sequence[Any]) -> list[int]:
    return [stored.envelope.seq for stored in found]


# -- acceptance ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"key": "0012"},
        {"correlation_id": "case-1"},
        {"parent_id": new_id()},
        {"replay_of": new_id()},
        {"duplicate_of": new_id()},
        {"origin": "other/split#1"},
        {"overtakes": True, "key": "0012"},
        {"priority": 2},
        {"headers": {"a": "ä"}},
        {"vars": {"n": Decimal("1.10"), "raw": b"\0"}},
        {"meta": {"path": "/in", "source": {"type": "http"}}},
        {"track": {"lot": "0012"}},
        {"body": b"\0\xff", "content": "raw"},
    ],
    ids=lambda parts: ",".join(parts) or "plain",
)
@pytest.mark.parametrize("ended", [False, True])
@on_store
async def test_a_message_comes_back_as_it_was_stored_whatever_it_carries(box: Any, parts: Any, ended: bool) -> None:
    """Rows leave out what is null; no part of a message may be lost with it."""
    message = new(**parts)
    if ended:
        message = structs.replace(message, ending=done(0, reason="filtered", trace=[{"step": "filter", "ms": 1}]))
    accepted = await box.store.accept(message)
    found, _ = box.store.payload(accepted.seq)
    assert found == structs.replace(message.envelope, seq=accepted.seq)
    if ended:
        assert accepted.state is State.DONE
        stored = box.store.get(accepted.id)
        assert (stored.reason, [entry["step"] for entry in stored.trace]) == ("filtered", ["filter"])


@on_store
async def test_a_message_is_of_the_version_that_its_last_attempt_ran_on(box: Any) -> None:
    again = Settlement(0, State.WAITING, 1, NOW, due=NOW, version="v2")
    for settlement in (dead(0, version="v2"), done(0, version="v2"), again):
        accepted = await started(box.store)
        await box.store.settle(structs.replace(settlement, seq=accepted.seq))
        assert box.store.get(accepted.id).envelope.version == "v2"
    assert box.store.get((await started(box.store)).id).envelope.version == "v1"


@on_store
async def test_every_part_of_a_message_comes_back_as_it_was(box: Any) -> None:
    parent, first = new_id(), new_id()
    sent = envelope(
        body=b"\x00\xffraw",
        content="raw",
        scope="split#2",
        key="LOT-ä/0012",
        origin="0190/split[3]",
        correlation_id="corr-1",
        parent_id=parent,
        replay_of=first,
        duplicate_of=first,
        overtakes=True,
        priority=-1,
        accepted_at=datetime(2026, 3, 29, 1, 59, 59, 999_999, tzinfo=UTC),
        headers={"x-lot": "0012"},
        vars={"qty": Decimal("12.10"), "big": Decimal("12345678901234567890.123"), "raw": b"\x01", "n": None},
        meta={"source": {"type": "http"}, "rows": [1, True, "x"]},
        track={"lot": "0012", "plant": "P10"},
    )
    accepted = await box.store.accept(NewMessage(sent))
    back, ledger = box.store.payload(accepted.seq)
    assert back == structs.replace(sent, seq=accepted.seq)
    assert str(back.vars["qty"]) == "12.10"
    assert ledger == {}
    assert box.store.get(sent.id).envelope == back


@on_store
async def test_an_empty_message_comes_back_empty(box: Any) -> None:
    sent = envelope(body=b"", correlation_id="", origin="", version="")
    accepted = await box.store.accept(NewMessage(sent))
    assert box.store.payload(accepted.seq)[0] == structs.replace(sent, seq=accepted.seq)


@on_store
async def test_order_of_acceptance_is_the_order_of_the_calls(box: Any) -> None:
    answers = await asyncio.gather(*[box.store.accept(new(key=str(n))) for n in range(1200)])
    numbers = [answer.seq for answer in answers]
    assert numbers == sorted(set(numbers))
    assert [row.key for row in box.store.pending()] == [str(n) for n in range(1200)]


@on_store
async def test_nothing_is_seen_before_its_commit(box: Any) -> None:
    future = box.store.accept(new())
    assert box.store.pending() == []
    await future
    assert len(box.store.pending()) == 1


@on_store
async def test_a_message_for_direct_dispatch_is_stored_running_with_one_attempt(box: Any) -> None:
    accepted = await box.store.accept(new(started=True))
    (row,) = box.store.pending()
    assert accepted.state is State.RUNNING
    assert (row.state, row.attempts, row.id, row.version) == (State.RUNNING, 1, accepted.id, "v1")
    assert states(box.store) == {"running": 1}


@on_store
async def test_a_message_for_direct_dispatch_does_not_begin_beside_another_of_its_lane(box: Any) -> None:
    store = box.store
    both = await asyncio.gather(*[store.accept(new(started=True, key="L1")) for _ in range(2)])
    later = await store.accept(new(started=True, key="L1"))
    assert [one.state for one in (*both, later)] == [State.RUNNING, State.QUEUED, State.QUEUED]
    assert [row.attempts for row in store.pending()] == [1, 0, 0]
    others = [
        await store.accept(new(started=True, **parts)) for parts in ({"key": "L2"}, {}, {"key": "L1", "scope": "s"})
    ]
    assert {one.state for one in others} == {State.RUNNING}
    await store.settle(dead(both[0].seq, hold_lane=True))
    assert (await store.accept(new(started=True, key="L1"))).state is State.HELD


@on_store
async def test_a_refused_message_is_stored_dead_with_its_error(box: Any) -> None:
    error = ErrorRecord("invalid", "2 violations", "source", "/a", "look", (Violation("/a", "x"),), "master-data")
    accepted = await box.store.accept(new(state=State.DEAD, error=error))
    stored = box.store.get(accepted.id)
    assert (stored.state, stored.error, stored.finished_at) == (State.DEAD, error, NOW)
    assert seqs(box.store.find(Filter(group="master-data"))) == [accepted.seq]


@pytest.mark.parametrize("state", [State.RUNNING, State.WAITING, State.DONE, State.EXPIRED])
def test_no_message_is_born_in_another_state(box: Any, state: State) -> None:
    @on_store
    async def check(box: Any) -> None:
        with pytest.raises(StoreError, match="cannot be born"):
            await box.store.accept(new(state=state))

    check(box)


@on_store
async def test_a_message_that_cannot_be_stored_harms_no_other(box: Any) -> None:
    twin = new_id()
    answers = await asyncio.gather(
        box.store.accept(new()),
        box.store.accept(new(id=twin)),
        box.store.accept(new("brand-new-route", id=twin)),
        box.store.accept(new("brand-new-route")),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [Accepted, Accepted, StoreError, Accepted]
    assert answers[3].seq == answers[1].seq + 1
    assert states(box.store) == {"queued": 2}
    assert states(box.store, "brand-new-route") == {"queued": 1}
    with pytest.raises(ValueError, match="no message id"):
        await box.store.accept(new(id="m-1"))


# -- keys ----------------------------------------------------------------------------------------------------------------
@on_store
async def test_a_known_source_key_gives_the_first_message_and_stores_nothing(box: Any) -> None:
    first = await box.store.accept(new(source_key=key("f.csv", space="source", fingerprint="a")))
    await box.store.start(first.seq, 1, NOW)
    await box.store.settle(done(first.seq))
    again = await box.store.accept(new(source_key=key("f.csv", space="source", fingerprint="a")))
    assert (again.known, again.id, again.seq, again.state) == (True, first.id, first.seq, State.DONE)
    assert (again.first_id, again.conflict) == (first.id, False)
    assert states(box.store) == {"done": 1}


@on_store
async def test_a_source_key_with_other_content_is_a_conflict(box: Any) -> None:
    first = await box.store.accept(new(source_key=key("k", fingerprint="a")))
    again = await box.store.accept(new(source_key=key("k", fingerprint="b")))
    assert (again.conflict, again.known, again.first_id) == (True, True, first.id)


@on_store
async def test_where_a_source_key_may_be_reused_other_content_is_another_message_in_its_place(box: Any) -> None:
    names = ["a", "b", "a", "b", "c"]
    told = await asyncio.gather(
        *[box.store.accept(new(source_key=structs.replace(key("k", fingerprint=name), apart=True))) for name in names]
    )
    first, second, again, second_again, third = told
    assert (first.known, second.known, second.conflict, third.known) == (False, False, False, False)
    assert (first.first_id, second.first_id, third.first_id) == (None, first.id, first.id)
    assert first.seq < second.seq < third.seq
    assert [(one.known, one.id, one.conflict) for one in (again, second_again)] == [
        (True, first.id, False),
        (True, second.id, False),
    ]
    assert states(box.store) == {"queued": 3}


@on_store
async def test_two_at_once_with_one_key_are_one_effect(box: Any) -> None:
    answers = await asyncio.gather(*[box.store.accept(new(dedupe=key("i-1"))) for _ in range(5)])
    assert [answer.state for answer in answers] == [State.QUEUED] + [State.DUPLICATE] * 4
    assert {answer.first_id for answer in answers[1:]} == {answers[0].id}
    stored = box.store.get(answers[3].id)
    assert (stored.state, stored.envelope.duplicate_of) == (State.DUPLICATE, answers[0].id)


@on_store
async def test_an_expired_key_is_free_again(box: Any) -> None:
    later = NOW + timedelta(days=7)
    await box.store.accept(new(dedupe=key("a"), source_key=key("s", space="source")))
    before = await box.store.accept(new(dedupe=key("a"), accepted_at=later - timedelta(microseconds=1)))
    after = await box.store.accept(new(dedupe=key("a"), source_key=key("s", space="source"), accepted_at=later))
    assert (before.state, after.state, after.known) == (State.DUPLICATE, State.QUEUED, False)


@on_store
async def test_keys_of_routes_and_spaces_are_apart(box: Any) -> None:
    answers = await asyncio.gather(
        box.store.accept(new("a", dedupe=key("1"))),
        box.store.accept(new("b", dedupe=key("1"))),
        box.store.accept(new("a", dedupe=key("1", space="dedupe:split"))),
    )
    assert {answer.state for answer in answers} == {State.QUEUED}


@on_store
async def test_a_refused_message_does_not_take_the_key_of_its_corrected_repeat(box: Any) -> None:
    await box.store.accept(new(state=State.DEAD, dedupe=key("i-1"), error=BROKEN))
    corrected = await box.store.accept(new(dedupe=key("i-1")))
    assert corrected.state is State.QUEUED


@on_store
async def test_a_claim_belongs_to_its_message_until_it_expires(box: Any) -> None:
    soon = NOW + timedelta(hours=1)
    one, again, other = await asyncio.gather(*[box.store.claim("step", "k", n, soon, NOW) for n in (1, 1, 2)])
    assert (one, again, other) == (True, True, False)
    assert await box.store.claim("step", "k", 2, soon + timedelta(hours=1), soon)
    assert not await box.store.claim("step", "k", 1, soon, NOW)


# -- attempts ------------------------------------------------------------------------------------------------------------
@on_store
async def test_start_takes_queued_and_waiting_messages_only(box: Any) -> None:
    queued, held = await box.store.accept(new()), await box.store.accept(new(state=State.HELD, key="k"))
    assert await box.store.start(queued.seq, 1, NOW)
    assert not await box.store.start(queued.seq, 2, NOW)
    assert not await box.store.start(held.seq, 1, NOW)
    assert not await box.store.start(999, 1, NOW)
    assert states(box.store) == {"running": 1, "held": 1}


@on_store
async def test_a_start_that_comes_too_late_is_refused_and_the_others_of_its_turn_are_not(box: Any) -> None:
    head, held, discarded, good = [await box.store.accept(new(key=key)) for key in ("k", "k", "d", "g")]
    await box.store.start(head.seq, 1, NOW)
    dead = Settlement(head.seq, State.DEAD, 1, NOW, error=BROKEN, hold_lane=True)
    await asyncio.gather(box.store.settle(dead), box.store.discard(discarded.seq, WHO, NOW))
    late = [held, discarded, good]
    assert await asyncio.gather(*[box.store.start(one.seq, 1, NOW) for one in late]) == [False, False, True]
    assert states(box.store) == {"dead": 1, "held": 1, "discarded": 1, "running": 1}
    assert await box.store.settle(done(good.seq)) == ()
    assert box.store.verify_conservation() == []


@on_store
async def test_a_message_that_was_held_is_not_done_by_one_who_took_it_for_queued(box: Any) -> None:
    head, held = [await box.store.accept(new(key="k")) for _ in range(2)]
    await box.store.start(head.seq, 1, NOW)
    await box.store.settle(Settlement(head.seq, State.DEAD, 1, NOW, error=BROKEN, hold_lane=True))
    with pytest.raises(StoreError, match="held"):
        await box.store.settle(done(held.seq))
    assert states(box.store) == {"dead": 1, "held": 1}
    assert box.store.verify_conservation() == []


@on_store
async def test_a_start_settled_in_the_same_turn_answers_like_any_other(box: Any) -> None:
    a, b = await box.store.accept(new()), await started(box.store)
    first, refused, *_ = await asyncio.gather(
        box.store.start(a.seq, 1, NOW),
        box.store.start(b.seq, 2, NOW),
        box.store.settle(done(a.seq)),
        box.store.settle(done(b.seq)),
    )
    assert (first, refused) == (True, False)
    assert states(box.store) == {"done": 2}


@on_store
async def test_a_retry_waits_in_the_store_with_its_time_and_error(box: Any) -> None:
    accepted = await started(box.store)
    due = NOW + timedelta(minutes=5)
    await box.store.settle(Settlement(accepted.seq, State.WAITING, 1, NOW, due=due, error=BROKEN))
    (row,) = box.store.pending("qms-to-erp")
    assert (row.state, row.due, row.attempts) == (State.WAITING, due, 1)
    assert box.store.get(accepted.id).error == BROKEN
    assert box.store.find(Filter(states=(State.WAITING,)))[0].error == BROKEN
    assert await box.store.start(accepted.seq, 2, due)
    assert box.store.pending()[0].due is None


@on_store
async def test_the_trace_of_every_attempt_is_kept(box: Any) -> None:
    accepted = await started(box.store)
    for n in (1, 2):
        waiting = Settlement(
            accepted.seq, State.WAITING, n, NOW, due=NOW, error=BROKEN, trace=[{"step": "a"}, {"step": "b", "n": n}]
        )
        await box.store.settle(waiting)
        await box.store.start(accepted.seq, n + 1, NOW)
    await box.store.settle(done(accepted.seq, attempts=3, trace=[{"step": "a", "at": Decimal("0.5"), "x": object}]))
    stored = box.store.get(accepted.id)
    assert [(entry["attempt"], entry["step"]) for entry in stored.trace] == [
        (1, "a"),
        (1, "b"),
        (2, "a"),
        (2, "b"),
        (3, "a"),
    ]
    assert [entry.get("state") for entry in stored.trace] == [None, "waiting", None, "waiting", "done"]
    assert (stored.attempts, stored.state, stored.reason) == (3, State.DONE, "")
    assert box.store.get(accepted.id, trace=False).trace == ()


@on_store
async def test_confirmed_deliveries_are_found_after_a_retry(box: Any) -> None:
    accepted = await started(box.store)
    reply = {"status": 201, "headers": {"etag": "1"}, "body": {"qty": Decimal("1.50"), "raw": b"\xff"}}
    await box.store.confirm(accepted.seq, Confirmed("to:erp", reply))
    await box.store.settle(dead(accepted.seq, ledger=[Confirmed("to:mes", None), Confirmed("to:erp", reply)]))
    await box.store.retry(accepted.seq, WHO, NOW)
    _, ledger = box.store.payload(accepted.seq)
    assert ledger == {"to:erp": reply, "to:mes": None}


@on_store
async def test_a_filtered_message_says_why(box: Any) -> None:
    accepted = await started(box.store)
    await box.store.settle(done(accepted.seq, reason="filtered: not our plant"))
    assert box.store.get(accepted.id).reason == "filtered: not our plant"


@on_store
async def test_children_are_born_in_the_commit_that_ends_their_parent(box: Any) -> None:
    parent = await started(box.store)
    children = [
        new(parent_id=parent.id, scope="fanout/mes", key="k"),
        new(parent_id=parent.id, scope="fanout/qms", dedupe=key("x")),
        new("other-route", parent_id=parent.id, dedupe=key("x")),
        new(parent_id=parent.id, scope="fanout/qms", dedupe=key("x")),
        new(parent_id=parent.id, state=State.HELD, key="held"),
    ]
    born = await box.store.settle(done(parent.seq, children=children))
    assert [one.state for one in born] == [
        State.QUEUED,
        State.QUEUED,
        State.QUEUED,
        State.DUPLICATE,
        State.HELD,
    ]
    assert seqs(box.store.children([parent.id])) == [one.seq for one in born]
    assert box.store.payload(born[0].seq)[0].scope == "fanout/mes"


@on_store
async def test_a_message_that_a_person_ended_meanwhile_is_left_alone(box: Any) -> None:
    accepted = await box.store.accept(new())
    assert await box.store.discard(accepted.seq, WHO, NOW)
    assert await box.store.settle(done(accepted.seq, children=[new()])) == ()
    assert states(box.store) == {"discarded": 1}


@pytest.mark.parametrize("after", [*State])
@pytest.mark.parametrize("before", [State.QUEUED, State.RUNNING, State.WAITING, State.HELD])
def test_settlements_make_legal_moves_only(box: Any, before: State, after: State) -> None:
    """The table of moves, where a start that was not stored yet is implied."""
    reachable = set(MOVES[before]) | (set(MOVES[State.RUNNING]) if State.RUNNING in MOVES[before] else set())
    legal = after in reachable - {State.RUNNING, State.HELD, State.DISCARDED}

    @on_store
    async def check(box: Any) -> None:
        accepted = await _in_state(box.store, before)
        try:
            await box.store.settle(Settlement(accepted.seq, after, 1, NOW, due=NOW))
        except StoreError:
            assert not legal
            assert state_of(box.store, accepted) is before
        else:
            assert legal
            assert state_of(box.store, accepted) is after

    check(box)


async def _in_state(store: Any, state: State) -> Accepted:
    if state in (State.QUEUED, State.HELD):
        accepted: Accepted = await store.accept(new(state=state, key="k"))
        return accepted
    accepted = await started(store, key="k")
    if state is State.WAITING:
        await store.settle(Settlement(accepted.seq, State.WAITING, 1, NOW, due=NOW))
    return accepted


# -- lanes ---------------------------------------------------------------------------------------------------------------
@on_store
async def test_a_dead_head_holds_what_was_accepted_after_it(box: Any) -> None:
    store = box.store
    before = await store.accept(new(key="L1"))
    head = await started(store, key="L1")
    queued, waiting = await store.accept(new(key="L1")), await started(store, key="L1")
    await store.settle(Settlement(waiting.seq, State.WAITING, 1, NOW, due=NOW))
    others = [await store.accept(new(**parts)) for parts in ({"key": "L2"}, {}, {"key": "L1", "scope": "split"})]
    other_route = await store.accept(new("other", key="L1"))
    await store.settle(dead(head.seq, hold_lane=True))
    assert [state_of(store, one) for one in (before, queued, waiting)] == [State.QUEUED, State.HELD, State.HELD]
    assert {state_of(store, one) for one in [*others, other_route]} == {State.QUEUED}
    assert list(store.blocked_lanes()) == [("qms-to-erp", "", "L1")]


@on_store
async def test_a_dead_message_of_a_route_that_skips_holds_nothing(box: Any) -> None:
    await died(box.store, hold=False, key="L1")
    accepted = await box.store.accept(new(key="L1"))
    assert state_of(box.store, accepted) is State.QUEUED
    assert box.store.blocked_lanes() == {}


@on_store
async def test_held_messages_stay_while_an_older_dead_one_blocks(box: Any) -> None:
    store = box.store
    first = await died(store, key="L1")
    held = await store.accept(new(key="L1", state=State.HELD))
    assert await store.release_lane("qms-to-erp", "", "L1") == ()
    assert await store.discard(first.seq, WHO, NOW)
    assert await store.release_lane("qms-to-erp", "", "L1") == (held.seq,)
    assert await store.release_lane("qms-to-erp", "", "L1") == ()
    assert await store.release_lane("no-such-route", "", "L1") == ()
    assert state_of(store, held) is State.QUEUED


@on_store
async def test_a_lane_is_released_up_to_the_next_dead_message(box: Any) -> None:
    store = box.store
    first = await started(store, key="L1")
    between = await store.accept(new(key="L1"))
    second = await started(store, key="L1")
    for one in (first, second):
        await store.settle(dead(one.seq, hold_lane=True))
    behind = await store.accept(new(key="L1"))
    assert behind.state is State.HELD  # decided by the store, at the commit
    pending = await store.retry(first.seq, WHO, NOW)
    assert pending.state is State.QUEUED
    assert await store.release_lane("qms-to-erp", "", "L1") == (between.seq,)
    assert [state_of(store, one) for one in (second, behind)] == [State.DEAD, State.HELD]


@on_store
async def test_a_retried_message_is_held_behind_an_older_dead_one(box: Any) -> None:
    older, younger = await started(box.store, key="L1"), await started(box.store, key="L1")
    for one in (older, younger):
        await box.store.settle(dead(one.seq, hold_lane=True))
    pending = await box.store.retry(younger.seq, WHO, NOW)
    assert pending.state is State.HELD
    await box.store.retry(older.seq, WHO, NOW)
    assert await box.store.release_lane("qms-to-erp", "", "L1") == (younger.seq,)


@on_store
async def test_a_message_absorbs_queued_ones_at_once_or_not_at_all(box: Any) -> None:
    store = box.store
    head = await started(store, key="G")
    first, second = await store.accept(new(key="G")), await store.accept(new(key="G"))
    payload = NewPayload(b"[1,2]", "json", {"aggregate": {"count": 2}}, {"all": [1, Decimal("2.10")]})
    gone = await died(store)
    assert not await store.absorb(head.seq, head.id, [first.seq, gone.seq], payload, NOW)
    assert (state_of(store, first), store.payload(head.seq)[0].body) == (State.QUEUED, new().envelope.body)
    assert await store.absorb(head.seq, head.id, [first.seq, second.seq], payload, NOW)
    ended = store.get(second.id)
    assert (ended.state, ended.reason) == (State.DONE, f"aggregated into {head.id}")
    envelope, _ = store.payload(head.seq)
    assert (envelope.body, envelope.meta) == (b"[1,2]", {"aggregate": {"count": 2}})
    assert str(envelope.vars) == str({"all": [1, Decimal("2.10")]}), "with every digit"
    assert state_of(store, head) is State.RUNNING
    third = await store.accept(new(key="G"))
    assert await store.absorb(head.seq, head.id, [third.seq], structs.replace(payload, vars={}, meta={}), NOW)
    assert (store.payload(head.seq)[0].vars, store.payload(head.seq)[0].meta) == ({}, {})


@on_store
async def test_an_overtaking_message_supersedes_what_was_not_sent(box: Any) -> None:
    store = box.store
    dead_head = await started(store, key="L1")
    skipped = await died(store, key="L1", hold=False)
    held = await store.accept(new(key="L1"))
    running = await started(store, key="L1")
    await store.settle(dead(dead_head.seq, hold_lane=True))
    assert state_of(store, held) is State.HELD
    waiting = await started(store, key="L2")
    await store.settle(Settlement(waiting.seq, State.WAITING, 1, NOW, due=NOW))
    queued = await store.accept(new(key="L2"))
    assert (await store.accept(new(key="L2", supersede=True, overtakes=True))).superseded == (waiting.seq, queued.seq)
    other = await store.accept(new(key="L3"))
    hold = await store.accept(new(key="L1", supersede=True, overtakes=True))
    expected = (dead_head.seq, held.seq)
    assert hold.superseded == expected
    assert [state_of(store, one) for one in (running, other, skipped, hold)] == [
        State.RUNNING,
        State.QUEUED,
        State.DEAD,
        State.QUEUED,
    ]
    assert store.blocked_lanes() == {}
    assert store.get(held.id).reason == f"overtaken by {hold.id}"
    assert states(store)["superseded"] == 4


@on_store
async def test_who_dies_after_it_was_overtaken_blocks_nothing(box: Any) -> None:
    store = box.store
    running = await started(store, key="L1")
    hold, _, later = await asyncio.gather(
        store.accept(new(key="L1", supersede=True, overtakes=True)),
        store.settle(dead(running.seq, hold_lane=True)),
        store.accept(new(key="L1")),
    )
    assert [state_of(store, one) for one in (running, hold, later)] == [State.DEAD, State.QUEUED, State.QUEUED]
    assert store.blocked_lanes() == {}


@on_store
async def test_a_duplicate_overtakes_nobody(box: Any) -> None:
    await box.store.accept(new(key="L1", dedupe=key("h"), supersede=True))
    queued = await box.store.accept(new(key="L1"))
    again = await box.store.accept(new(key="L1", dedupe=key("h"), supersede=True))
    assert (again.state, again.superseded) == (State.DUPLICATE, ())
    assert state_of(box.store, queued) is State.QUEUED


# -- people --------------------------------------------------------------------------------------------------------------
@on_store
async def test_retry_keeps_the_message_and_starts_its_attempts_anew(box: Any) -> None:
    accepted = await started(box.store, key="L1")
    await box.store.settle(dead(accepted.seq, attempts=4, hold_lane=True))
    pending = await box.store.retry(accepted.seq, WHO, NOW)
    assert (pending.id, pending.seq, pending.state) == (accepted.id, accepted.seq, State.QUEUED)
    assert (pending.attempts, pending.earlier, pending.key, pending.version) == (0, 4, "L1", "v1")
    assert box.store.pending() == [pending]
    assert box.store.blocked_lanes() == {}
    assert box.store.get(accepted.id).attempts == 4
    await box.store.start(accepted.seq, 1, NOW)
    await box.store.settle(done(accepted.seq, trace=[{"step": "again"}]))
    stored = box.store.get(accepted.id)
    assert (stored.attempts, stored.error, [entry["attempt"] for entry in stored.trace]) == (5, None, [4, 5])


@on_store
async def test_only_a_dead_message_is_retried_and_once(box: Any) -> None:
    accepted = await died(box.store)
    answers = await asyncio.gather(*[box.store.retry(accepted.seq, WHO, NOW) for _ in range(3)])
    assert [answer is None for answer in answers] == [False, True, True]
    assert await box.store.retry(999, WHO, NOW) is None
    assert len(box.store.audit_entries()) == 1


@on_store
async def test_what_does_not_run_can_be_discarded(box: Any) -> None:
    store = box.store
    wanted = [
        await store.accept(new()),
        await store.accept(new(state=State.HELD, key="k")),
        await _in_state(store, State.WAITING),
        await died(store, key="z"),
    ]
    running = await started(store)
    finished = await started(store)
    await store.settle(done(finished.seq))
    answers = [await store.discard(one.seq, WHO, NOW) for one in [*wanted, running, finished, wanted[0]]]
    assert answers == [True] * 4 + [False] * 3
    assert states(store) == {"discarded": 4, "running": 1, "done": 1}
    assert store.get(wanted[3].id).reason == WHO.reason
    assert store.get(wanted[3].id).error == BROKEN
    assert len(store.audit_entries()) == 4
    assert store.blocked_lanes() == {}


@on_store
async def test_an_edited_message_shows_every_payload_that_it_had(box: Any) -> None:
    accepted = await died(box.store)
    assert await box.store.edit(accepted.seq, b'{"lot":"0013"}', WHO, NOW)
    assert await box.store.edit(accepted.seq, b"\xff", WHO, NOW)
    assert await box.store.edit(accepted.seq, b"3", WHO, NOW)
    stored = box.store.get(accepted.id)
    assert (stored.envelope.body, stored.state) == (b"3", State.DEAD)
    assert stored.trace[0]["edit"] == "original"
    assert stored.trace[0]["body"] == '{"lot":"0012"}'
    assert [e.get("body") or e.get("body_base64") for e in stored.trace if e.get("edit") == "replaced"] == [
        '{"lot":"0013"}',
        "/w==",
    ]
    assert {"old", "new", "message"} <= set(box.store.audit_entries()[0]["detail"])
    await box.store.retry(accepted.seq, WHO, NOW)
    assert box.store.payload(accepted.seq)[0].body == b"3"


@on_store
async def test_an_edit_that_was_made_from_another_payload_does_nothing(box: Any) -> None:
    accepted = await died(box.store)
    first = hashlib.sha256(b'{"lot":"0012"}').hexdigest()
    assert await box.store.edit(accepted.seq, b'{"lot":"0013"}', WHO, NOW, first)
    assert not await box.store.edit(accepted.seq, b'{"lot":"0014"}', WHO, NOW, first)
    assert box.store.payload(accepted.seq)[0].body == b'{"lot":"0013"}'
    assert [entry["action"] for entry in box.store.audit_entries()] == [WHO.action]


@on_store
async def test_only_a_dead_message_is_edited(box: Any) -> None:
    accepted = await box.store.accept(new())
    assert not await box.store.edit(accepted.seq, b"x", WHO, NOW)
    assert box.store.audit_entries() == []


@on_store
async def test_the_audit_says_who_did_what_when_and_why(box: Any) -> None:
    entry = AuditEntry("mia", "route.pause", "qms-to-erp", "maintenance", {"until": "10:00", "ä": [1]})
    for _ in range(3):
        await box.store.audit(entry, NOW)
    first, *rest = box.store.audit_entries()
    assert {name: first[name] for name in ("seq", "actor", "action", "object", "reason", "detail")} == {
        "seq": 1,
        "actor": "mia",
        "action": "route.pause",
        "object": "qms-to-erp",
        "reason": "maintenance",
        "detail": {"until": "10:00", "ä": [1]},
    }
    assert first["at"] == NOW.isoformat()
    assert [e["seq"] for e in rest] == [2, 3]
    assert rest[0]["prev_hash"] == first["hash"]
    assert [e["seq"] for e in box.store.audit_entries(limit=1, after=1)] == [2]
    assert box.store.audit_head() == (3, rest[1]["hash"])


@on_store
async def test_the_audit_of_some_messages_is_found_among_all(box: Any) -> None:
    for id_ in ("a", "b", "a", "c"):
        await box.store.audit(AuditEntry("mia", "dlq.retry", id_, f"for {id_}"), NOW)
    assert [(e["object"], e["seq"], e["reason"]) for e in box.store.audit_of(["a", "c", "nobody"])] == [
        ("a", 1, "for a"),
        ("a", 3, "for a"),
        ("c", 4, "for c"),
    ]
    assert box.store.audit_of([]) == []


# -- small memories ------------------------------------------------------------------------------------------------------
@on_store
async def test_a_source_remembers_and_forgets(box: Any) -> None:
    value = {"last": "2026-01-05", "seen": ["a", Decimal("1.0")], "raw": b"\x00"}
    await box.store.put_state("source:x", "slot", value)
    assert box.store.get_state("source:x", "slot") == value
    assert box.store.get_state("source:y", "slot") is None
    await box.store.put_state("source:x", "slot", 7)
    assert box.store.get_state("source:x", "slot") == 7
    await box.store.put_state("source:x", "slot", None)
    assert box.store.get_state("source:x", "slot") is None


@on_store
async def test_a_version_is_kept_as_it_was_first(box: Any) -> None:
    await box.store.save_version("r", "v1", {"routes/r.yaml": "route: r\n"}, NOW)
    await box.store.save_version("r", "v1", {"routes/r.yaml": "other"}, NOW)
    assert box.store.version("r", "v1") == {"routes/r.yaml": "route: r\n"}
    assert box.store.version("r", "v2") is None


# -- queries -------------------------------------------------------------------------------------------------------------
@on_store
async def test_messages_are_found_by_what_people_know_of_them(box: Any) -> None:
    store = box.store
    day = timedelta(days=1)
    a = await store.accept(new("a", key="L1", track={"lot": "0012", "plant": "P10"}, correlation_id="c-1"))
    b = await store.accept(new("b", key="L1", track={"lot": "0012", "plant": "P20"}, accepted_at=NOW + day))
    c = await store.accept(new("a", key="0012", correlation_id=b.id, accepted_at=NOW + 2 * day))
    await store.start(c.seq, 1, NOW)
    await store.settle(done(c.seq))
    found = {
        "all": (Filter(), [c, b, a]),
        "oldest": (Filter(oldest_first=True), [a, b, c]),
        "ids": (Filter(ids=(a.id, c.id.upper(), "nonsense"), route="b"), [c, a]),
        "no ids": (Filter(ids=("nonsense",)), []),
        "route": (Filter(route="a"), [c, a]),
        "no route": (Filter(route="z"), []),
        "key": (Filter(key="L1"), [b, a]),
        "key and route": (Filter(key="L1", route="a"), [a]),
        "track": (Filter(track=(("lot", "0012"),)), [b, a]),
        "track pairs": (Filter(track=(("lot", "0012"), ("plant", "P20"))), [b]),
        "track name": (Filter(track=(("plant", "0012"),)), []),
        "correlation": (Filter(correlations=("c-1",)), [a]),
        "own correlation": (Filter(correlations=(b.id,)), [c, b]),
        "correlations": (Filter(correlations=("c-1", b.id, "c-2")), [c, b, a]),
        "text of key and track": (Filter(text="0012"), [c, b, a]),
        "text of id": (Filter(text=b.id), [c, b]),
        "text in part": (Filter(text="001"), []),
        "since": (Filter(since=NOW + day), [c, b]),
        "until": (Filter(until=NOW + day), [a]),
        "span of a route": (Filter(route="a", since=NOW + day, until=NOW + 3 * day), [c]),
        "open": (Filter(states=(State.QUEUED, State.WAITING)), [b, a]),
        "ended": (Filter(states=(State.DONE, State.DEAD)), [c]),
        "both": (Filter(states=(State.DONE, State.QUEUED)), [c, b, a]),
        "page": (Filter(before_seq=c.seq, limit=1), [b]),
        "nothing": (Filter(limit=0), []),
    }
    for name, (filter_, expected) in found.items():
        assert seqs(store.find(filter_)) == [one.seq for one in expected], name


@on_store
async def test_a_found_message_has_its_fate_but_neither_body_nor_trace(box: Any) -> None:
    accepted = await died(box.store, key="L1")
    (stored,) = box.store.find(Filter(states=(State.DEAD,)))
    assert (stored.envelope.body, stored.trace) == (b"", ())
    assert (stored.state, stored.attempts, stored.error, stored.finished_at) == (State.DEAD, 1, BROKEN, NOW)
    item = stored.as_item()
    assert (item["id"], item["key"], item["error"]["class"]) == (accepted.id, "L1", "rejected")


@on_store
async def test_an_unknown_id_finds_nothing(box: Any) -> None:
    assert box.store.get("nonsense") is None
    assert box.store.get(new_id()) is None
    assert box.store.children(["nonsense"]) == []
    with pytest.raises(StoreError, match="no message"):
        box.store.payload(17)


@on_store
async def test_open_messages_are_read_in_order_and_in_pages(box: Any) -> None:
    store = box.store
    rows = [await store.accept(new(route, key="k")) for route in ("a", "b", "a", "a")]
    assert [row.seq for row in store.pending("a")] == [rows[0].seq, rows[2].seq, rows[3].seq]
    assert [row.seq for row in store.pending("a", after_seq=rows[0].seq, limit=1)] == [rows[2].seq]
    assert [row.route for row in store.pending()] == ["a", "b", "a", "a"]
    assert store.pending("z") == []


@on_store
async def test_counts_are_those_of_promise_two(box: Any) -> None:
    later = NOW + timedelta(hours=1)
    await box.store.accept(new(accepted_at=later, dedupe=key("d")))
    await box.store.accept(new(dedupe=key("d")))
    await died(box.store)
    (counts,) = box.store.counts()
    assert (counts.route, counts.accepted, counts.purged) == ("qms-to-erp", 3, 0)
    assert set(counts.states) == {state.value for state in State}
    assert sum(counts.states.values()) == 3
    assert counts.oldest_open == later


@on_store
async def test_dead_letters_that_look_alike_are_one_group(box: Any) -> None:
    store = box.store
    for n in (1, 22):
        message = f"lot {n} of {new_id()} is locked"
        await died(store, hold=False, error=replace(BROKEN, message=message))
        await box.store.audit(WHO, NOW)
    other = await died(store, hold=False, error=replace(BROKEN, step="to:mes"))
    elsewhere = await died(store, hold=False, route="z")
    groups = store.groups(Filter())
    assert [group.count for group in groups] == [2, 1, 1]
    assert (groups[0].message, groups[0].step) == ("lot # of # is locked", "to:erp.usage-decision")
    assert (groups[0].route, groups[0].error_class, groups[0].oldest) == ("qms-to-erp", "rejected", NOW)
    assert len(store.find(Filter(group=groups[0].id))) == 2
    assert {group.count for group in store.groups(Filter(route="z"))} == {1}
    assert store.groups(Filter(ids=(other.id,)))[0].step == "to:mes"
    await store.discard(elsewhere.seq, WHO, NOW)
    assert store.groups(Filter(route="z")) == []


@on_store
async def test_a_later_delivery_of_the_lane_makes_a_dead_message_stale(box: Any) -> None:
    store = box.store
    old = await died(store, key="L1", hold=False)
    for parts in ({"key": "L2"}, {"key": "L1", "scope": "x"}, {"key": "L1", "route": "z"}):
        await store.settle(done((await started(store, **parts)).seq))
    await store.settle(done((await started(store, key="L1")).seq, reason="filtered"))
    assert store.newer_done(store.get(old.id)) is None
    newer = await started(store, key="L1")
    await store.settle(done(newer.seq))
    assert store.newer_done(store.get(old.id)) == newer.id
    assert store.newer_done(store.get(newer.id)) is None
    assert store.newer_done(store.get((await died(store)).id)) is None


# -- retention -----------------------------------------------------------------------------------------------------------
@on_store
async def test_old_ended_messages_are_purged_in_pieces_and_counted(box: Any) -> None:
    store, late = box.store, NOW + timedelta(days=40)
    old = [await started(store, key=f"k{n}", track={"lot": "1"}) for n in range(5)]
    for one in old:
        await store.settle(done(one.seq, trace=[{"step": "a"}], ledger=[Confirmed("s", 1)]))
    letter = await died(store, key="dead")
    waiting = await store.accept(new())
    fresh = await started(store, accepted_at=late)
    await store.settle(done(fresh.seq, at=late))
    border = NOW + timedelta(days=30)
    assert [await store.purge(border, [State.DONE], 3) for _ in range(3)] == [3, 2, 0]
    (counts,) = store.counts()
    assert (counts.accepted, counts.purged, counts.states["done"]) == (8, 5, 1)
    assert seqs(store.find(Filter())) == [fresh.seq, waiting.seq, letter.seq]
    assert store.find(Filter(track=(("lot", "1"),))) == []
    assert await store.purge(border, [State.DEAD]) == 1
    assert store.blocked_lanes() == {}


@on_store
async def test_a_number_is_never_given_twice(box: Any) -> None:
    accepted = await started(box.store)
    await box.store.settle(done(accepted.seq))
    assert await box.store.purge(NOW + timedelta(days=1), [State.DONE]) == 1
    await box.store.close()
    await box.open()
    assert (await box.store.accept(new())).seq > accepted.seq


@pytest.mark.parametrize("state", sorted(OPEN_STATES))
def test_open_messages_are_never_purged(box: Any, state: State) -> None:
    @on_store
    async def check(box: Any) -> None:
        with pytest.raises(StoreError, match="cannot be purged"):
            await box.store.purge(NOW, [state])

    check(box)


@on_store
async def test_expired_keys_are_forgotten_in_a_circle(box: Any) -> None:
    store = box.store
    await asyncio.gather(*[store.accept(new(dedupe=key(f"k{n}", days=1 if n % 2 else 9))) for n in range(10)])
    later = NOW + timedelta(days=2)
    assert sum([await store.purge_expired(later, 3) for _ in range(4)]) == 5
    assert sum([await store.purge_expired(later, 3) for _ in range(3)]) == 0
    assert (await store.accept(new(dedupe=key("k2"), accepted_at=later))).state is State.DUPLICATE


@on_store
async def test_the_key_of_a_purged_message_still_names_it(box: Any) -> None:
    first = await started(box.store, source_key=key("f", space="source"), dedupe=key("d"))
    await box.store.settle(done(first.seq))
    await box.store.purge(NOW + timedelta(days=1), [State.DONE])
    again = await box.store.accept(new(source_key=key("f", space="source")))
    assert (again.known, again.first_id, again.state) == (True, first.id, State.DONE)
    assert (await box.store.accept(new(dedupe=key("d")))).first_id == first.id


@pytest.mark.parametrize("purged", [False, True])
def test_what_a_discarded_message_claimed_is_free_again(box: Any, purged: bool) -> None:
    @on_store
    async def story(box: Any) -> None:
        store, soon = box.store, NOW + timedelta(days=7)
        first, second = await started(store), await started(store)
        assert await store.claim("step", "k", first.seq, soon, NOW)
        await store.settle(dead(first.seq))
        assert not await store.claim("step", "k", second.seq, soon, NOW)
        assert await store.discard(first.seq, WHO, NOW)
        if purged:
            assert await store.purge(NOW + timedelta(days=1), [State.DISCARDED]) == 1
        assert await store.claim("step", "k", second.seq, soon, NOW)
        assert not await store.claim("step", "k", (await started(store)).seq, soon, NOW)

    story(box)


# -- worked off before it is stored --------------------------------------------------------------------------------------
def ended(**parts: Any) -> NewMessage:
    """A message that comes with its end, and with a child that has one, too."""
    child = new("sap-to-mes", ending=done(0, trace=[{"step": "map"}]))
    return new(ending=done(0, trace=[{"step": "validate"}], reason="filtered: x", children=[child]), **parts)


@on_store
async def test_a_message_that_comes_with_its_end_is_stored_once_with_what_is_born_of_it(box: Any) -> None:
    accepted = await box.store.accept(ended())
    (child,) = accepted.children
    assert (accepted.state, child.state) == (State.DONE, State.DONE)
    assert child.seq == accepted.seq + 1
    assert box.store.pending() == []
    stored = box.store.get(accepted.id)
    assert (stored.state, stored.attempts, stored.reason, stored.finished_at) == (State.DONE, 1, "filtered: x", NOW)
    assert [entry["step"] for entry in stored.trace] == ["validate"]
    assert [entry["step"] for entry in box.store.get(child.id).trace] == ["map"]
    box.kill()
    assert (await box.open()).get(child.id).state is State.DONE


@on_store
async def test_a_repeat_brings_no_end_with_it(box: Any) -> None:
    first = await box.store.accept(ended(dedupe=key("d"), source_key=key("s", space="source")))
    again = await box.store.accept(ended(dedupe=key("d")))
    assert (again.state, again.first_id, again.children) == (State.DUPLICATE, first.id, ())
    known = await box.store.accept(ended(source_key=key("s", space="source")))
    assert (known.known, known.first_id, known.state, known.children) == (True, first.id, State.DONE, ())
    assert len(box.store.find(Filter())) == 3


@on_store
async def test_a_message_behind_another_one_of_its_lane_is_stored_as_it_came(box: Any) -> None:
    first, behind, other, free = await asyncio.gather(
        box.store.accept(new(key="a")),
        box.store.accept(ended(key="a")),  # the first is in the same commit
        box.store.accept(ended(key="b")),
        box.store.accept(ended()),
    )
    assert [one.state for one in (behind, other, free)] == [State.QUEUED, State.DONE, State.DONE]
    assert (await box.store.accept(ended(key="a"))).state is State.QUEUED
    for seq in (first.seq, behind.seq, behind.seq + 5):
        await box.store.settle(done(seq))
    assert (await box.store.accept(ended(key="a"))).state is State.DONE


@on_store
async def test_a_message_behind_a_dead_one_that_blocks_is_held_whatever_end_it_brings(box: Any) -> None:
    await died(box.store, key="a")
    held = await box.store.accept(ended(key="a"))
    assert (held.state, held.children) == (State.HELD, ())


@on_store
async def test_an_end_whose_child_cannot_be_stored_is_left_out(box: Any) -> None:
    child = new("sap-to-mes", headers={"x": object()})
    accepted = await box.store.accept(new(ending=done(0, children=[child])))
    assert accepted.state is State.QUEUED


@on_store
async def test_nothing_is_worked_ahead_after_a_death_over_steps_until_an_end_in_peace(box: Any) -> None:
    assert box.store.works_ahead
    box.kill()
    store = await box.open()
    assert store.works_ahead  # no steps were at work
    for suspect in (AHEAD, (await store.accept(new())).seq):
        box.store.at_work(suspect)
        box.kill()
        assert not (await box.open()).works_ahead
    assert [row.crashes for row in box.store.pending()] == [1]
    await box.store.close()
    assert (await box.open()).works_ahead


# -- restart -------------------------------------------------------------------------------------------------------------
@on_store
async def test_what_ran_when_the_process_died_is_queued_and_counts_a_crash_where_its_steps_were_at_work(
    box: Any,
) -> None:
    running, waiting = await started(box.store, key="a"), await _in_state(box.store, State.WAITING)
    box.kill()
    store = await box.open()  # it waited for an answer: no suspect
    assert [(row.seq, row.state, row.crashes) for row in store.recovered] == [(running.seq, State.QUEUED, 0)]
    assert await store.start(running.seq, 1, NOW)
    for crashes in (1, 2):
        store.at_work(running.seq)
        box.kill()
        store = await box.open()
        assert not store.clean_start
        assert [(row.seq, row.state, row.crashes) for row in store.recovered] == [(running.seq, State.QUEUED, crashes)]
        assert store.recovered[0].attempts == crashes
        assert await store.start(running.seq, crashes + 1, NOW)
    assert state_of(box.store, waiting) is State.WAITING
    await box.store.settle(Settlement(running.seq, State.WAITING, 3, NOW, due=NOW))
    assert {row.crashes for row in box.store.pending()} == {0}


@on_store
async def test_a_message_whose_steps_killed_the_process_before_its_start_was_stored_counts_a_crash(box: Any) -> None:
    queued = await box.store.accept(new())
    box.store.at_work(queued.seq)
    box.kill()
    assert [(row.state, row.crashes) for row in (await box.open()).pending()] == [(State.QUEUED, 1)]


@on_store
async def test_a_peaceful_end_counts_no_crash(box: Any) -> None:
    accepted = await started(box.store)
    box.store.at_work(accepted.seq)
    await box.store.close()
    store = await box.open()
    assert store.clean_start
    assert [(row.seq, row.state, row.crashes) for row in store.recovered] == [(accepted.seq, State.QUEUED, 0)]


@on_store
async def test_everything_is_there_after_a_restart(box: Any) -> None:
    head = await died(box.store, key="L1")
    held = await box.store.accept(new(key="L1", state=State.HELD))
    first = await box.store.accept(new(dedupe=key("d"), source_key=key("s", space="source")))
    await box.store.put_state("x", "y", 1)
    box.kill()
    store = await box.open()
    assert list(store.blocked_lanes()) == [("qms-to-erp", "", "L1")]
    assert [state_of(store, one) for one in (head, held)] == [State.DEAD, State.HELD]
    assert (await store.accept(new(dedupe=key("d")))).first_id == first.id
    assert (await store.accept(new(source_key=key("s", space="source")))).known
    assert store.get_state("x", "y") == 1
    assert store.payload(first.seq)[0].id == first.id


@on_store
async def test_a_lane_whose_release_was_cut_off_is_released(box: Any) -> None:
    head = await died(box.store, key="L1")
    held = await box.store.accept(new(key="L1", state=State.HELD))
    await box.store.discard(head.seq, WHO, NOW)
    box.kill()
    await box.open()
    assert state_of(box.store, held) is State.QUEUED


@on_store
async def test_a_closed_store_takes_nothing(box: Any) -> None:
    store = box.store
    last = store.accept(new())
    await store.close()
    assert (await last).seq == 1
    with pytest.raises(StoreError, match="closed"):
        await store.accept(new())
    await store.close()
    await box.open()
    assert states(box.store) == {"queued": 1}


@on_store
async def test_commands_of_one_commit_see_what_those_before_them_left(box: Any) -> None:
    store = box.store
    first, second = await started(store), await started(store)
    ends = await asyncio.gather(*[store.settle(done(one.seq)) for one in (first, first, second)])
    assert ends == [(), (), ()]
    assert states(store) == {"done": 2}
    waiting, hold = await asyncio.gather(
        store.accept(new(key="L1")), store.accept(new(key="L1", overtakes=True, supersede=True))
    )
    assert hold.superseded == (waiting.seq,)
    assert state_of(store, waiting) is State.SUPERSEDED
    head = await started(store, key="L2")
    before, _, after = await asyncio.gather(
        store.accept(new(key="L2")), store.settle(dead(head.seq, hold_lane=True)), store.accept(new(key="L2"))
    )
    assert (state_of(store, before), after.state) == (State.HELD, State.HELD)
    once, again = await asyncio.gather(
        *[store.accept(new(source_key=key("client:1", space="source"))) for _ in range(2)]
    )
    assert (again.known, again.seq, again.state) == (True, once.seq, State.QUEUED)
    kept = await started(store)
    _, unknown = await asyncio.gather(
        store.confirm(kept.seq, Confirmed("to:erp", {"status": 200})), store.settle(done(10_000))
    )
    assert unknown == ()
    assert store.payload(kept.seq)[1] == {"to:erp": {"status": 200}}
