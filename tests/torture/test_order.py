"""T12: the order of each key over failing targets, kills, reloads and bulk retries; holds and releases of lots above all."""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
from typing import Any
from urllib.parse import urlsplit

import pytest

from esb.cli.exits import Exit
from esb.cli.gateway import Gateway
from examples.demo.harness import until
from tests.torture.conftest import MakeRig
from tests.torture.order import Place, violations
from tests.torture.rig import Rig
from tests.torture.tier import LONG, sized

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL"),
    pytest.mark.timeout(3600 if LONG else 300),
]

LOTS = """
route: lots
key: body.lot
from: { http: { path: /lots, method: POST } }
order: { overtake: "body.kind == 'HOLD'" }
retry: { max: 10000, backoff: 10ms..100ms }
steps: [ { to: { http: { url: "${SINK_URL}/lots?busy=10&refuse=19&mute=21", method: POST } } } ]
"""
#: Every message is dead at its first attempt, and its lane goes on.
SKIPS = """
route: skips
key: body.lot
from: { http: { path: /skips, method: POST } }
order: { on_dead: skip }
steps: [ { to: { http: { url: "${SINK_URL}/skips?refuse=1", method: POST } } } ]
"""


class Senders:
    """Some threads, each with lots of its own: the next message of a lot only after a yes to the one before."""

    def __init__(self, rig: Rig, lots: int, each: int, *, threads: int = 4) -> None:
        self.accepted: list[Place] = []
        self._rig = rig
        self._threads = [
            threading.Thread(target=self._work, args=(range(number, lots, threads), each), daemon=True)
            for number in range(threads)
        ]
        for one in self._threads:
            one.start()

    @property
    def over(self) -> bool:
        return not any(one.is_alive() for one in self._threads)

    def _work(self, lots: range, each: int) -> None:
        chance = random.Random(f"order/{lots.start}")
        for n in range(each):
            for lot in lots:
                place = Place(f"L{lot}", n, "HOLD" if chance.random() < 0.15 else "RELEASE")
                until(lambda place=place: self._post(place), within=120, what=f"a yes for {place}")  # type: ignore[misc]  # bound now
                self.accepted.append(place)

    def _post(self, place: Place) -> bool:
        return post(self._rig, "/lots", place) == 202


def post(rig: Rig, path: str, place: Place) -> int:
    """The status; 0 where the bus is gone, or hung up."""
    url = urlsplit(rig.bus.http)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=30)
    id_ = f"{place.lot}-{place.n}"
    try:
        body = json.dumps({"id": id_, "lot": place.lot, "n": place.n, "kind": place.kind})
        connection.request("POST", path, body, {"Content-Type": "application/json", "Idempotency-Key": id_})
        with connection.getresponse() as answer:
            answer.read()
            return answer.status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def arrived(rig: Rig, sink: str) -> list[Place]:
    return [Place(one["lot"], one["n"], one["kind"], one["key"]) for one in rig.sink.entries if one["sink"] == sink]


def retry_all(rig: Rig, route: str, **words: Any) -> list[dict[str, Any]]:
    return list(Gateway(rig.root).post("/dlq/retry", {"route": route, **words}, timeout=120)["items"])


def edit(rig: Rig, number: int) -> None:
    """The next attempts of the route run on another version of it."""
    (rig.root / "routes" / "r0.yaml").write_text(f"{LOTS}description: edit {number}\n", encoding="utf-8")
    Gateway(rig.root).post("/reload", {"reason": f"edit {number}"})


