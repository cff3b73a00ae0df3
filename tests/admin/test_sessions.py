"""Sessions end by themselves, and there are never too many."""

from __future__ import annotations

from datetime import timedelta

from esb.admin.render import outcome, pretty
from esb.admin.sessions import IDLE, LONGEST, MAX_SESSIONS, Sessions
from esb.clock import ManualClock


def test_a_session_ends_when_it_is_quiet_and_when_it_is_old() -> None:
    clock = ManualClock()
    sessions = Sessions(clock)
    quiet, busy = sessions.begin("mia"), sessions.begin("mia")
    for _ in range(int(LONGEST / IDLE * 2)):
        assert sessions.find(busy.id) is busy
        clock.advance(timedelta(seconds=IDLE / 2))
    assert sessions.find(quiet.id) is None
    clock.advance(timedelta(seconds=1))
    assert sessions.find(busy.id) is None


def test_a_page_that_loads_by_itself_keeps_nobody_logged_in_but_a_screen() -> None:
    clock = ManualClock()
    sessions = Sessions(clock)
    person, screen = sessions.begin("mia"), sessions.begin("token:wall", token="esb_x")
    for _ in range(3):
        clock.advance(timedelta(seconds=IDLE / 2))
        found = [sessions.find(one.id, by_itself=True) for one in (person, screen)]
    assert found == [None, screen]


def test_the_quietest_goes_when_there_are_too_many() -> None:
    clock = ManualClock()
    sessions = Sessions(clock)
    begun = []
    for _ in range(MAX_SESSIONS + 1):
        clock.advance(timedelta(seconds=1))
        begun.append(sessions.begin("mia"))
        sessions.find(begun[0].id)
    assert sessions.find(begun[0].id) is not None
    assert sessions.find(begun[1].id) is None
    assert len({one.id for one in begun} | {one.csrf for one in begun}) == 2 * len(begun)


def test_payloads_keep_their_numbers_and_show_what_cannot_be_seen() -> None:
    assert pretty('{"a":12.10,"b":1e400}') == '{\n  "a": 12.10,\n  "b": 1e400\n}'
    assert pretty("{ no json") == "{ no json"
    assert pretty("a\u202eb\x00\ud800") == "a\\u202eb\\u0000\\ud800"
    assert pretty("[" * 50_000) == "[" * 50_000
    assert pretty("x" * 100_001).endswith("has the whole")
    assert pretty({"base64": "AA=="}) == '{\n  "base64": "AA=="\n}'


def test_an_outcome_counts_and_says_why() -> None:
    results = [{"result": "queued", "why": ""}, {"result": "skipped", "why": "stale"}, {"result": "queued", "why": ""}]
    assert outcome("Retry", results) == "Retry: 2 queued, 1 skipped (stale)"
    assert outcome("Retry", []) == "Retry: there was nothing left to do"
