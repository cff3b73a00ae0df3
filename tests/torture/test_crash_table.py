"""The crash table: at every gap between two steps of the bus, a kill, an error and a delay give exactly what the table says.

=====  ==========================================  ==================  ======================================
row    gap                                         failpoint           after a kill and a restart
=====  ==========================================  ==================  ======================================
C1     HTTP body read / commit                     http.read           not accepted; the repeat is
C2     commit / 202                                http.accepted       once; the repeat gets the same id
C3     the commit itself                           store.before_commit not accepted, or once
C6     file claimed / stored                       file.claimed        read again, once
C7     file stored / filed away                    file.accepted       once; only the filing is done again
C8     payload file written / stored               blob.written        read again, once; an orphan is removed
C10    timer slot stored / remembered              timer.accepted      one message per slot
C11    attempt stored / sent                       send.started        sent once, the attempt counts
C12    answered / end stored                       send.answered       sent twice under one delivery id
C14    file written / under its name               file.written        one whole file, nothing beside it
C15    file under its name / end stored            file.published      one file
C17    last attempt failed / dead stored           message.dying       one more attempt, then dead
C18    child k / child k+1 of a split              split.child         every item once
C19    retry stored / answer to the operator       retry.committed     sent once more; the repeat changes nothing
C20    action / its audit entry                    audit.appending     neither; the repeat does both
C21    reload swapped / its audit entry            reload.swapped      the version on disk, whole
C22    retention removes                           retention.purging   nothing half removed; the next round does it
C23    synchronous answer                          http.answering      the repeat gets the answer of the first
C24    fallback of `on_error` sent / end stored    send.answered       the fallback again, its target never
=====  ==========================================  ==================  ======================================

C4 and C5 (a broker's acknowledgement, ``endpoints/test_broker_kills.py``), C9 (a poll of a table) and C16 (a database as target) are struck in the contracts of their
endpoints, C6 and C7 over a real SFTP server there, too; C8 in ``acceptance/test_large_payloads.py``, and by the power cut.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from examples.demo.harness import until
from tests.torture.crash_site import ROUTES, Site, site_of
from tests.torture.tier import LONG

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL"),
    pytest.mark.timeout(3600 if LONG else 600),
]

Row = Callable[[Site], None]


def killed(site: Site, point: str, act: Callable[[], object]) -> None:
    """Start with a kill planted, act, see it die, start again."""
    site.start_to_die(f"{point}=kill@1")
    if site.bus.process.running:
        act()
    site.died()
    site.start()


def c1(site: Site) -> None:
    killed(site, "http.read", lambda: site.post("/in", {"lot": "1"}))
    assert site.states("in") == {}
    assert site.post("/in", {"lot": "1"})[0] == 202
    site.ends("in", done=1)
    assert len(site.target.at("/in")) == 1


def c2(site: Site) -> None:
    killed(site, "http.accepted", lambda: site.post("/in", {"lot": "1"}))
    assert site.post("/in", {"lot": "1"})[0] == 202
    site.ends("in", done=1)
    assert len({key for _, key, _ in site.target.at("/in")}) == 1


def c3(site: Site) -> None:
    site.start()
    site.bus.stop()
    for commits in range(1, 20):  # until those of a start, which are struck as well, lie behind it
        site.start_to_die(f"store.before_commit=kill@{commits}")
        if site.bus.process.running and _answers(site):
            break
    assert site.post("/in", {"lot": "1"})[0] == 0
    site.died()
    site.start()
    assert site.states("in") == {}
    assert site.post("/in", {"lot": "1"})[0] == 202
    site.ends("in", done=1)
    assert len(site.target.at("/in")) == 1


def _answers(site: Site) -> bool:
    try:
        return bool(site.bus.status())
    except OSError:
        site.died()
        return False


def c6(site: Site) -> None:
    killed(site, "file.claimed", lambda: site.drop("a"))
    site.ends("pickup", done=1)
    assert (site.root / "out" / "a.json").read_text() == '{"id":"a"}'


def c7(site: Site) -> None:
    killed(site, "file.accepted", lambda: site.drop("a"))
    site.ends("pickup", done=1)
    until(lambda: _files(site) == [".esb-done/a.json"], within=60, what="the filing")
    assert [path.name for path in (site.root / "out").iterdir()] == ["a.json"]


def _files(site: Site) -> list[str]:
    folder = site.root / "drop"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.json"))


def c10(site: Site) -> None:
    killed(site, "timer.accepted", lambda: None)
    until(lambda: site.states("tick").get("done", 0) >= 3, within=60, what="three slots")
    assert site.bus.stop() == 0
    done = [one for one in site.bus.json("messages", "ls", "--route", "tick") if one["state"] == "done"]
    assert len(done) == len(list((site.root / "ticks").glob("*.json")))  # two of one slot would share a file


def c11(site: Site) -> None:
    killed(site, "send.started", lambda: site.post("/in", {"lot": "1"}))
    site.ends("in", done=1)
    assert len(site.target.at("/in")) == 1
    assert site.bus.json("messages", "ls")[0]["attempts"] == 2


def c12(site: Site) -> None:
    killed(site, "send.answered", lambda: site.post("/in", {"lot": "1"}))
    site.ends("in", done=1)
    keys = [key for _, key, _ in site.target.at("/in")]
    assert (len(keys), len(set(keys))) == (2, 1)


def c14(site: Site) -> None:
    killed(site, "file.written", lambda: site.drop("a"))
    site.ends("pickup", done=1)
    assert [path.name for path in (site.root / "out").iterdir()] == ["a.json"]


def c15(site: Site) -> None:
    killed(site, "file.published", lambda: site.drop("a"))
    site.ends("pickup", done=1)
    assert [path.name for path in (site.root / "out").iterdir() if not path.name.startswith(".")] == ["a.json"]


def c17(site: Site) -> None:
    killed(site, "message.dying", lambda: site.post("/no", {"lot": "1"}))
    site.ends("no", dead=1)
    keys = [key for _, key, _ in site.target.at("/no")]
    assert (len(keys), len(set(keys))) == (2, 1)


def c18(site: Site) -> None:
    site.start("split.child=kill@3")
    site.post("/rows", {"rows": [{"n": n} for n in range(5)]})
    site.died()
    site.start()
    site.ends("rows", done=6)
    assert sorted(body["n"] for _, _, body in site.target.at("/rows")) == [0, 1, 2, 3, 4]


def _dead(site: Site, failpoints: str) -> str:
    site.start(failpoints)
    id_: str = site.post("/no", {"lot": "1"})[1]["message_id"]
    site.ends("no", dead=1)
    site.target.refuses = False
    return id_


def c19(site: Site) -> None:
    id_ = _dead(site, "retry.committed=kill@1")
    site.act("dlq/retry", ids=[id_])
    site.died()
    site.start()
    site.ends("no", done=1)
    assert site.act("dlq/retry", ids=[id_])[1][0]["result"] == "skipped"
    keys = [key for _, key, _ in site.target.at("/no")]
    assert (len(keys), len(set(keys))) == (2, 1)
    assert [one["action"] for one in site.bus.json("audit", "ls")].count("dlq.retry") == 1


def c20(site: Site) -> None:
    id_ = _dead(site, "audit.appending=kill@2")  # the first entry is that of the start
    site.act("dlq/retry", ids=[id_])
    site.died()
    site.start()
    assert site.states("no") == {"dead": 1}
    assert not [one for one in site.bus.json("audit", "ls") if one["action"] == "dlq.retry"]
    site.act("dlq/retry", ids=[id_])
    site.ends("no", done=1)
    assert [one["action"] for one in site.bus.json("audit", "ls")].count("dlq.retry") == 1


def c21(site: Site) -> None:
    site.start("reload.swapped=kill@1")
    file = site.root / "routes" / "in.yaml"
    file.write_text(file.read_text().replace("/in, method", "/in2, method"))
    site.act("reload")
    site.died()
    site.start()
    assert site.post("/in", {"lot": "1"})[0] == 404
    assert site.post("/in2", {"lot": "1"})[0] == 202
    site.ends("in", done=1)
    reloads = [one for one in site.bus.json("audit", "ls") if one["action"] == "reload" and one["actor"] != "bus"]
    assert [one["reason"] for one in reloads] == ["test"]


def c22(site: Site) -> None:
    site.start()
    site.post("/in", {"lot": "1"})
    site.ends("in", done=1)
    assert site.bus.stop() == 0
    killed(site, "retention.purging", lambda: None)
    until(lambda: site.bus.status()["in"]["purged"] == 1, within=60, what="the next round")


def c23(site: Site) -> None:
    killed(site, "http.answering", lambda: site.post("/sync", {"n": 1}))
    status, answer = site.post("/sync", {"n": 1})
    assert (status, answer["state"]) == (200, "done")
    assert len(site.target.at("/sync")) == 1


def c24(site: Site) -> None:
    site.start("send.answered=kill@1")
    site.post("/instead", {"n": 1})
    site.died()
    site.target.refuses = False  # it would take it now, and have it as well
    site.start()
    site.ends("instead", done=1)
    assert len(site.target.at("/no/first")) == 1
    keys = [key for _, key, _ in site.target.at("/spare")]
    assert (len(keys), len(set(keys))) == (2, 1)


#: name, what happens, the routes it needs, settings
ROWS: list[tuple[Row, tuple[str, ...], str]] = [
    (c1, ("in",), ""), (c2, ("in",), ""), (c3, ("in",), ""), (c6, ("pickup",), ""), (c7, ("pickup",), ""),
    (c10, ("tick",), ""), (c11, ("in",), ""), (c12, ("in",), ""), (c14, ("pickup",), ""), (c15, ("pickup",), ""),
    (c17, ("no",), ""), (c18, ("rows",), ""), (c19, ("no",), ""), (c20, ("no",), ""), (c21, ("in",), ""),
    (c22, ("in",), "retention: { done: 1ms }\n"), (c23, ("sync",), ""), (c24, ("instead",), ""),
]  # fmt: skip


def test_a_kill_in_every_gap_gives_what_the_table_says(tmp_path: Path) -> None:
    def one(number: int) -> str:
        row, routes, settings = ROWS[number]
        try:
            with site_of(tmp_path / row.__name__, routes, settings) as site:
                row(site)
                site.whole()
        except Exception as error:  # noqa: BLE001 - every row is told, not only the first that fails
            return f"{row.__name__.upper()}: {type(error).__name__}: {error}"
        return ""

    with ThreadPoolExecutor(3) as pool:
        assert [fault for fault in pool.map(one, range(len(ROWS))) if fault] == []


def test_after_a_death_over_steps_that_came_before_the_store_a_message_is_stored_first(tmp_path: Path) -> None:
    """The sender's repeat must not kill the next process in the same place: it is stored, and its crashes are counted."""
    with site_of(tmp_path / "site", ("pure", "reader")) as site:
        site.start("ahead.worked=kill@1")
        assert site.post("/pure", {"lot": "1"})[0] == 0
        site.died()
        site.start("ahead.worked=kill@1")  # as a step that kills every process
        assert site.post("/pure", {"lot": "1"})[0] == 202
        site.ends("pure", done=1)
        site.ends("reader", done=1)
        assert site.bus.stop() == 0
        site.start("ahead.worked=kill@1")  # after an end in peace it may be tried again
        site.post("/pure", {"lot": "2"}, key="k2")
        site.died()
        site.start()
        assert site.post("/pure", {"lot": "2"}, key="k2")[0] == 202
        site.ends("pure", done=2)
        site.whole()


