"""People in a real browser: the first user, a signature and a second person by keyboard alone, and back from a provider."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.admin.axe import violations
from tests.admin.conftest import send
from tests.admin.provider import OpenId, provider
from tests.admin.test_pages_browser import FAINT, Watched, chromium
from tests.hostile.tools import Target, attacked

__all__ = ["chromium"]
PASSWORD = "a plain old sentence"
ROUTES = """
route: hold
key: body.lot
from: { http: { path: /hold, method: POST, format: json } }
steps:
  - reject: "no lot {{ body.lot }}"
"""
SETTINGS = "bus: plant-graz\nregulated: true\napproval: { discard: 1, edit: 1 }\n"
ROLES = ("viewer", "operator", "engineer", "auditor", "admin")
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SMALL = "[...document.querySelectorAll('button, input:not([type=hidden]), summary, a.button')].filter(e => e.checkVisibility() && e.getBoundingClientRect().height < 24).length"


def readable(one: Watched, path: str) -> None:
    one.open(path)
    width = one.page.viewport_size["width"] if one.page.viewport_size else 0
    assert one.page.evaluate("document.documentElement.scrollWidth") <= width, f"{path} is wider than the window"
    assert one.page.evaluate(FAINT) == [], path
    assert one.page.evaluate(SMALL) == 0, path
    assert violations(one.page) == [], path


def fill(one: Watched, **fields: str) -> None:
    """By keyboard: Tab to each field by its label, type, and Enter in the last one."""
    for label, text in fields.items():
        one.tab_to(label.replace("_", " "))
        one.page.keyboard.type(text)
    with one.page.expect_navigation():
        one.page.keyboard.press("Enter")


def ask(target: Target, path: str, **words: Any) -> Any:
    headers = {"Authorization": f"Bearer {target.token()}", "Content-Type": "application/json"}
    answer = target.admin.send("POST", f"/api/v1/{path}", json.dumps(words).encode(), headers)
    assert answer.status < 300, answer.body
    return answer.json


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    files = {"routes/a.yaml": ROUTES, "esb.yaml": SETTINGS}
    with attacked(tmp_path_factory.mktemp("people"), files, "--no-watch") as found:
        yield found


def test_from_the_first_user_to_a_second_person_by_keyboard_alone(chromium: Browser, target: Target) -> None:
    mia = Watched(chromium, target, viewport=NARROW, color_scheme="dark")
    readable(mia, target.setup_link())
    fill(mia, User="mia", Full_name="Mia Huber", Password=PASSWORD, The_same_again=PASSWORD)
    assert "mia is an admin now" in mia.page.get_by_role("status").inner_text()
    sign = {"user": "mia", "password": PASSWORD, "meaning": "approved"}
    joe_is = {"name": "joe", "roles": ["operator"], "password": PASSWORD, "full_name": "Joe Huber"}
    ask(target, "users", **joe_is, reason="night shift", signature=sign)
    dead = send(target, "/hold", lot="L-1")
    target.drained("hold")
    readable(mia, f"/messages/{dead}")
    mia.tab_to("Discard")
    mia.page.keyboard.press("Enter")
    fill(mia, Reason_to_discard="test data", Meaning="reviewed", Password_of_mia=PASSWORD)
    assert "needs a second person" in mia.page.get_by_role("status").inner_text()
    readable(mia, "/approvals")
    assert mia.page.get_by_text("You asked for this").is_visible()
    joe = Watched(chromium, target, viewport=WIDE, color_scheme="light")
    readable(joe, "/login")
    fill(joe, User="joe", Password=PASSWORD)
    joe.press("Approvals")
    readable(joe, "/approvals")
    fill(joe, Reason_to_approve="seen", Meaning="approved", Password_of_joe=PASSWORD)
    assert joe.page.get_by_role("status").inner_text() == "Approved: 1 discarded"
    for one, path in (
        (joe, "/approvals"),
        (mia, "/approvals"),
        (mia, "/people"),
        (mia, "/account"),
        (joe, "/account"),
        (mia, "/audit"),
    ):
        readable(one, path)
    assert mia.page.get_by_text("signed by Joe Huber (joe)").first.is_visible()
    for one in (mia, joe):
        one.context.close()
        assert one.faults == []


@pytest.fixture(scope="module")
def staffed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A bus with one user of each role; the admin is the last, since from then on users are made under a signature."""
    files = {"routes/a.yaml": ROUTES, "esb.yaml": SETTINGS}
    with attacked(tmp_path_factory.mktemp("staffed"), files, "--no-watch") as found:
        for role in ROLES:
            ask(found, "users", name=f"a-{role}", roles=[role], password=PASSWORD)
        yield found


@pytest.mark.parametrize("role", ROLES)
def test_what_a_role_sees_is_accessible_to_everybody(chromium: Browser, staffed: Target, role: str) -> None:
    """Every page, with its buttons, its fields for a signature, and its refusals."""
    dead = send(staffed, "/hold", lot=f"L-{role}")
    staffed.drained("hold")
    one = Watched(chromium, staffed, viewport=WIDE)
    readable(one, "/login")
    fill(one, User=f"a-{role}", Password=PASSWORD)
    offered = one.page.eval_on_selector_all("nav a", "all => all.map(one => one.getAttribute('href'))")
    assert ("/people" in offered, "/audit" in offered) == (role == "admin", role in ("admin", "auditor"))
    for path in (*offered, f"/messages/{dead}", f"/messages/{dead}/edit", "/routes/hold", "/account"):
        readable(one, path)
    one.context.close()
    assert [fault for fault in one.faults if "403" not in fault] == []


@pytest.fixture
def openid(tmp_path: Path) -> Iterator[tuple[Target, OpenId]]:
    with provider() as found:
        oidc = {
            "issuer": found.issuer,
            "client_id": "esb-graz",
            "client_secret": "${secret:oidc}",
            "roles": {"a": ["operator"]},
        }
        found.person = {"sub": "1", "preferred_username": "joe", "groups": ["a"]}
        files = {"esb.yaml": f"bus: plant-graz\nadmin: {json.dumps({'oidc': oidc})}\n"}
        with attacked(tmp_path / "bus", files, "--no-watch", ESB_SECRET_OIDC="secret-of-the-client") as target:
            yield target, found


def test_back_from_the_provider_of_another_site_one_is_logged_in(
    chromium: Browser, openid: tuple[Target, OpenId]
) -> None:
    target, found = openid
    one = Watched(chromium, target, viewport=NARROW)
    readable(one, "/login?back=/messages")
    one.tab_to("Log in with your company account")
    one.page.keyboard.press("Enter")
    one.page.wait_for_url("**/messages")
    assert one.page.locator(".who a").inner_text() == "joe"
    cookies = {cookie["name"]: cookie for cookie in one.context.cookies()}
    assert (cookies["esb-session"]["sameSite"], cookies["esb-session"]["httpOnly"]) == ("Strict", True)
    one.context.close()
    assert [fault for fault in one.faults if found.issuer not in fault] == []
