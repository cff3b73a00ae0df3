"""Groups of commands on PostgreSQL: few ways to the server, what was read ahead of them, and faults that hit one or all."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from esb.errors import StoreBusy, StoreError
from esb.message import State
from esb.store import pgwire
from esb.store.base import Accepted, AuditEntry, Confirmed
from tests.contracts.test_postgres_store import Owner, accepted, owner
from tests.contracts.test_store import NOW, dead, done, key, new, started
from tests.servers.postgres import Postgres

__all__ = ["owner"]  # the fixture


def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is sent to the server from now on."""
    asked: list[str] = []
    for name in ("execute", "executemany"):
        real = getattr(pgwire.psycopg.Cursor, name)

        def counting(self: Any, query: Any, *rest: Any, real: Any = real, **more: Any) -> Any:
            asked.append(query.decode() if isinstance(query, bytes) else query)
            return real(self, query, *rest, **more)

        monkeypatch.setattr(pgwire.psycopg.Cursor, name, counting)
    return asked


def test_the_ways_to_the_server_do_not_grow_with_the_messages_of_a_group(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = statements(monkeypatch)

    async def main() -> None:
        store = await owner.open()
        ways = []
        for round_, size in enumerate((1, 2, 100)):
            parts = [{"key": f"k{n}", "track": {"lot": f"{n}"}, "dedupe": key(f"{round_}-{n}")} for n in range(size)]
            asked.clear()
            born = await asyncio.gather(*[store.accept(new(**one)) for one in parts])
            await asyncio.gather(
                *[store.start(one.seq, 1, NOW) for one in born], *[store.settle(done(one.seq)) for one in born]
            )
            ways.append(len(asked))
        assert ways[2] <= ways[1], asked

    asyncio.run(main())


def test_the_ways_to_the_server_do_not_grow_with_the_parts_of_a_message(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = statements(monkeypatch)

    async def main() -> None:
        store = await owner.open()
        whole = await started(store, key="whole")
        ways = []
        for round_, size in enumerate((1, 2, 100)):
            parts = [new(key=f"k{n}", dedupe=key(f"{round_}-{n}")) for n in range(size)]
            asked.clear()
            born = await store.bear(whole.seq, parts, Confirmed("split", round_))
            assert [one.state for one in born] == [State.QUEUED] * size
            ways.append(len(asked))
        assert ways[2] <= ways[1], asked

    asyncio.run(main())


def test_what_was_read_ahead_is_forgotten_when_the_group_changes_it(owner: Owner) -> None:
    """Each of these meets what a command before it in the same commit wrote."""

    async def main() -> None:
        store = await owner.open()
        head, other = await started(store, key="L"), await store.accept(new(key="other", dedupe=key("known")))
        answers = await asyncio.gather(
            store.settle(dead(head.seq, hold_lane=True)),
            store.accept(new(key="L")),
            store.accept(new(key="M", dedupe=key("fresh"))),
            store.accept(new(key="N", dedupe=key("fresh"))),
            store.accept(new(key="O", dedupe=key("known"))),
            store.discard(other.seq, AuditEntry("mia", "dlq.discard", other.id, "test"), NOW),
            store.start(other.seq, 1, NOW),
            store.accept(new(key="P", dedupe=key("known"))),
        )
        assert [one.state for one in answers[1:5]] == [State.HELD, State.QUEUED, State.DUPLICATE, State.DUPLICATE]
        assert answers[5:7] == [True, False]
        assert answers[7].state is State.QUEUED  # whoever discarded the owner set its key free
        assert store.verify_conservation() == []

    asyncio.run(main())


def test_a_command_that_fails_alone_takes_its_keys_back(owner: Owner) -> None:
    async def main() -> None:
        store = await owner.open()
        twin = new().envelope.id
        await store.accept(new(id=twin))
        answers = await asyncio.gather(
            store.accept(new(dedupe=key("a"))),
            store.accept(new(id=twin, dedupe=key("b"))),
            store.accept(new(dedupe=key("c"))),
            return_exceptions=True,
        )
        assert [type(one) for one in answers] == [Accepted, StoreError, Accepted]
        free = await store.accept(new(dedupe=key("b")))
        assert free.state is State.QUEUED
        assert store.verify_conservation() == []

    asyncio.run(main())


@pytest.mark.parametrize("parts", [{"key": "\ud800"}, {"dedupe": key("\ud800")}])
def test_a_key_that_no_database_can_hold_fails_its_message_alone(owner: Owner, parts: dict[str, Any]) -> None:
    async def main() -> None:
        store = await owner.open()
        await store.accept(new(key="a"))  # what is asked ahead is asked of routes that are known
        together = asyncio.gather(
            store.accept(new(dedupe=key("a"))),
            store.accept(new(**parts)),
            store.accept(new(key="b")),
            return_exceptions=True,
        )
        answers = await asyncio.wait_for(together, 20)
        assert [type(one) for one in answers] == [Accepted, StoreError, Accepted]
        assert store.refusal == ""

    asyncio.run(main())


def test_a_group_is_answered_whatever_goes_wrong(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        store = await owner.open()
        monkeypatch.setattr(store._committer, "_read_ahead", lambda *_: 1 / 0)
        with pytest.raises(StoreBusy, match="division by zero"):
            await asyncio.wait_for(store.accept(new()), 20)
        monkeypatch.undo()
        assert (await accepted(store)).seq == 1

    asyncio.run(main())


def test_a_full_disk_of_the_server_is_a_refusal_and_no_broken_connection(owner: Owner, postgres: Postgres) -> None:
    async def main() -> None:
        store = await owner.open()
        await store.accept(new(key="a"))
        connection = store._writer.connection
        postgres.execute(
            "create function own.full() returns trigger language plpgsql as"
            " $$ begin raise exception 'could not extend file' using errcode = '53100'; end $$;"
            " create trigger full_disk before insert on own.message for each row execute function own.full()"
        )
        try:
            answers = await asyncio.gather(
                store.accept(new(key="b")), store.accept(new(key="c")), return_exceptions=True
            )
        finally:
            postgres.execute("drop function own.full() cascade")
        assert [type(one) for one in answers] == [StoreBusy, StoreBusy]
        assert "could not extend file" in str(answers[0])
        assert (await store.accept(new(key="b"))).state is State.QUEUED
        assert [row.key for row in store.pending()] == ["a", "b"]
        assert store._writer.connection is connection

    asyncio.run(main())
