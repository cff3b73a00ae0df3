"""A signature by logging in at the provider again, in a real browser and by keyboard alone; over a payload of several lines, which a browser
sends in its own way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.admin.conftest import send
from tests.admin.provider import OpenId, provider
from tests.admin.test_oidc import ask
from tests.admin.test_pages_browser import Watched, chromium
from tests.admin.test_people_browser import NARROW, ROUTES, readable
from tests.hostile.tools import Target, attacked

__all__ = ["chromium"]
PAYLOAD = '{\n  "lot": "L-1",\n  "note": "two\\nlines"\n}'


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[tuple[Target, OpenId]]:
    with provider() as found:
        secret = {"client_id": "esb-graz", "client_secret": "${secret:oidc}", "roles": {"a": ["engineer"]}}
        found.person = {"sub": "1", "preferred_username": "joe", "name": "Joe Huber", "groups": ["a"]}
        admin = json.dumps({"oidc": {"issuer": found.issuer, **secret}})
        files = {"esb.yaml": f"bus: plant-graz\nregulated: true\nadmin: {admin}\n", "routes/a.yaml": ROUTES}
        with attacked(tmp_path / "bus", files, "--no-watch", ESB_SECRET_OIDC="secret-of-the-client") as target:
            yield target, found


def test_an_edit_is_signed_by_keyboard_alone(chromium: Browser, plant: tuple[Target, OpenId]) -> None:
    target, found = plant
    dead = send(target, "/hold", lot="L-1")
    target.drained("hold")
    joe = Watched(chromium, target, viewport=NARROW, color_scheme="dark")
    joe.open("/login?back=/messages")
    joe.tab_to("Log in with your company account")
    joe.page.keyboard.press("Enter")
    joe.page.locator(".who a").wait_for()
    readable(joe, f"/messages/{dead}/edit")
    joe.page.get_by_label("The new payload").fill(PAYLOAD)
    joe.page.get_by_label("Reason to edit it").fill("typo")
    joe.press("Try it")
    joe.page.get_by_label("Meaning of the signature").fill("corrected")
    joe.press("Save all the same")
    assert "/sign/" in joe.page.url
    readable(joe, joe.page.url.removeprefix(joe.home))
    joe.tab_to("Log in at your company account again to sign")
    joe.page.keyboard.press("Enter")
    joe.page.get_by_role("button", name="Sign and do it").wait_for()
    readable(joe, joe.page.url.removeprefix(joe.home))
    joe.press("Sign and do it")
    assert f"/messages/{dead}" in joe.page.url
    (item,) = ask(target, f"messages/{dead}")
    assert json.loads(item["body"]) == json.loads(PAYLOAD)
    (entry,) = [one for one in ask(target, "audit?limit=1000") if one["action"] == "dlq.edit"]
    assert (entry["actor"], entry["detail"]["signature"]["meaning"]) == ("joe", "corrected")
    assert entry["detail"]["signature"]["provider"] == found.issuer
    assert ask(target, "audit/verify") == []
    joe.context.close()
    assert [fault for fault in joe.faults if found.issuer not in fault] == []
