"""What every store promises of the past: events of stored messages, numbers that take the place of others, places noted with what moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from esb.message import State
from esb.observe import trends
from esb.store.base import AuditEntry
from esb.store.facts import Fact
from esb.store.values import micros
from tests.contracts.test_store import NOW, WHO, box, dead, died, done, key, on_store, started

__all__ = ["box"]  # the fixture
AT = micros(NOW)


@on_store
async def test_a_place_is_noted_with_the_message_that_is_queued_again(box: Any) -> None:
    first, later = await started(box.store, key="L1"), await started(box.store, key="L1")
    for one in (first, later):
        await box.store.settle(dead(one.seq, hold_lane=one is first))
    for one, state in ((later, State.HELD), (first, State.QUEUED)):
        memo = lambda found: ("bulk", "job", {"last": found.value})  # noqa: E731 - all that it does
        assert await box.store.retry(one.seq, WHO, NOW, memo) is not None
        assert box.store.get_state("bulk", "job") == {"last": state.value}
    assert await box.store.retry(first.seq, WHO, NOW, lambda _: ("bulk", "job", "wrong")) is None
    assert box.store.get_state("bulk", "job") == {"last": "queued"}
    before = len(box.store.audit_entries())
    await box.store.put_state("bulk", "job", {"over": True}, AuditEntry("bus", "bulk.end", "job"))
    assert box.store.get_state("bulk", "job") == {"over": True}
    assert [one["action"] for one in box.store.audit_entries()[before:]] == ["bulk.end"]


@on_store
async def test_events_of_a_message_are_told_as_they_happened(box: Any) -> None:
    first = await started(box.store, dedupe=key("a"))
    await box.store.settle(dead(first.seq, at=NOW + timedelta(seconds=1), hold_lane=False))
    await box.store.edit(
        first.seq, b'{"lot":"0013"}', AuditEntry("mia", "dlq.edit", "x", "typo"), NOW + timedelta(seconds=2)
    )
    await box.store.retry(first.seq, WHO, NOW + timedelta(seconds=3))
    past = box.store.indicators.past()
    (mark,) = past.marks([first.seq]).values()
    assert mark.startswith("open")
    await box.store.settle(done(first.seq, at=NOW + timedelta(seconds=4), reason="not for us"))
    again = await started(box.store, dedupe=key("a"))
    told = [(one.on, one.at - AT, one.envelope.body) for one in past.told(first.seq)]
    assert told == [
        ("accepted", 0, b'{"lot":"0012"}'),
        ("dead", 1_000_000, b'{"lot":"0012"}'),
        ("filtered", 4_000_000, b'{"lot":"0013"}'),
    ]
    assert [one.on for one in past.told(again.seq)] == ["duplicate"]
    refused = await died(box.store)
    assert [one.on for one in past.told(refused.seq)] == ["accepted", "dead"]
    assert set(past.marks([first.seq, again.seq, refused.seq])) == {refused.seq}
    assert past.after(0, 2) == [(first.seq, AT), (again.seq, AT)]
    assert (past.head(), past.told(999)) == (refused.seq, [])
    assert past.begin(NOW) < first.seq


@on_store
async def test_new_numbers_take_the_place_of_the_old_ones_at_once(box: Any) -> None:
    def start(name: str, lot: str, weight: int) -> Fact:
        return Fact(name, "start", "accepted", AT, lot, "P10", 1, weight, 5_000_000)

    book = box.store.indicators
    await book.fill([start("holds", "old", 7)], "kpi", "other", None)
    await book.fill([start("holds~", "A", 1), start("holds~", "B", 2)], "kpi", "holds", {"after": 2})
    assert box.store.get_state("kpi", "holds") == {"after": 2}
    for step in (1, 2):
        await book.fill([], "kpi", "holds", {"after": step}, (f"{step:020}", [step]))
    assert book.past().aside("kpi", "holds") == [[1], [2]]
    entry = AuditEntry("bus", "kpi.backfilled", "holds")
    refused = await book.finish("holds", "holds~", lambda _: None, "kpi", entry, NOW)
    assert (refused, [one.key for one in book.oldest("holds", 10, levels=False)]) == (False, ["old"])
    ended = Fact("holds~", "end", "done", AT + 6_000_000, "A")
    seen: list[int] = []

    def work(past: Any) -> list[Fact]:
        seen.append(past.head())  # what was committed before is there
        return [ended]

    first = await started(box.store)
    assert await book.finish("holds", "holds~", work, "kpi", entry, NOW)
    assert seen == [first.seq]
    assert [(one.key, one.weight) for one in book.oldest("holds", 10, levels=False)] == [("B", 2)]
    assert {(one.what, one.n) for one in book.now("holds") if one.what in ("open", "started", "late")} == {("open", 1), ("started", 2), ("late", 1)}  # fmt: skip
    assert book.now("holds~") == []
    assert (box.store.get_state("kpi", "holds"), book.past().aside("kpi", "holds")) == (None, [])
    assert box.store.audit_entries()[-1]["action"] == "kpi.backfilled"


@on_store
async def test_only_the_payloads_that_were_named_are_taken_away(box: Any) -> None:
    found = [await started(box.store) for _ in range(3)]
    for one in found:
        await box.store.settle(done(one.seq))
    later = NOW + timedelta(days=1)
    assert box.store.stripping(later, [State.DONE]) == [one.seq for one in found]

    def contents() -> list[str]:
        return [box.store.payload(one.seq)[0].content for one in found]

    assert await box.store.strip(later, [State.DONE], only=[found[0].seq])
    assert contents() == ["removed", "json", "json"]
    assert box.store.stripping(later, [State.DONE]) == [one.seq for one in found[1:]]
    assert await box.store.strip(later, [State.DONE])
    assert contents() == ["removed"] * 3
    assert (box.store.stripping(later, [State.DONE]), await box.store.strip(later, [State.DONE])) == ([], 0)


@on_store
async def test_the_hours_of_an_indicator_are_told_over_all_labels_and_without_its_parts(box: Any) -> None:
    def fact(part: str, key: str, at: int, label: str, **more: Any) -> Fact:
        return Fact("holds", part, "accepted", at, key, label, within=5_000_000, elements=("ERP", "MES"), **more)

    hour = 3_600_000_000
    begun = [
        fact("start", "A", AT, "P10"),
        fact("start", "B", AT, "P20", weight=7),
        fact("start", "C", AT + hour, "P10"),
    ]
    ended = [fact("end", "A", AT + hour, "P10", element=element) for element in ("ERP", "MES")]
    await box.store.indicators.fill([*begun, *ended], "kpi", "other", None)
    told: dict[Any, dict[str, tuple[int, int]]] = {}
    for at, one in box.store.indicators.by_hour("holds", NOW):
        told.setdefault(at, {})[one.what] = (one.n, one.weight)
    first, second = sorted(told)
    assert (second - first, told[first]) == (timedelta(hours=1), {"started": (2, 7)})
    assert {what: told[second][what] for what in ("started", "closed", "late")} == {
        "started": (1, 0),
        "closed": (1, 0),
        "late": (1, 0),
    }
    assert not [what for what in told[second] if ":" in what]
    assert [at for at, _ in box.store.indicators.by_hour("holds", NOW + timedelta(hours=1))][:1] == [second]
    assert box.store.indicators.by_hour("nothing", NOW) == []


@on_store
async def test_rows_of_trends_are_read_from_an_hour_on(box: Any) -> None:
    for series in ("route:a", "route:a-b", "bus"):
        for hour in (99, 100, 101):
            await box.store.put_state(trends.space_of(series), trends.name_of(hour), [[0, hour, 0, 0, 0, 0, 0, []]])
    since = datetime.fromtimestamp(100 * 3600 + 59, UTC)
    found = trends.StoredRows(box.store).rows("route:a", since)
    assert [(hour, slot.accepted) for hour, slot in trends.slots(found).items()] == [(1200, 100), (1212, 101)]
