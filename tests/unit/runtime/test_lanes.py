"""Lanes: per key one head, in order of acceptance; keys do not wait for each other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from esb.runtime.lanes import Entry, Lanes

T0 = datetime(2026, 1, 5, 9, tzinfo=UTC)


def entry(seq: int, key: str | None = None, *, overtakes: bool = False, scope: str = "") -> Entry:
    return Entry(seq=seq, id=str(seq), scope=scope, key=key, accepted_at=T0, version="v1", overtakes=overtakes)


def take_all(lanes: Lanes) -> list[int]:
    taken = []
    while (one := lanes.take()) is not None:
        taken.append(one.seq)
    return taken


def test_messages_without_a_key_all_run_at_once_in_order() -> None:
    lanes = Lanes()
    for seq in (2, 1, 3):
        lanes.add(entry(seq))
    assert take_all(lanes) == [1, 2, 3]


def test_only_the_head_of_a_key_runs() -> None:
    lanes = Lanes()
    for seq, key in ((1, "a"), (2, "a"), (3, "b")):
        lanes.add(entry(seq, key))
    assert take_all(lanes) == [1, 3]
    head = lanes.get(1)
    assert head is not None
    lanes.finish(head)
    assert take_all(lanes) == [2]


def test_a_waiting_head_parks_its_key_until_its_time() -> None:
    lanes = Lanes()
    first, second = entry(1, "a"), entry(2, "a")
    lanes.add(first)
    lanes.add(second)
    assert lanes.take() is first
    lanes.park(first, T0 + timedelta(seconds=5))
    assert lanes.take() is None
    assert lanes.next_due == T0 + timedelta(seconds=5)
    lanes.wake(T0 + timedelta(seconds=4))
    assert lanes.take() is None
    lanes.wake(T0 + timedelta(seconds=5))
    assert lanes.take() is first


def test_what_is_held_is_too_old_by_the_clock_as_it_is_set_back_and_by_every_limit_of_its_lane() -> None:
    lanes = Lanes(lambda one: one.accepted_at + timedelta(hours=1))
    one, lane = entry(2, "a"), ("", "a")
    lanes.add(one)
    lanes.block(lane, 2)
    lanes.shift(timedelta(days=-1), T0 - timedelta(days=1))
    assert lanes.next_due == T0 - timedelta(hours=23)
    other = entry(3, "a")
    lanes.unblock(lane)
    lanes.add(other)
    lanes.block(lane, 4)
    lanes.unblock(lane, 3)
    lanes.finish(one)
    lanes.wake(T0)
    assert lanes.next_due == T0 + timedelta(hours=1)


def test_a_dead_head_blocks_its_key_and_no_other() -> None:
    lanes = Lanes()
    for seq, key in ((1, "a"), (2, "a"), (3, "b")):
        lanes.add(entry(seq, key))
    first = lanes.take()
    assert first is not None
    lanes.die(first, block=True)
    assert take_all(lanes) == [3]
    lanes.add(entry(4, "a"))
    assert lanes.take() is None
    lanes.unblock(("", "a"))
    assert take_all(lanes) == [2]


def test_with_skip_a_dead_head_lets_the_next_go_on() -> None:
    lanes = Lanes()
    lanes.add(entry(1, "a"))
    lanes.add(entry(2, "a"))
    first = lanes.take()
    assert first is not None
    lanes.die(first, block=False)
    assert take_all(lanes) == [2]


def test_an_overtaking_message_goes_before_waiting_ones_but_never_beside_a_running_one() -> None:
    lanes = Lanes()
    running, waiting, hold = entry(1, "a"), entry(2, "a"), entry(3, "a", overtakes=True)
    lanes.add(running)
    assert lanes.take() is running
    lanes.add(waiting)
    lanes.add(hold)
    lanes.supersede_running(("", "a"), hold.seq)
    assert running.superseded
    assert lanes.take() is None
    lanes.finish(running)
    assert lanes.take() is hold


def test_a_retried_older_message_takes_its_old_place() -> None:
    lanes = Lanes()
    lanes.block(("", "a"), 2)
    lanes.add(entry(5, "a"))
    lanes.add(entry(2, "a"))
    lanes.unblock(("", "a"))
    assert take_all(lanes) == [2]


def test_dropped_messages_never_run_and_their_lane_goes_on() -> None:
    lanes = Lanes()
    for seq in (1, 2, 3):
        lanes.add(entry(seq, "a"))
    lanes.drop([1, 2])
    assert take_all(lanes) == [3]
    assert len(lanes) == 1


def test_scopes_of_a_route_are_lanes_of_their_own() -> None:
    lanes = Lanes()
    lanes.add(entry(1, "a", scope="fanout/erp"))
    lanes.add(entry(2, "a", scope="fanout/mes"))
    assert take_all(lanes) == [1, 2]


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.sampled_from(["done", "park", "skip"])), max_size=60),
    st.randoms(use_true_random=False),
)
def test_whatever_happens_each_key_runs_in_order_and_nothing_is_left_over(
    plan: list[tuple[str | None, str]], random: object
) -> None:
    lanes, now = Lanes(), T0
    fates = {}
    for seq, (key, fate) in enumerate(plan, 1):
        lanes.add(entry(seq, key))
        fates[seq] = fate
    ended: dict[str, list[int]] = {}
    running: list[Entry] = []
    for _ in range(10 * len(plan) + 10):
        while (one := lanes.take()) is not None:
            assert all(other.key != one.key for other in running if one.key is not None)
            running.append(one)
        if not running:
            due = lanes.next_due
            if due is None:
                break
            now = max(now, due)
            lanes.wake(now)
            continue
        one = running.pop(random.randrange(len(running)))  # type: ignore[attr-defined]  # a random.Random
        if fates[one.seq] == "park":
            fates[one.seq] = "done"
            lanes.park(one, now + timedelta(seconds=1))
            continue
        ended.setdefault(one.key or f"#{one.seq}", []).append(one.seq)
        if fates[one.seq] == "skip":
            lanes.die(one, block=False)
        else:
            lanes.finish(one)
    assert len(lanes) == 0
    assert sorted(seq for seqs in ended.values() for seq in seqs) == list(range(1, len(plan) + 1))
    assert all(seqs == sorted(seqs) for seqs in ended.values())
    assert lanes.bytes == 0
