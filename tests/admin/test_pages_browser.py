"""The pages in a real browser: by keyboard alone, light and dark, wide and narrow, with nothing from elsewhere and no script."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.admin.axe import violations
from tests.admin.browsing import EVIL
from tests.admin.conftest import send
from tests.hostile.tools import Target
from tests.servers import require

ARGS = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync --no-first-run"
PATHS = (
    "/",
    "/messages",
    "/messages?state=dead",
    "/dead",
    "/routes/lot-hold",
    "/audit",
    "/kpis",
    "/kpis/hold-open",
    "/kpis/on-hold",
    "/differences",
    "/login",
    "/topology",
    "/sites",
    "/live",
    "/help",
    "/?span=6h",
    "/?kiosk=1",
    "/routes/lot-hold?span=7d",
    "/routes/nothing",
    "/kpis/refused?span=30d",
    "/live?route=lot-hold&state=dead",
    "/account",
    "/people",
    "/approvals",
)
#: Every text whose contrast is below WCAG AA. Backgrounds are plain colours, or none at all.
FAINT = """
() => {
  const light = (c) => { const [r, g, b] = c.map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4 });
                         return .2126 * r + .7152 * g + .0722 * b };
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const found = [];
  for (const one of document.querySelectorAll("body *")) {
    const own = [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!own || !one.checkVisibility()) continue;
    let behind = one;
    while (behind && (rgb(getComputedStyle(behind).backgroundColor)[3] ?? 1) === 0) behind = behind.parentElement;
    const back = rgb(getComputedStyle(behind ?? document.body).backgroundColor), front = rgb(getComputedStyle(one).color);
    const [a, b] = [light(front.slice(0, 3)), light(back.slice(0, 3))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) found.push(`${one.tagName} ${one.textContent.slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return found;
}
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = require.program("chromium", "usr/bin/chromium*", package="chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGS.split())
        yield browser
        browser.close()


class Watched:
    """A browser window, and everything that it must not do."""

    def __init__(self, chromium: Browser, target: Target, **options: Any) -> None:
        self.home = target.bus.admin
        self.faults: list[str] = []
        self.context: BrowserContext = chromium.new_context(**options)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.on("console", lambda message: self._said(message.type, message.text))
        self.page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        self.page.on("dialog", lambda dialog: (self.faults.append("a script ran"), dialog.dismiss()))
        self.page.on("request", lambda request: self._foreign(request.url))

    def _said(self, kind: str, text: str) -> None:
        # advice on forms is no fault; that on two passwords in one is not for who gives a password and signs with another
        if kind in ("error", "warning") or not text.startswith("[DOM]"):
            self.faults.append(f"console: {text}")

    def _foreign(self, url: str) -> None:
        if not url.startswith(self.home + "/"):
            self.faults.append(f"request: {url}")

    def open(self, path: str) -> None:
        self.page.goto(self.home + path)

    def tab_to(self, name: str) -> None:
        """Press Tab until the focus is on what has this name, as somebody without a mouse does."""
        said = []
        for _ in range(120):
            self.page.keyboard.press("Tab")
            said.append(
                self.page.evaluate(
                    "(e => e.labels?.[0]?.innerText || e.innerText || e.getAttribute('aria-label') || e.tagName)"
                    "(document.activeElement)"
                ).strip()
            )
            if said[-1].startswith(name):
                outline = self.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none", f"nobody sees that {name} has the focus"
                return
        raise AssertionError(f"Tab never comes to {name}: {said}")

    def press(self, name: str) -> None:
        self.tab_to(name)
        with self.page.expect_navigation():
            self.page.keyboard.press("Enter")

    def login(self, token: str) -> None:
        self.open("/login")
        self.tab_to("Token")
        self.page.keyboard.type(token)
        with self.page.expect_navigation():
            self.page.keyboard.press("Enter")


def read(target: Target, path: str) -> list[dict[str, Any]]:
    return list(target.admin.send("GET", path, None, {"Authorization": "Bearer token-of-the-test"}).json["items"])


def test_from_the_overview_to_a_retry_by_keyboard_alone(chromium: Browser, target: Target) -> None:
    one = Watched(chromium, target, viewport={"width": 1280, "height": 900})
    one.login("token-of-the-test")
    assert one.page.title() == "Overview · plant-graz"
    one.page.keyboard.press("Tab")
    assert one.page.evaluate("document.activeElement.innerText") == "Skip to the content"
    one.press("✗")
    assert one.page.title().startswith("Dead letters")
    one.press("20")  # the first sample, by its time
    assert one.page.get_by_role("heading", name="What went wrong").is_visible()
    assert one.page.get_by_role("heading", name="Timeline").is_visible()
    one.tab_to("Reason to retry it")
    one.page.keyboard.press("Enter")
    assert "/retry" not in one.page.url, "a reason is required"
    one.page.keyboard.type("ERP back")
    one.press("Retry")
    assert one.page.get_by_role("status").inner_text().startswith("Retry: 1 queued")
    one.press("Audit")
    assert "ERP back" in one.page.get_by_role("row").nth(1).inner_text()
    one.press("Log out")
    one.context.close()
    assert [fault for fault in one.faults if "401" not in fault] == []


@pytest.mark.timeout(400)  # thirty pages, each under all rules of axe
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_readable_and_calls_nobody(chromium: Browser, target: Target, scheme: str, width: int) -> None:
    send(target, "/hold", lot=f"X {EVIL}", severity="MAJOR", note="wide " * 200 + "w" * 500)
    target.drained("lot-hold")
    one = Watched(chromium, target, viewport={"width": width, "height": 900}, color_scheme=scheme)
    one.login("token-of-the-test")
    (evil, *_) = read(target, "/api/v1/messages?state=dead&limit=1")
    (digest,) = {item["digest"] for item in read(target, "/api/v1/status") if item["route"] == "lot-hold"}
    more = (
        f"/messages/{evil['id']}",
        f"/messages/{evil['id']}/edit",
        f"/messages/{evil['id']}/steps",
        f"/routes/lot-hold/versions/{digest}",
    )
    for path in (*PATHS, *more):
        one.open(path)
        one.page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        assert one.page.evaluate("document.documentElement.scrollWidth") <= width, f"{path} is wider than the window"
        assert one.page.evaluate(FAINT) == [], path
        assert one.page.evaluate("document.querySelectorAll('script, iframe, [onerror]').length") == 0
        small = "[...document.querySelectorAll('button, input:not([type=hidden]), select, summary')].filter(e => e.checkVisibility() && e.getBoundingClientRect().height < 24).length"
        assert one.page.evaluate(small) == 0, f"{path}: targets are at least 24 px high"
        assert violations(one.page) == [], path
    dark = one.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    assert dark == (scheme == "dark")
    one.open("/topology")
    ground = one.page.evaluate("getComputedStyle(document.querySelector('.picture')).backgroundColor")
    assert ground == ("rgb(28, 32, 37)" if dark else "rgb(255, 255, 255)"), "no white picture in a dark page"
    one.context.close()
    assert [fault for fault in one.faults if "404" not in fault] == []


def test_with_forced_colours_states_stay_words(chromium: Browser, target: Target) -> None:
    one = Watched(chromium, target, viewport={"width": 1280, "height": 900}, forced_colors="active")
    one.login("token-of-the-test")
    badge = one.page.locator(".badge").first
    assert badge.inner_text().split()[-1] == "ready"
    assert badge.evaluate("e => getComputedStyle(e).borderStyle") == "solid"
    line = one.page.locator(".plot .line").first
    grid = one.page.locator(".plot .grid").first
    stroke = "e => getComputedStyle(e).stroke"
    assert line.evaluate(stroke) != grid.evaluate(stroke), "a line is not lost among the lines of the scale"
    for path in ("/", "/routes/lot-hold", "/kpis/hold-open", "/topology"):
        one.open(path)
        assert violations(one.page) == [], path
    one.context.close()
    assert one.faults == []


def test_from_a_dead_letter_over_its_dry_run_to_its_retry_by_keyboard_alone(chromium: Browser, target: Target) -> None:
    """Nothing but the keyboard: edit, try, save and retry; a note on the group; a bulk retry that is stopped."""
    for lot in ("X-81", "X-82"):
        send(target, "/hold", lot=lot, severity="MAJOR")
    target.drained("lot-hold")
    one = Watched(chromium, target, viewport={"width": 1280, "height": 900})
    one.login("token-of-the-test")
    one.open("/dead?route=lot-hold")
    one.press("20")  # the newest sample, by its time
    one.press("Edit its payload")
    one.tab_to("The new payload")
    one.page.keyboard.press("Control+A")
    one.page.keyboard.type('{"lot": "0012-82", "severity": "MAJOR"}')
    one.tab_to("Reason to edit it")
    one.page.keyboard.type("the X was a slip")
    one.press("Try it")
    assert one.page.get_by_role("heading", name="Dry run").inner_text().split()[-1] == "done"
    assert "+" in one.page.locator("pre[aria-labelledby=changes]").inner_text()
    for width in (1280, 390):
        one.page.set_viewport_size({"width": width, "height": 900})
        assert one.page.evaluate("document.documentElement.scrollWidth") <= width
    assert one.page.evaluate(FAINT) == []
    one.page.set_viewport_size({"width": 1280, "height": 900})
    one.press("Save and retry")
    assert one.page.get_by_role("status").inner_text() == "Edit: 1 edited; Retry: 1 queued"
    one.open("/dead?route=lot-hold")
    one.tab_to("Who looks after it")
    one.page.keyboard.type("Ana")
    one.tab_to("Note")
    one.page.keyboard.type("asks the shift lead")
    one.press("Write down")
    assert "Ana looks after it" in one.page.get_by_role("status").inner_text()
    one.open("/dead?route=lot-hold")
    one.tab_to("Reason to retry them")
    one.page.keyboard.type("lots are known now")
    one.tab_to("At a rate")
    one.page.keyboard.type("1/h")
    one.press("Retry")
    assert one.page.get_by_role("progressbar").is_visible()
    one.tab_to("Reason to stop it")
    one.page.keyboard.type("wrong group")
    one.press("Stop")
    assert one.page.get_by_role("status").inner_text().startswith("Bulk retry stopped: 1 of")
    assert one.page.evaluate(FAINT) == []
    one.context.close()
    assert [fault for fault in one.faults if "401" not in fault] == []