def test_each_key_keeps_its_order_and_the_last_word_is_the_last_one_accepted(make_rig: MakeRig) -> None:
    rig = make_rig(routes=(LOTS,))
    rig.start()
    lots, each, kills = sized((12, 15, 3), (60, 50, 20))
    senders = Senders(rig, lots, each)
    for round_ in range(1, kills + 1):
        enough = lots * each * round_ // (kills + 1)
        for number in range(2):
            edit(rig, 2 * round_ + number)
            retry_all(rig, "lots")
        until(lambda enough=enough: len(senders.accepted) >= enough or senders.over, within=120, what=f"{enough}")  # type: ignore[misc]  # bound now
        rig.bus.kill()
        rig.start()
    until(lambda: senders.over, within=300, what="the last message")
    assert len(senders.accepted) == lots * each
    until(lambda: _ended(rig), within=300, what="the end of everything")
    assert violations(senders.accepted, arrived(rig, "lots")) == []
    assert rig.conserved() == []
    rig.settled()


def _ended(rig: Rig) -> bool:
    """Retry what is dead, until nothing is open and only those are left that a later one overtook."""
    left = rig.bus.status()["lots"]["states"]  # first: what dies after the retry would be neither open nor retried
    idle = not any(left[state] for state in ("queued", "running", "waiting", "held"))
    done = retry_all(rig, "lots")
    return idle and all(one["result"] == "skipped" and "stale" in one["why"] for one in done)


def test_a_stale_retry_needs_a_reason_and_is_what_the_checker_finds(make_rig: MakeRig) -> None:
    rig = make_rig(routes=(SKIPS,))
    rig.start()
    both = [Place("L", 1, "RELEASE"), Place("L", 2, "HOLD")]
    for place in both:
        assert post(rig, "/skips", place) == 202
    until(lambda: rig.bus.status()["skips"]["states"]["dead"] == 2, within=60, what="two dead letters")
    release, hold = sorted(one["id"] for one in Gateway(rig.root).get("/dlq")["items"])
    assert retry_all(rig, "skips", ids=[hold])[0]["result"] == "queued"
    until(lambda: rig.bus.status()["skips"]["states"]["done"] == 1, within=60, what="the hold")
    assert "stale" in retry_all(rig, "skips")[0]["why"]
    with pytest.raises(Exit, match="needs a reason"):
        retry_all(rig, "skips", ids=[release], stale=True)
    assert violations(both[1:], arrived(rig, "skips")) == []
    asked = retry_all(rig, "skips", ids=[release], stale=True, reason="the customer asked")
    assert asked[0]["result"] == "queued"
    until(lambda: rig.bus.status()["skips"]["states"]["done"] == 2, within=60, what="the release")
    assert "L: RELEASE 1 arrived after HOLD 2" in violations(both, arrived(rig, "skips"))
    entry = next(one for one in rig.bus.json("audit", "ls") if one["reason"] == "the customer asked")
    assert entry["detail"]["stale"] is True
    rig.settled()


# -- the checker itself -----------------------------------------------------------------------------------------------------
A, B, HOLD = Place("L", 1, key="a"), Place("L", 2, key="b"), Place("L", 3, "HOLD", "h")


def test_the_checker_takes_order_repeats_and_what_a_hold_overtook_for_right() -> None:
    assert violations([A, B], [A, A, B, B]) == []
    assert violations([A, B, HOLD], [A, HOLD]) == []
    assert violations([A, Place("M", 1)], [Place("M", 1), A]) == []


def test_the_checker_finds_what_came_after_a_later_one_also_as_a_repeat() -> None:
    assert violations([A, B], [B, A])[0] == "L: RELEASE 1 arrived after RELEASE 2"
    assert violations([A, B], [A, B, A, B]) == ["L: RELEASE 1 arrived after RELEASE 2"]
    assert violations([A, B, HOLD], [A, HOLD, B])[0] == "L: RELEASE 2 arrived after HOLD 3"


def test_the_checker_finds_what_is_missing_doubled_or_the_wrong_last_word() -> None:
    assert violations([A, B], [B]) == ["L: RELEASE 1 never arrived, and no later HOLD overtook it"]
    assert violations([A, B], [A, Place("L", 1, key="other"), B]) == ["L: 1 arrived twice, under two delivery ids"]
    shown = violations([A, HOLD], [A])
    assert shown[-1] == "L: the sink shows RELEASE 1, accepted last was HOLD 3"
