"""The pages over a real listener: what they show is what the API says, whatever messages hold is text, and only our forms act."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from examples.demo.harness import until
from tests.admin.browsing import EVIL, Browser, Page
from tests.admin.conftest import send
from tests.corpora import naughty_strings
from tests.hostile.tools import Target

People = Callable[[Target], Browser]
BEARER = {"Authorization": "Bearer token-of-the-test"}
PAGES = (
    "/",
    "/messages",
    "/dead",
    "/routes/lot-hold",
    "/audit",
    "/kpis",
    "/kpis/hold-open",
    "/kpis/refused",
    "/kpis/on-hold",
    "/differences",
    "/topology",
    "/sites",
    "/live",
    "/live?every=5",
    "/?span=6h",
    "/?kiosk=1&every=60",
    "/routes/lot-hold?span=7d",
    "/kpis/refused?span=30d",
    "/help",
)
ACTIONS = ("/dead/retry", "/dead/discard", "/messages/x/retry", "/messages/x/discard", "/routes/release/pause", "/routes/release/resume", "/approvals/x/approve", "/approvals/x/deny")  # fmt: skip


def audited(target: Target) -> list[dict[str, str]]:
    return list(target.admin.send("GET", "/api/v1/audit", None, BEARER).json["items"])


# -- what they show -------------------------------------------------------------------------------------------------------
def test_the_numbers_are_those_of_the_api_and_the_twin_is_one_click_away(target: Target, browser: Browser) -> None:
    page = Page(browser.get("/"))
    assert "/api/v1/status" in page.links
    items = browser.get("/api/v1/status").json["items"]
    for name in ("accepted", "done", "dead"):
        assert page.number(name) == sum(item[name] for item in items) > 0
    (route,) = [item for item in items if item["route"] == "lot-hold"]
    for name, number in route["states"].items():
        assert Page(browser.get("/routes/lot-hold")).number(name) == number
    groups = browser.get("/api/v1/dlq/groups").json["items"]
    dead = Page(browser.get("/dead"))
    for group in groups[:20]:
        assert f"{group['count']} {group['message']}" in dead.text
    assert page.text.index("dead letter") < page.text.index("accepted"), "what needs a person comes first"


def test_the_indicators_of_the_pages_are_those_of_the_api(browser: Browser) -> None:
    (item,) = browser.get("/api/v1/kpis/hold-open").json["items"]
    assert (item["open"], item["overdue"], item["open_weight"]) == (7, 7, 84.7)
    page = Page(browser.get("/kpis/hold-open"))
    assert page.number("Open") == 7
    assert "Overdue ✗ 7 84.7" in page.text
    assert all(one["key"] in page.text for one in item["items"])
    assert "hold-open" in Page(browser.get("/")).text
    assert "Level 84.7 in 7 keys" in Page(browser.get("/kpis/on-hold")).text
    metrics = browser.get("/metrics").body.decode()
    assert 'esb_kpi_overdue{kpi="hold-open"} 7' in metrics
    assert 'esb_kpi_count_total{kpi="refused"} 3' in metrics
    assert 'esb_dead_letters{route="lot-hold",code="rejected"} 3' in metrics
    assert 'esb_messages_total{route="lot-hold",status="dead"} 3' in metrics
    assert re.search(r'^esb_oldest_unresolved_seconds{route="lot-hold"} \d+\.\d+$', metrics, re.MULTILINE)


def test_the_charts_and_their_table_are_drawn_from_what_the_api_says(target: Target, browser: Browser) -> None:
    def counted() -> bool:  # who asks within a few seconds is told the same
        (whole,) = browser.get("/api/v1/trends").json["items"]
        status = browser.get("/api/v1/status").json["items"]
        return whole["points"][-1]["dead"] == sum(item["dead"] for item in status) and sum(
            point["accepted"] or 0 for point in whole["points"]
        ) == sum(item["accepted"] for item in status)

    until(counted, within=30, what="every message that was accepted in the trend of the bus")
    for path, twin, member in (
        ("/", "/api/v1/trends?span=24h", "accepted"),
        ("/routes/lot-hold", "/api/v1/trends?route=lot-hold&span=24h", "accepted"),
        ("/kpis/refused?span=7d", "/api/v1/kpis/refused/trend?span=7d", "count"),
    ):
        (item,) = browser.get(twin).json["items"]
        total = sum(point[member] or 0 for point in item["points"])
        page = Page(browser.get(path))
        assert twin in page.links
        assert f": {total} in all" in page.text, (path, total)
        assert total > 0
        assert page.tags.count("figure") >= 2
        assert page.tags.count("svg") >= page.tags.count("figure") == page.tags.count("desc")
    for path in ("/?span=1y", "/routes/lot-hold?span=x", "/kpis/refused?span=6h", "/api/v1/trends?span=x"):
        assert browser.get(path).status == 400
    assert browser.get("/api/v1/trends?route=nothing").status == 404
    assert browser.get("/api/v1/kpis/nothing/trend").status == 404


def test_the_overview_answers_whether_everything_is_in_time(browser: Browser) -> None:
    (item,) = browser.get("/api/v1/kpis/hold-open").json["items"]
    text = Page(browser.get("/")).text
    assert f"Is everything in time? ✗ No {item['overdue']} are overdue now." in text
    assert f"hold-open {item['overdue']} overdue ({item['overdue_weight']}), target 1 ms" in text


def test_a_version_tells_what_it_changed_and_how_it_differs(target: Target, browser: Browser) -> None:
    (item,) = [one for one in browser.get("/api/v1/status").json["items"] if one["route"] == "lot-hold"]
    place = f"/routes/lot-hold/versions/{item['digest']}"
    assert place in Page(browser.get("/routes/lot-hold")).links
    page = Page(browser.get(place))
    assert page.strange == []
    assert "It is the first version that is known." in page.text
    assert "Not at all." in page.text
    assert browser.get("/routes/lot-hold/versions/abcdef").status == 404
    assert browser.get("/routes/nothing/versions/abcdef").status == 404


def test_the_picture_names_every_route_and_marks_those_that_need_a_person(browser: Browser) -> None:
    page = Page(browser.get("/topology"))
    edges = browser.get("/api/v1/graph").json["items"]
    assert {edge["end"] for edge in edges} | {edge["start"] for edge in edges} <= page.lines
    items = browser.get("/api/v1/status").json["items"]
    for item in items:
        assert f"/routes/{item['route']}" in page.links
        assert (f"{item['route']}: " in page.text) == bool(item["dead"] or item["late"] or item["state"] != "running")
    assert any(item["dead"] for item in items)


def test_a_page_loads_again_only_for_who_asked(browser: Browser) -> None:
    for path in ("/", "/live", "/routes/lot-hold?span=6h", "/kpis/hold-open"):
        joint = "&" if "?" in path else "?"
        still, moving = browser.get(path), browser.get(f"{path}{joint}every=5")
        assert "refresh" not in still.headers
        assert moving.headers["refresh"] == "5"
        assert path in Page(moving).links, "the way to stop it keeps everything else"
        assert "refresh" not in browser.get(f"{path}{joint}every=1").headers
    assert "refresh" not in browser.get("/messages/nothing?every=5").headers
    for path in ("/account", "/people"):
        answer = browser.get(f"{path}?every=5")
        assert answer.status == 200
        assert "refresh" not in answer.headers, "what somebody writes there must not be lost"
        assert "loads again" not in Page(answer).text


def test_the_live_page_shows_what_the_url_asks_for(browser: Browser) -> None:
    for query in ("", "route=lot-hold", "state=dead", "route=lot-hold&state=done&key=0012-1", "track=lot%3DP-77"):
        items = browser.get(f"/api/v1/messages?limit=40&{query}").json["items"]
        page = Page(browser.get(f"/live?{query}&every=5"))
        assert [link for link in page.links if link.startswith("/messages/")] == [
            f"/messages/{item['id']}" for item in items
        ]
        assert items or query, "there is something to see"
    assert browser.get("/live?route=nothing").status == 404
    assert browser.get("/live?state=nothing").status == 400


@pytest.mark.parametrize("path", PAGES)
def test_every_page_has_landmarks_one_heading_and_a_twin_that_answers(browser: Browser, path: str) -> None:
    page = Page(browser.get(path))
    assert page.strange == []
    assert [page.tags.count(tag) for tag in ("h1", "main", "header", "footer")] == [1, 1, 1, 1]
    assert len(page.ids) == len(set(page.ids))
    twins = [link for link in page.links if link.startswith("/api/v1/")]
    assert {browser.get(twin).status for twin in twins} == {200}


def test_search_keeps_its_filters_in_the_url_and_pages_to_the_end(target: Target, browser: Browser) -> None:
    for n in range(60):
        send(target, "/release", number=n)
    target.drained("release")
    seen: list[str] = []
    place = "/messages?route=release&state=done&since=24h"
    while place:
        page = Page(browser.get(place))
        seen += [link for link in page.links if link.startswith("/messages/0")]
        place = next(
            (
                link
                for link in page.links
                if link.startswith("/messages?") and "before=" in link and "every=" not in link
            ),
            "",
        )
        assert not place or "route=release&state=done&since=24h" in place
        if len(seen) > 70:
            break
    assert len(seen) == len(set(seen)) == 60
    assert "Nothing found" in Page(browser.get("/messages?text=no-such-lot")).text
    found = Page(browser.get("/messages?text=0012-1"))
    assert [link.count("/messages/0") for link in found.links if link.startswith("/messages/")] == [1]


def test_a_message_shows_its_way_its_payload_and_the_line_for_the_shell(browser: Browser) -> None:
    (dead,) = browser.get("/api/v1/messages?key=X-1").json["items"]
    page = Page(browser.get(f"/messages/{dead['id']}"))
    for said in ("the ERP knows no lot X-1", "Attempt 1", "filter", '"price": 12.1', f"esb messages show {dead['id']}"):
        assert said in page.text, said
    assert f"/messages?correlation={dead['correlation_id']}" in page.links


def test_a_route_shows_its_steps_and_the_file_that_is_live(browser: Browser) -> None:
    text = Page(browser.get("/routes/lot-hold")).text
    assert "reject reject, line 10" in text
    assert "key: body.lot" in text


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/nothing", 404, "no such page"),
        ("/messages/x", 404, "no message x"),
        ("/routes/lot-hald", 404, "lot-hold"),
        ("/messages?state=deda", 400, "`deda` is no state"),
        ("/messages?route=lot-hald", 404, "did you mean `lot-hold`?"),
        ("/messages?since=tomorrow", 400, "write `24h`"),
        ("/static/../pages.py", 404, "no such page"),
        ("/static/", 404, "no such page"),
        ("/static/..%2f..%2fapi.py", 404, "no such page"),
    ],
)
def test_s52_what_is_not_there_is_a_page_that_says_so(browser: Browser, path: str, status: int, said: str) -> None:
    answer = browser.get(path)
    assert answer.status == status
    assert said in Page(answer).text
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


# -- S29: what messages hold is text --------------------------------------------------------------------------------------
def test_s29_markup_in_every_field_is_text(target: Target, browser: Browser) -> None:
    id_ = send(target, "/hold", lot=f"X{EVIL}", severity="MAJOR", note=EVIL)
    target.drained("lot-hold")
    places = [*PAGES, f"/messages/{id_}", "/messages?state=dead", f"/messages?text={'%22%3E%3Cscript%3E'}"]
    for place in places:
        page = Page(browser.get(place))
        assert page.strange == [], place
    detail = Page(browser.get(f"/messages/{id_}")).text
    assert detail.count("<script>alert(2)</script>") >= 5, "key, lot, error, trace, header, payload"
    assert "{{ 7*7 }}" in detail, "no template of a message runs"
    links = [link for link in Page(browser.get(f"/messages/{id_}")).links if "alert" in link]
    assert links
    for link in links:
        assert f"/messages/{id_}" in Page(browser.get(link)).links, "a link finds what it names, whatever that holds"
    browser.act(f"/messages/{id_}/discard", reason=EVIL)
    assert Page(browser.get("/audit")).strange == []
    assert EVIL in Page(browser.get("/audit")).text


def test_s29_naughty_strings_as_lots(target: Target, browser: Browser) -> None:
    lots = [f"X {lot}" for lot in naughty_strings() if "<" in lot or "script" in lot or not lot.isprintable()][:200]
    for lot in lots:
        send(target, "/hold", lot=lot, severity="MAJOR")
    target.drained("lot-hold")
    place, shown = "/messages?route=lot-hold&state=dead", 0
    while place:
        page = Page(browser.get(place))
        assert page.strange == []
        shown += page.tags.count("tr") - 1
        place = next(
            (
                link
                for link in page.links
                if link.startswith("/messages?") and "before=" in link and "every=" not in link
            ),
            "",
        )
    assert shown >= len(lots) > 100
    dead = Page(browser.get("/dead"))
    assert dead.strange == []
    assert "smaller groups are not shown" in dead.text


# -- who may --------------------------------------------------------------------------------------------------------------
def test_with_a_token_nothing_is_shown_without_a_session(target: Target, people: People) -> None:
    stranger = people(target)
    for path in PAGES:
        answer = stranger.get(path)
        assert answer.status == 401
        assert b"plant-graz" not in answer.body
    assert stranger.login("wrong").status == 401
    assert stranger.get("/api/v1/status").status == 401


def test_s34_a_session_is_a_new_strict_cookie_and_ends_with_the_logout(target: Target, people: People) -> None:
    person = people(target)
    person.cookie = "esb-session=chosen-by-somebody-else"
    answer = person.login("token-of-the-test", back="/dead", name="the boss")
    assert (answer.status, answer.headers["location"]) == (303, "/dead")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "chosen" not in cookie
    assert "token-of-the-test" not in cookie
    assert "token:admin" in Page(person.get("/")).text, "only the local token's holder may give a name"
    first = person.cookie
    person.login("token-of-the-test")
    assert person.cookie != first
    kept, person.cookie = person.cookie, first
    assert person.get("/").status == 401, "a second login ends the first session"
    person.cookie = kept
    person.post("/logout", {"csrf": person.csrf()})
    assert person.get("/").status == 401


@pytest.mark.parametrize("back", ["//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nb: c", "evil", "", "javascript:alert(1)"])  # fmt: skip
def test_s52_a_login_leads_nowhere_else(target: Target, back: str, people: People) -> None:
    assert people(target).login("token-of-the-test", back=back).headers["location"] == "/"


def test_on_loopback_without_a_token_reading_is_open_and_acting_needs_the_local_one(
    plain: Target, people: People
) -> None:
    person = people(plain)
    for path in PAGES:
        assert person.get(path).status == 200
    assert "Log in" in Page(person.get("/dead")).text
    for path in ACTIONS:
        assert person.post(path, {"csrf": "x", "reason": "r"}).status == 401
    person.login(plain.token(), name="mia")
    page = Page(person.act("/routes/release/pause", reason="audit week"))
    assert "release is paused" in page.text
    items = plain.admin("GET", "/api/v1/audit").json["items"]
    assert [(e["actor"], e["action"], e["reason"]) for e in items[-1:]] == [("mia", "route.pause", "audit week")]
    assert "release is paused" not in Page(person.get("/")).text, "told once"
    assert "release is running" in Page(person.act("/routes/release/resume")).text


# -- acting ---------------------------------------------------------------------------------------------------------------
def test_retry_and_discard_of_a_group_are_told_and_audited(target: Target, browser: Browser) -> None:
    (group,) = browser.get("/api/v1/dlq/groups?route=supplier-8d").json["items"]
    which = {"group": group["group"], "route": "supplier-8d"}
    page = Page(browser.act("/dead/retry", **which, reason="portal back"))
    assert "Retry: 1 queued" in page.text
    target.drained("supplier-8d")
    assert audited(target)[-1]["actor"] == "token:admin"
    assert (audited(target)[-1]["action"], audited(target)[-1]["reason"]) == ("dlq.retry", "portal back")
    stale = browser.post("/dead/discard", {"csrf": browser.csrf(), "reason": "r", **which, "count": "7"})
    assert stale.status == 409, "what is discarded is what was seen"
    page = Page(browser.act("/dead/discard", **which, count="1", reason="test data"))
    assert "Discard: 1 discarded" in page.text
    assert browser.get("/api/v1/dlq/groups?route=supplier-8d").json["items"] == []


FORGED = [
    {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": ""}, {"Origin": None}, {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"}, {"Content-Type": "text/plain"}, {"Content-Type": "multipart/form-data; boundary=x"},
]  # fmt: skip


@pytest.mark.parametrize("headers", FORGED, ids=str)
def test_s28_a_form_of_another_page_does_nothing(
    target: Target, browser: Browser, headers: dict[str, str | None]
) -> None:
    before = len(audited(target))
    csrf = browser.csrf()
    for path in (*ACTIONS, "/login", "/logout", "/account", "/setup"):
        answer = browser.post(path, {"csrf": csrf, "reason": "r", "token": "token-of-the-test"}, **headers)
        assert answer.status in (403, 415), path
        assert "set-cookie" not in answer.headers
    assert len(audited(target)) == before
    assert browser.get("/").status == 200


def test_s28_a_form_needs_the_word_of_its_session_and_a_reason(
    target: Target, browser: Browser, people: People
) -> None:
    before = len(audited(target))
    other = people(target)
    other.login("token-of-the-test")
    for path in ACTIONS:
        for csrf in ("", "x", other.csrf(), "\ud800"):
            form = {"csrf": csrf.encode("utf-8", "replace").decode(), "reason": "r"}
            assert browser.post(path, form).status == 403, path
        assert browser.post(path, {"csrf": browser.csrf(), "reason": "  "}).status == 409
        assert browser.get(path).status in (404, 405), "reading has no effect"
        assert browser.client.send("POST", path, b"reason=r", {**BEARER, "Origin": browser.origin}).status == 401
    assert browser.client.send("POST", "/api/v1/dlq/retry", b"{}", {"Cookie": browser.cookie}).status == 401, (
        "a cookie opens no action of the API"
    )
    assert len(audited(target)) == before


@pytest.mark.parametrize("path", [*PAGES, "/approvals", "/account", "/login", "/setup", "/static/app.css"])
def test_s29_s54_pages_run_no_script_and_stand_in_no_frame(browser: Browser, path: str) -> None:
    headers = browser.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "style-src": "'self'",
        "img-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin", "with no-referrer, browsers send forms without their origin"


def test_no_token_ever_stands_in_a_page(target: Target, browser: Browser) -> None:
    secrets = ("token-of-the-test", target.token(), browser.cookie.partition("=")[2])
    for path in (*PAGES, "/login", "/nothing"):
        text = browser.get(path).body.decode()
        assert not [secret for secret in secrets if secret in text], path
    assert "token-of-the-test" not in target.bus.log()


def test_a_refused_reload_a_paused_route_and_relatives_are_shown(plain: Target, people: People) -> None:
    person = people(plain)
    person.login(plain.token(), name="mia")
    person.act("/routes/release/pause")
    local = {"Authorization": f"Bearer {plain.token()}", "Content-Type": "application/json"}
    (sent,) = plain.admin.send(
        "POST", "/api/v1/replay", json.dumps({"key": "0012-0", "reason": "r"}).encode(), local
    ).json["items"]
    detail = Page(person.get(f"/messages/{sent['new_id']}"))
    assert f"/messages/{sent['id']}" in detail.links
    (plain.root / "routes" / "b.yaml").write_text(
        f"route: b\nfrom: {{ timr: {{}} }}\n{json.dumps(EVIL)}: 1\nsteps: []\n"
    )
    assert plain.admin.send("POST", "/api/v1/reload", b"{}", local).json["items"][0]["result"] == "refused"
    page = Page(person.get("/"))
    assert page.strange == []
    assert "routes/b.yaml:2:" in page.text
    assert "paused route release" in page.text
    assert page.text.index("Problems of the last reload") < page.text.index("Routes All messages")
