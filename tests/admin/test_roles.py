"""S30: every role × action × object, against a running bus. A call that is not in the table fails the first test."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from esb.access.roles import ROLES, Right
from esb.admin.assembly import admin_of
from esb.clock import ManualClock
from esb.config.model import Settings
from tests.admin.browsing import Browser
from tests.admin.conftest import ROOT, send
from tests.hostile.tools import Target, attacked

ROUTES = """
route: hold
track: { lot: body.lot }
from: { http: { path: /hold, method: POST, format: json } }
steps:
  - reject: "no"
"""
SETTINGS = "bus: plant-graz\nsite: { plant: P10 }\n"
PASSWORD = "a plain old sentence"

EVERYBODY = "viewer operator engineer auditor admin"
OPERATORS = "operator engineer admin"
ENGINEERS = "engineer admin"
#: method and path (``ID`` is a dead letter, ``VERSION`` one of the route) to who may, and what is sent
API: dict[str, tuple[str, str, dict[str, Any]]] = {
    "GET /metrics": ("read", EVERYBODY, {}),
    "GET /api/v1": ("read", EVERYBODY, {}),
    "GET /api/v1/status": ("read", EVERYBODY, {}),
    "GET /api/v1/routes": ("read", EVERYBODY, {}),
    "GET /api/v1/sites": ("read", EVERYBODY, {}),
    "GET /api/v1/graph": ("read", EVERYBODY, {}),
    "GET /api/v1/messages": ("read", EVERYBODY, {}),
    "GET /api/v1/messages/ID": ("read", EVERYBODY, {}),
    "GET /api/v1/messages/ID/steps": ("read", EVERYBODY, {}),
    "GET /api/v1/trace/L-1": ("read", EVERYBODY, {}),
    "GET /api/v1/dlq": ("read", EVERYBODY, {}),
    "GET /api/v1/dlq/groups": ("read", EVERYBODY, {}),
    "GET /api/v1/routes/hold/versions": ("read", EVERYBODY, {}),
    "GET /api/v1/routes/hold/versions/VERSION": ("read", EVERYBODY, {}),
    "GET /api/v1/routes/hold/traffic": ("payload", "engineer auditor admin", {}),
    "GET /openapi.json": ("read", EVERYBODY, {}),
    "GET /asyncapi.json": ("read", EVERYBODY, {}),
    "GET /api/v1/live": ("reload", ENGINEERS, {}),
    "GET /api/v1/evidence": ("audit", "auditor admin", {}),
    "GET /api/v1/evidence/messages/ID": ("audit", "auditor admin", {}),
    "GET /api/v1/evidence/versions/hold/VERSION": ("audit", "auditor admin", {}),
    "POST /api/v1/evidence/seal": ("audit", "auditor admin", {"sha256": "0" * 64, "subject": "lot=L-1"}),
    "GET /api/v1/evidence/key": ("audit", "auditor admin", {}),
    "POST /api/v1/evidence/key": ("audit", "auditor admin", {}),
    "GET /api/v1/differences": ("read", EVERYBODY, {}),
    "POST /api/v1/differences/close": ("discard", OPERATORS, {"reconcile": "hold", "key": "L-1"}),
    "GET /api/v1/holds": ("audit", "auditor admin", {}),
    "POST /api/v1/holds/place": ("audit", "auditor admin", {"track": "lot=L-9"}),
    "POST /api/v1/holds/lift": ("audit", "auditor admin", {"track": "lot=L-9"}),
    "GET /api/v1/alerts": ("read", EVERYBODY, {}),
    "GET /api/v1/kpis": ("read", EVERYBODY, {}),
    "GET /api/v1/kpis/none": ("read", EVERYBODY, {}),
    "POST /api/v1/kpis/none/backfill": ("reload", ENGINEERS, {}),
    "GET /api/v1/kpis/none/trend": ("read", EVERYBODY, {}),
    "GET /api/v1/trends": ("read", EVERYBODY, {}),
    "POST /api/v1/kpis/none/close": ("discard", OPERATORS, {"key": "L-1"}),
    "GET /api/v1/audit": ("audit", "auditor admin", {}),
    "GET /api/v1/audit/verify": ("audit", "auditor admin", {}),
    "POST /api/v1/dlq/retry": ("retry", OPERATORS, {"ids": ["ID"], "dry_run": True}),
    "POST /api/v1/dlq/discard": ("discard", OPERATORS, {"ids": ["ID"], "dry_run": True}),
    "POST /api/v1/dlq/edit": ("edit", ENGINEERS, {"id": "ID", "body": '{"lot": "L-1"}'}),
    "POST /api/v1/dlq/groups/note": ("retry", OPERATORS, {"group": "none", "note": "n"}),
    "GET /api/v1/dlq/bulk": ("read", EVERYBODY, {}),
    "GET /api/v1/dlq/bulk/none": ("read", EVERYBODY, {}),
    "POST /api/v1/dlq/bulk/none/stop": ("retry", OPERATORS, {}),
    "POST /api/v1/dlq/rehearse": ("edit", ENGINEERS, {"id": "ID"}),
    "POST /api/v1/replay": ("replay", OPERATORS, {"ids": ["ID"], "dry_run": True}),
    "POST /api/v1/routes/hold/pause": ("pause", OPERATORS, {}),
    "POST /api/v1/routes/hold/resume": ("pause", OPERATORS, {}),
    "POST /api/v1/routes/hold/send": ("send", ENGINEERS, {"body": '{"lot": "L-2"}'}),
    "POST /api/v1/routes/hold/rollback": ("reload", ENGINEERS, {"version": "VERSION", "dry_run": True}),
    "POST /api/v1/reload": ("reload", ENGINEERS, {}),
    "GET /api/v1/approvals": ("approve", OPERATORS, {}),
    "POST /api/v1/approvals/none/approve": ("approve", OPERATORS, {}),
    "POST /api/v1/approvals/none/deny": ("approve", OPERATORS, {}),
    "GET /api/v1/users": ("people", "admin", {}),
    "POST /api/v1/users": ("people", "admin", {"name": "?"}),
    "POST /api/v1/users/nobody/roles": ("people", "admin", {"roles": ["admin"]}),
    "POST /api/v1/users/nobody/passwd": ("people", "admin", {"password": PASSWORD}),
    "POST /api/v1/users/nobody/disable": ("people", "admin", {}),
    "POST /api/v1/users/nobody/enable": ("people", "admin", {}),
    "GET /api/v1/tokens": ("people", "admin", {}),
    "POST /api/v1/tokens": ("people", "admin", {"name": "?", "scopes": ["read"]}),
    "POST /api/v1/tokens/none/revoke": ("people", "admin", {}),
}
PAGES: dict[str, tuple[str, dict[str, str]]] = {
    "GET /": (EVERYBODY, {}),
    "GET /messages": (EVERYBODY, {}),
    "GET /messages/ID": (EVERYBODY, {}),
    "GET /messages/ID/steps": (EVERYBODY, {}),
    "GET /messages/ID/edit": (ENGINEERS, {}),
    "POST /messages/ID/edit": (ENGINEERS, {"payload": "{}", "do": "try"}),
    "GET /dead": (EVERYBODY, {}),
    "GET /routes/hold": (EVERYBODY, {}),
    "GET /routes/hold/versions/VERSION": (EVERYBODY, {}),
    "GET /differences": (EVERYBODY, {}),
    "GET /topology": (EVERYBODY, {}),
    "GET /sites": (EVERYBODY, {}),
    "GET /live": (EVERYBODY, {}),
    "GET /help": (EVERYBODY, {}),
    "GET /kpis": (EVERYBODY, {}),
    "GET /kpis/none": (EVERYBODY, {}),
    "GET /audit": ("auditor admin", {}),
    "GET /people": ("admin", {}),
    "POST /people/add": ("admin", {"name": "?", "roles": "viewer", "secret": PASSWORD}),
    "POST /people/nobody/roles": ("admin", {"roles": "viewer"}),
    "POST /people/nobody/disable": ("admin", {}),
    "POST /people/nobody/enable": ("admin", {}),
    "POST /tokens/create": ("admin", {"name": "?", "scopes": "read"}),
    "POST /tokens/none/revoke": ("admin", {}),
    "GET /account": (EVERYBODY, {}),
    "POST /account": (EVERYBODY, {"password": "wrong", "new": PASSWORD, "again": PASSWORD}),
    "GET /approvals": (OPERATORS, {}),
    "POST /approvals/none/approve": (OPERATORS, {}),
    "POST /approvals/none/deny": (OPERATORS, {}),
    "POST /dead/retry": (OPERATORS, {"group": "none", "route": "hold"}),
    "POST /dead/discard": (OPERATORS, {"group": "none", "route": "hold", "count": "0"}),
    "POST /dead/note": (OPERATORS, {"group": "none", "route": "hold"}),
    "POST /dead/bulk/none/stop": (OPERATORS, {}),
    "POST /messages/none/retry": (OPERATORS, {}),
    "POST /messages/none/discard": (OPERATORS, {}),
    "POST /routes/hold/pause": (OPERATORS, {}),
    "POST /routes/hold/resume": (OPERATORS, {}),
}
#: for who is not logged in, and tells nothing
PUBLIC = {"GET /livez", "GET /readyz", "GET /static/{}", "GET /login", "POST /login", "POST /logout", "GET /setup", "POST /setup"}  # fmt: skip
#: what is of the whole bus: with a right at one site nobody has it
WHOLE = {"POST /api/v1/reload", "GET /api/v1/live", "GET /openapi.json", "GET /asyncapi.json"}
#: reads that belong to no route: empty for somebody of another site, where others are refused
LISTS = {"GET /metrics", "GET /api/v1", *(f"GET /api/v1/{name}" for name in ("status", "routes", "sites", "messages", "trace/L-1", "dlq", "dlq/groups", "dlq/bulk", "approvals", "differences", "graph"))}  # fmt: skip


@dataclass
class Plant:
    target: Target
    dead: str
    version: str
    tokens: dict[str, str] = field(default_factory=dict)
    people: dict[str, Browser] = field(default_factory=dict)

    def call(self, what: str, token: str, words: dict[str, Any]) -> Any:
        method, _, path = what.replace("ID", self.dead).replace("VERSION", self.version).partition(" ")
        text = json.dumps({"reason": "a test", **words}).replace("ID", self.dead).replace("VERSION", self.version)
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        return self.target.admin.send(method, path, text.encode() if method == "POST" else None, headers)

    def made(self, name: str, *scopes: str, **more: str) -> str:
        answer = self.call("POST /api/v1/tokens", self.target.token(), {"name": name, "scopes": scopes, **more})
        assert answer.status == 200, answer.body
        return str(answer.json["items"][0]["secret"])


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """A bus at site P10 with a dead letter, one user for each role, and tokens for each role, right and site."""
    files = {"routes/a.yaml": ROUTES, "esb.yaml": SETTINGS}
    with attacked(tmp_path_factory.mktemp("roles"), files, "--no-watch") as target:
        dead = send(target, "/hold", lot="L-1")
        target.drained("hold")
        found = Plant(target, dead, target.status("hold")["digest"])
        for role in ROLES:
            words = {"name": role, "roles": [role], "password": PASSWORD}
            assert found.call("POST /api/v1/users", target.token(), words).status == 200
            found.people[role] = browser = Browser(target.bus.admin)
            assert browser.login("", user=role, password=PASSWORD).status == 303
            for site in ("", "@P10", "@P20"):
                found.tokens[role + site] = found.made(f"{role}-{site.strip('@')}x", role + site)
        for right in Right:
            found.tokens[f"right {right}"] = found.made(f"r-{right}", right)
        yield found
        for browser in found.people.values():
            browser.client.close()


def test_every_call_of_the_listener_is_in_a_table() -> None:
    nothing: Any = None
    app = admin_of(nothing, nothing, nothing, ManualClock(), Settings(), "token", print).app
    served = {
        f"{method} {'/'.join('{}' if part.startswith('{') else part for part in route.path.split('/'))}"
        for route in app.routes
        for method in route.methods - {"HEAD"}  # type: ignore[attr-defined]  # of this kind
    }
    names = {"hold", "ID", "VERSION", "L-1", "nobody", "none"}
    tabled = {
        " ".join("/".join("{}" if part in names else part for part in word.split("/")) for word in what.split())
        for what in (*API, *PAGES)
    }
    assert served - PUBLIC == tabled


@pytest.mark.parametrize("what", API)
def test_s30_each_role_may_what_the_table_says_at_its_own_site_and_nothing_elsewhere(plant: Plant, what: str) -> None:
    right, allowed, words = API[what]
    whole = right in ("audit", "people") or what in WHOLE
    wrong: dict[str, int] = {}
    for name, token in plant.tokens.items():
        role, _, site = name.partition("@")
        if role.startswith("right "):
            may = role == f"right {right}"
        else:
            may = role in allowed.split() and not (site and whole)
        answer = plant.call(what, token, words)
        if site == "P20" and may and what in LISTS:
            empty = answer.json["items"] == [] if "/api/v1/" in what else b'route="hold"' not in answer.body
            good = answer.status == 200 and empty
        elif site == "P20" and may:
            good = answer.status in (403, 404)
        elif may:
            good = answer.status < 400 or (answer.status, answer.json["code"]) in ((404, "not-found"), (400, "bad-request"))  # fmt: skip
        else:
            good = answer.status == 403 and answer.json["code"] == "forbidden"
            good = good or (answer.status == 404 and site == "P20")
        if not good:
            wrong[name] = answer.status
    assert wrong == {}
    assert plant.call(what, "", words).status == 401


@pytest.mark.parametrize("what", PAGES)
def test_s30_each_role_sees_and_does_on_the_pages_what_the_table_says(plant: Plant, what: str) -> None:
    allowed, form = PAGES[what]
    method, _, path = what.replace("ID", plant.dead).replace("VERSION", plant.version).partition(" ")
    found = {}
    for role, browser in plant.people.items():
        if method == "GET":
            found[role] = browser.get(path).status
        else:
            found[role] = browser.post(path, {"csrf": browser.csrf(), "reason": "a test", **form}).status
    assert [role for role, status in found.items() if status != 403] == allowed.split()
    assert set(found.values()) <= {200, 303, 400, 403, 404}, found
    stranger = Browser(plant.target.bus.admin)
    answer = stranger.get(path) if method == "GET" else stranger.post(path, {"csrf": "x", "reason": "r", **form})
    assert answer.status == 401
    stranger.client.close()


def test_s30_what_somebody_may_not_is_not_offered(plant: Plant) -> None:
    for role, browser in plant.people.items():
        pages = "".join(browser.get(path).body.decode() for path in ("/", "/dead", "/routes/hold"))
        offered = [what for what in ("/dead/retry", "/dead/discard", "/routes/hold/") if f'action="{what}' in pages]
        assert bool(offered) is (role in OPERATORS.split()), (role, offered)
        assert ('href="/audit"' in pages) is (role in ("auditor", "admin"))


def test_s30_a_token_never_opens_more_than_its_owner_may(plant: Plant) -> None:
    """Neither by its scopes, nor after the owner has lost a role or was disabled; what it makes is bound in the same way."""
    local = plant.target.token()

    def change(verb: str, **words: Any) -> None:
        assert plant.call(f"POST /api/v1/users/owner/{verb}", local, words).status == 200

    made = {"name": "Owner", "roles": ["admin"], "password": PASSWORD}
    assert plant.call("POST /api/v1/users", local, made).status == 200
    token = plant.made("owned", "admin", owner="OWNER")
    child = plant.call("POST /api/v1/tokens", token, {"name": "child", "scopes": ["admin"]}).json["items"][0]["secret"]
    both = (token, child)
    assert [plant.call("GET /api/v1/users", one, {}).status for one in both] == [200, 200]
    change("roles", roles=["viewer"])
    assert [plant.call("GET /api/v1/users", one, {}).status for one in both] == [403, 403]
    assert [plant.call("GET /api/v1/status", one, {}).status for one in both] == [200, 200]
    change("roles", roles=["operator@P20"])
    for one in both:
        assert plant.call("GET /api/v1/status", one, {}).json["items"] == []
        assert plant.call("POST /api/v1/dlq/retry", one, {"ids": ["ID"], "dry_run": True}).status == 404
        assert plant.call("POST /api/v1/routes/hold/pause", one, {}).status == 404
    change("disable")
    assert [plant.call("GET /api/v1/status", one, {}).status for one in both] == [401, 401]
    change("enable")
    assert plant.call("POST /api/v1/tokens/owned/revoke", local, {}).status == 200
    assert [plant.call("GET /api/v1/status", one, {}).status for one in both] == [401, 200]
    who = [
        entry["actor"]
        for entry in plant.call("GET /api/v1/audit", local, {}).json["items"]
        if entry["object"] == "child"
    ]
    assert who == ["token:owned"]


def test_made_up_tokens_open_nothing(plant: Plant) -> None:
    known = plant.tokens["admin"]
    for token in ("esb_000000000000_made-up", "esb_", "\xe9", known[:-1], known + "x", known[:17], known.upper()):
        assert plant.call("GET /api/v1/status", token, {}).status == 401, token


def test_no_hash_and_no_token_is_ever_shown(plant: Plant) -> None:
    admin = plant.tokens["admin"]
    text = b"".join(plant.call(f"GET /api/v1/{name}", admin, {}).body for name in ("users", "tokens", "audit"))
    assert b"argon2" not in text
    assert not [token for token in plant.tokens.values() if token.encode() in text]
    log = plant.target.bus.log()
    assert not [secret for secret in (*plant.tokens.values(), PASSWORD) if secret in log]
    store = b"".join(path.read_bytes() for path in (plant.target.root / ".esb").glob("bus.db*"))
    assert not [secret for secret in (*plant.tokens.values(), PASSWORD) if secret.encode() in store]


def test_the_documentation_has_the_table_of_roles() -> None:
    text = (ROOT / "docs" / "access.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \|[^|]*\|(.*)\|$", text, re.MULTILINE))
    documented = {name: [cell.strip() == "✓" for cell in cells.split("|")] for name, cells in rows.items()}
    assert documented == {str(right): [right in held for held in ROLES.values()] for right in Right}