POINTS = [
    "http.read",
    "http.accepted",
    "http.answering",
    "file.claimed",
    "file.accepted",
    "file.written",
    "file.published",
    "timer.accepted",
    "send.started",
    "send.answered",
    "ahead.worked",
    "message.dying",
    "split.child",
    "retry.committed",
    "audit.appending",
    "reload.swapped",
    "store.before_commit",
    "store.commit_error",
    "store.after_commit",
]


def planted(points: Sequence[str], action: str) -> str:
    """Each gap strikes once; commits not at the start, which may be refused. Between a retry and its answer nothing can fail."""
    error = action == "error"
    chosen = [point for point in points if not (error and point == "retry.committed")]
    nth = {point: 12 if point.startswith("store.") else 1 + (error and point != "reload.swapped") for point in chosen}
    return ",".join(f"{point}={action}@{nth[point]}" for point in chosen)


@pytest.mark.parametrize("points", [[point] for point in POINTS] if LONG else [POINTS])
@pytest.mark.parametrize("action", ["sleep:0.2", "error"])
def test_a_delay_or_an_error_in_every_gap_loses_nothing_and_stops_nothing(
    tmp_path: Path, action: str, points: list[str]
) -> None:
    """Whoever got no yes sends again under its key, and who did, too; in the end all is taken, sent and entered once."""
    with site_of(tmp_path / "all", tuple(ROUTES)) as site:
        site.start()
        assert site.bus.stop() == 0
        site.start(planted(points, action))
        for number in range(8):
            for path, body in (
                ("/in", {"lot": str(number)}),
                ("/sync", {"n": number}),
                ("/rows", {"rows": [{"n": number}]}),
                ("/no", {"lot": str(number)}),
                ("/instead", {"n": number}),
                ("/pure", {"lot": str(number)}),
            ):
                _send(site, path, body, f"k{number}")
            site.drop(f"f{number}")
        for number in range(2):
            _edit(site, number)
        site.target.refuses = False
        _settled(site)
        accepted = {name: one["accepted"] for name, one in site.bus.status().items() if name != "tick"}
        assert accepted == {"in": 8, "sync": 8, "no": 8, "instead": 8, "pickup": 8, "rows": 16, "pure": 8, "reader": 8}
        assert sorted(path.name for path in (site.root / "out").glob("*.json")) == [f"f{n}.json" for n in range(8)]
        for path in ("/in", "/sync", "/rows", "/no"):
            assert len({key for _, key, _ in site.target.at(path)}) == 8
        reloads = [one["reason"] for one in site.bus.json("audit", "ls") if one["action"] == "reload"]
        assert sorted(reason for reason in reloads if reason.startswith("edit")) == ["edit 0", "edit 1"]
        site.whole()


