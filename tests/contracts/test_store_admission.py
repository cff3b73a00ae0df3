"""What every store promises of a message that was refused at the door and is let in by a retry."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from esb.errors import KeyTaken
from esb.message import State
from esb.store.base import Accepted, Filter, NewMessage
from tests.contracts.test_store import BROKEN, NOW, WHO, box, dead, key, new, on_store, started, state_of

__all__ = ["box"]  # the fixture


async def refused(store: Any, **parts: Any) -> tuple[Accepted, NewMessage]:
    born = new(state=State.DEAD, error=BROKEN, track={"lot": "1"}, **parts)
    return await store.accept(born), born


def let_in(born: NewMessage, **parts: Any) -> NewMessage:
    own = {name: parts.pop(name) for name in list(parts) if name in NewMessage.__slots__}
    return structs.replace(
        born, envelope=structs.replace(born.envelope, **parts), state=State.QUEUED, error=None, **own
    )


def found_by(store: Any, lot: str) -> list[str]:
    return [one.envelope.id for one in store.find(Filter(track=(("lot", lot),)))]


@on_store
async def test_it_gets_its_key_its_tracked_values_and_its_dedupe_key_as_it_is_queued(box: Any) -> None:
    accepted, born = await refused(box.store)
    one = let_in(born, key="L1", track={"lot": "2", "order": "7"}, dedupe=key("a"))
    pending = await box.store.retry(accepted.seq, WHO, NOW, None, one)
    assert (pending.state, pending.key, pending.superseded) == (State.QUEUED, "L1", ())
    stored = box.store.get(accepted.id).envelope
    assert (stored.key, stored.track, stored.overtakes) == ("L1", {"lot": "2", "order": "7"}, False)
    assert (found_by(box.store, "1"), found_by(box.store, "2")) == ([], [accepted.id])
    repeat = await box.store.accept(new(dedupe=key("a")))
    assert (repeat.state, repeat.first_id) == (State.DUPLICATE, accepted.id)


@on_store
async def test_it_is_held_behind_an_older_dead_one_of_its_key(box: Any) -> None:
    head = await started(box.store, key="L1")
    await box.store.settle(dead(head.seq, hold_lane=True))
    accepted, born = await refused(box.store)
    assert (await box.store.retry(accepted.seq, WHO, NOW, None, let_in(born, key="L1"))).state is State.HELD


@on_store
async def test_nothing_changes_where_another_message_has_its_dedupe_key(box: Any) -> None:
    accepted, born = await refused(box.store)
    other = await box.store.accept(new(dedupe=key("a")))
    with pytest.raises(KeyTaken, match=other.id):
        await box.store.retry(accepted.seq, WHO, NOW, None, let_in(born, key="L1", track={}, dedupe=key("a")))
    stored = box.store.get(accepted.id)
    assert (stored.state, stored.envelope.key, found_by(box.store, "1")) == (State.DEAD, None, [accepted.id])


@on_store
async def test_one_that_overtakes_supersedes_what_is_older_and_not_sent(box: Any) -> None:
    head = await started(box.store, key="L1")
    await box.store.settle(dead(head.seq, hold_lane=True))
    held = await box.store.accept(new(key="L1"))
    accepted, born = await refused(box.store)
    behind = await box.store.accept(new(key="L1"))
    pending = await box.store.retry(accepted.seq, WHO, NOW, None, let_in(born, key="L1", overtakes=True))
    assert (pending.state, pending.superseded) == (State.QUEUED, (head.seq, held.seq))
    assert [state_of(box.store, one) for one in (head, held)] == [State.SUPERSEDED, State.SUPERSEDED]
    assert await box.store.release_lane("qms-to-erp", "", "L1") == (behind.seq,)
