"""T15: reloads under a steady stream of requests. No request fails, nothing is lost, a broken edit changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from esb.cli.gateway import Gateway
from examples.demo.harness import until
from tests.torture.account import judge
from tests.torture.conftest import MakeRig
from tests.torture.load import Ledger, Load
from tests.torture.rig import Rig
from tests.torture.test_order import Place, post
from tests.torture.tier import LONG, sized

pytestmark = pytest.mark.timeout(3600 if LONG else 300)

#: ``{name}`` is route, path and sink in one.
ROUTE = """
route: {name}
key: body.lot
from: {{ http: {{ path: /{name}, method: POST }} }}
retry: {{ max: 10000, backoff: 20ms..200ms }}
steps:
  - filter: body.kind == 'MAJOR'
  - to: {{ http: {{ url: "${{SINK_URL}}/{name}?busy=9&mute=11&down=1", method: POST }} }}
"""
KEPT, EDITED, GONE = (ROUTE.format(name=name) for name in ("kept", "edited", "gone"))
BROKEN = ("  - sned: erp.post\n", "  - filter: 'body.kind =='\n", "key: twice\n", "  - to: { http: { url: 5\n")


def reload(rig: Rig, text: str | None, *, file: str = "r1.yaml") -> dict[str, Any]:
    """Write a route (or take its file away) and reload."""
    path = rig.root / "routes" / file
    path.unlink() if text is None else path.write_text(text, encoding="utf-8")
    (answer,) = Gateway(rig.root).post("/reload", {"reason": "test"}, timeout=120)["items"]
    return dict(answer)


def test_reloads_under_load_fail_no_request_and_lose_nothing(make_rig: MakeRig) -> None:
    rig = make_rig(routes=(KEPT, EDITED))
    rig.start()
    streams = {
        name: Load(f"{rig.bus.http}/{name}", Ledger(), name=name, clients=2, patience=60) for name in ("kept", "edited")
    }
    versions = rig.bus.status()
    with streams["kept"] as kept, streams["edited"] as edited:
        for number in range(sized(20, 100)):
            for load in (kept, edited):
                load.until(lambda load, more=load.acked + 5: load.acked >= more or load.over)  # type: ignore[misc]  # bound now
            if number % 5 == 3:
                _refused(reload(rig, EDITED + BROKEN[number // 5 % len(BROKEN)]))
            else:
                done = reload(rig, f"{EDITED}description: edit {number}\n")
                assert (done["result"], done["changed"]) == ("reloaded", ["edited"]), done
        assert (kept.refused, edited.refused) == (0, 0), (kept.refusal, edited.refusal)
        assert not kept.over
        assert not edited.over
    rig.drained(within=120)
    for name, load in streams.items():
        assert judge(load.ledger.sent, rig.sink.seen_at(name), (name,)).faults == []
        assert all(one.acked for one in load.ledger.sent)
    now = rig.bus.status()
    assert now["kept"]["version"] == versions["kept"]["version"]
    assert now["edited"]["version"] != versions["edited"]["version"]
    assert rig.conserved() == []
    rig.settled()


def _refused(answer: dict[str, Any]) -> None:
    assert answer["result"] == "refused", answer
    places = [f"{one['path']}:{one['line']}" for one in answer["problems"] if one["severity"] == "error"]
    last = EDITED.count("\n")
    assert any(place in (f"routes/r1.yaml:{last + 1}", f"routes/r1.yaml:{last + 2}") for place in places), answer


def test_a_removed_route_takes_nothing_more_and_works_off_what_it_took(make_rig: MakeRig) -> None:
    rig = make_rig(routes=(KEPT, GONE))
    rig.sink.close(down=True)
    rig.start()
    for number in range(10):
        assert post(rig, "/gone", Place(f"L{number % 3}", number, "MAJOR")) == 202
    assert reload(rig, None)["removed"] == ["gone"]
    assert post(rig, "/gone", Place("L", 10, "MAJOR")) == 404
    assert rig.bus.status()["gone"]["state"] == "draining"
    rig.sink.close(down=False)
    until(lambda: len(rig.sink.seen_at("gone")) >= 10, within=60, what="the drain")
    rig.drained()
    assert rig.conserved() == []
    assert {one.id for one in rig.sink.seen_at("gone")} == {f"L{number % 3}-{number}" for number in range(10)}
    rig.settled()