def _edit(site: Site, number: int) -> None:
    """Edit a route and reload until the bus says that it did."""
    file = site.root / "routes" / "in.yaml"
    file.write_text(f"{ROUTES['in']}description: edit {number}\n", encoding="utf-8")
    until(lambda: site.act("reload", reason=f"edit {number}")[0] == 200, within=60, what="the reload")


def _send(site: Site, path: str, body: Any, key: str) -> None:
    """As a sender does that must not lose anything: again under the same key until it gets a yes, or a final word."""
    until(lambda: site.post(path, body, key)[0] in (200, 202, 422, 500, 502), within=60, what=f"a yes for {path}")
    until(lambda: site.post(path, body, key)[0] in (200, 202, 422, 500, 502), within=60, what=f"the same for {path}")


def _settled(site: Site) -> None:
    """Retry what is dead until nothing is open or dead any more."""

    def look() -> bool:
        rest = site.bus.status()
        if any(one["states"]["dead"] for one in rest.values()):
            site.act("dlq/retry", all=True)
            return False
        on_its_way = [path for path in _files(site) if not path.startswith(".esb-done/")]
        return not on_its_way and not any(
            one["states"][state] for one in rest.values() for state in ("queued", "running", "waiting", "held")
        )

    until(look, within=90, what="the end of everything")
