"""A bus with something on every page: done, dead, held and waiting messages, a problem in a file, entries in the audit."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.admin.browsing import EVIL, Browser  # noqa: E402 - the path must be there first
from tests.hostile.tools import Target, attacked  # noqa: E402 - the same

ROUTES = f"""
route: lot-hold
description: {json.dumps("Blocks a lot in the ERP " + EVIL)}
owner: {json.dumps("quality " + EVIL)}
key: body.lot
track: {{ lot: body.lot }}
from: {{ http: {{ path: /hold, method: POST, format: json }} }}
steps:
  - filter: body.severity == 'MAJOR'
  - reject: "the ERP knows no lot {{{{ body.lot }}}}"
    if: starts_with(body.lot, 'X')
  - set: {{ vars.seen: body.lot }}
on_error:
  - {{ for: [rejected], dead_letter: erp }}
kpis:
  hold-open:
    {{ description: {json.dumps("Holds that nobody ended " + EVIL)}, start: accepted, end: {{ route: release, on: done }}, by: body.lot, within: 1ms, weigh: body.price, per: body.note }}
  refused: {{ count: dead, of: accepted }}
  on-hold: {{ gauge: {{ add: body.price }}, by: body.lot, unit: EUR }}
---
route: supplier-8d
track: {{ lot: body.lot }}
from: {{ http: {{ path: /8d, method: POST, format: json }} }}
steps:
  - reject: "supplier portal does not know the part"
---
route: release
from: {{ http: {{ path: /release, method: POST, format: json }} }}
steps:
  - set: {{ vars.ok: "`true`" }}
"""


def send(target: Target, path: str, **body: object) -> str:
    answer = target.http.post_json(path, body, x_plant=f"P10 {EVIL.encode('ascii', 'ignore').decode()}")
    assert answer.status == 202, answer.body
    return str(answer.json["message_id"])


def fill(target: Target) -> None:
    for n in range(4):
        send(target, "/hold", lot=f"0012-{n}", severity="MAJOR", price=12.10)
    for n in range(3):
        send(target, "/hold", lot=f"X-{n}", severity="MAJOR", price=12.10, note="solder bridge")
    send(target, "/8d", lot="P-77", part="4711")
    target.drained("lot-hold")
    target.drained("supplier-8d")


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Target]:
    """Without a token: who sits at the machine may read."""
    with attacked(
        tmp_path / "plain", {"routes/a.yaml": ROUTES, "esb.yaml": "bus: plant-graz\n"}, "--no-watch"
    ) as target:
        fill(target)
        yield target


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """With a token, shared by all tests of the pages: who reads must log in."""
    files = {"routes/a.yaml": ROUTES, "esb.yaml": 'bus: plant-graz\nadmin: { token: "${secret:admin-token}" }\n'}
    root = tmp_path_factory.mktemp("pages")
    with attacked(root, files, "--no-watch", ESB_SECRET_ADMIN_TOKEN="token-of-the-test") as target:
        fill(target)
        yield target


@pytest.fixture
def people() -> Iterator[Callable[[Target], Browser]]:
    """``people(target)`` is somebody who is not logged in."""
    known: list[Browser] = []

    def somebody(target: Target) -> Browser:
        known.append(Browser(target.bus.admin))
        return known[-1]

    yield somebody
    for one in known:
        one.client.close()


@pytest.fixture
def browser(target: Target, people: Callable[[Target], Browser]) -> Browser:
    """Logged in with the configured token."""
    browser = people(target)
    browser.login("token-of-the-test")
    return browser
