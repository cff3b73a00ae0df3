"""S31, and four eyes: in a regulated bus nothing is done without a signature, each is tied to its record, and what the policy names
needs somebody else."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from esb.store.chain import COLUMNS, link
from examples.demo.harness import until
from tests.admin.browsing import Browser, Page
from tests.admin.conftest import send
from tests.hostile.tools import Answer, Client, Target, attacked, esb

People = Callable[[Target], Browser]
PASSWORD, OTHER = "a plain old sentence", "quite another sentence"
ROUTES = """
route: hold
criticality: grave
key: body.lot
from: { http: { path: /hold, method: POST, format: json } }
steps:
  - reject: "no"
---
route: free
from: { http: { path: /free, method: POST, format: json } }
steps:
  - reject: "no"
"""
SETTINGS = """
bus: plant-graz
regulated: true
criticality: { grave: { within: 5s } }
approval: { discard: 3, edit: 1, replay: 2, always: [grave] }
"""


@dataclass
class Plant:
    target: Target

    def ask(self, path: str, words: dict[str, Any] | None = None, token: str = "") -> Answer:
        headers = {"Authorization": f"Bearer {token or self.target.token()}", "Content-Type": "application/json"}
        body = json.dumps(words).encode() if words is not None else None
        return self.target.admin.send("POST" if body else "GET", f"/api/v1/{path}", body, headers)

    def audit(self) -> list[dict[str, Any]]:
        return list(self.ask("audit?limit=10000").json["items"])

    def dead(self, route: str = "free") -> str:
        id_ = send(self.target, f"/{route}", lot=f"L-{self.target.sent}")
        self.target.sent += 1
        self.target.drained(route)
        return id_

    def state(self, id_: str) -> str:
        return str(self.ask(f"messages/{id_}").json["items"][0]["state"])


def sign(user: str, password: str = PASSWORD, meaning: str = "reviewed") -> dict[str, str]:
    return {"user": user, "password": password, "meaning": meaning}


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    files = {"routes/a.yaml": ROUTES, "esb.yaml": SETTINGS}
    with attacked(tmp_path_factory.mktemp("signed"), files) as target:
        found = Plant(target)
        for name, role, password in [
            ("mia", "engineer", PASSWORD),
            ("joe", "operator", OTHER),
            ("eva", "viewer", PASSWORD),
        ]:
            words = {"name": name, "roles": [role], "password": password, "full_name": f"{name.title()} Huber"}
            assert found.ask("users", words).status == 200
        yield found


#: what needs a signature; ``ID`` is a dead letter of the route where nothing waits for a second person
ACTIONS: dict[str, dict[str, Any]] = {
    "dlq/retry": {"ids": ["ID"]},
    "dlq/discard": {"ids": ["ID"]},
    "replay": {"ids": ["ID"]},
    "dlq/edit": {"id": "ID", "body": "{}"},
    "routes/free/pause": {},
    "routes/free/resume": {},
    "routes/free/send": {"body": "{}"},
    "routes/free/rollback": {"version": "VERSION"},
    "reload": {},
}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "none": ({"reason": "r"}, "signature-required"),
    "a session or a token alone": ({"reason": "r", "signature": {"user": "mia", "meaning": "m"}}, "signature-required"),
    "no object": ({"reason": "r", "signature": "mia"}, "signature-required"),
    "wrong password": ({"reason": "r", "signature": sign("mia", "wrong one here")}, "signature-wrong"),
    "somebody else's password": ({"reason": "r", "signature": sign("mia", OTHER)}, "signature-wrong"),
    "nobody": ({"reason": "r", "signature": sign("nobody")}, "signature-wrong"),
    "no reason": ({"signature": sign("mia")}, "signature-required"),
    "blank reason": ({"reason": " \t", "signature": sign("mia")}, "signature-required"),
    "blank meaning": ({"reason": "r", "signature": sign("mia", meaning="  ")}, "signature-required"),
    "without the right": ({"reason": "r", "signature": sign("eva")}, "forbidden"),
}


@pytest.mark.parametrize("how", BAD)
def test_s31_without_a_whole_signature_nothing_is_done(plant: Plant, how: str) -> None:
    words, code = BAD[how]
    dead = plant.dead()
    version = plant.ask("routes/free/versions").json["items"][0]["digest"]
    (plant.target.root / "routes" / "a.yaml").write_text(ROUTES + "# changed\n")
    before = [entry for entry in plant.audit() if entry["action"] != "signature.refused"]
    tries = code == "signature-wrong"  # each costs one, and ten are too many
    actions = ["dlq/retry", "routes/free/pause"] if tries else list(ACTIONS)
    for path in actions:
        text = json.dumps({**ACTIONS[path], **words}).replace("ID", dead).replace("VERSION", version)
        answer = plant.ask(path, json.loads(text))
        codes = (code, "not-allowed") if "reason" in how else (code,)
        assert answer.json.get("code") in codes, (path, answer.body)
    after = plant.audit()
    assert [entry for entry in after if entry["action"] != "signature.refused"] == before
    assert plant.state(dead) == "dead"
    if code == "signature-wrong":
        assert after[-1]["action"] == "signature.refused"
        assert "wrong one" not in json.dumps(after)
    (plant.target.root / "routes" / "a.yaml").write_text(ROUTES)


def test_a_signature_says_who_when_and_what_it_means_and_is_tied_to_the_record(plant: Plant) -> None:
    dead = plant.dead()
    words = {"ids": [dead], "reason": "ERP back", "actor": "the boss", "signature": sign("MIA", meaning="released")}
    assert plant.ask("dlq/retry", words).json["items"][0]["result"] == "queued"
    entry = next(entry for entry in plant.audit() if entry["action"] == "dlq.retry" and entry["object"] == dead)
    signature = entry["detail"]["signature"]
    assert (entry["actor"], entry["reason"]) == ("mia", "ERP back")
    assert (signature["user"], signature["name"], signature["meaning"]) == ("mia", "Mia Huber", "released")
    assert set(signature) == {"user", "name", "meaning", "signed_at", "record", "binding"}
    for path, more in [
        ("routes/free/pause", {}),
        ("routes/free/resume", {}),
        ("routes/free/send", {"body": "{}"}),
        ("reload", {}),
    ]:
        assert plant.ask(path, {"reason": "r", "signature": sign("mia"), **more}).status == 200, path
    signed = {e["action"] for e in plant.audit() if "signature" in e["detail"]}
    assert signed >= {"dlq.retry", "route.pause", "route.resume", "send.signature", "reload.signature"}
    assert plant.ask("audit/verify").json["items"] == []


def test_files_alone_change_nothing(plant: Plant) -> None:
    path = plant.target.root / "routes" / "b.yaml"
    path.write_text(ROUTES.replace("hold", "held").replace("free", "fres"))
    answer = plant.ask("reload", {"reason": "change 12", "signature": sign("joe", OTHER)})
    assert answer.json["code"] == "forbidden", "an operator may not"
    assert "held" not in [item["route"] for item in plant.ask("routes").json["items"]]
    answer = plant.ask("reload", {"reason": "change 12", "signature": sign("mia")})
    assert "held" in answer.json["items"][0]["added"]
    path.unlink()
    assert plant.ask("reload", {"reason": "undone", "signature": sign("mia")}).status == 200


def test_the_command_line_signs_too(plant: Plant) -> None:
    dead = plant.dead()
    root = plant.target.root
    refused = esb("dlq", "retry", dead, "--reason", "ERP back", cwd=root)
    assert (refused.returncode, "password again" in refused.stderr) == (77, True)
    who = {"ESB_SIGN_USER": "joe", "ESB_SIGN_PASSWORD": OTHER, "ESB_SIGN_MEANING": "ERP is back"}
    assert esb("dlq", "retry", dead, "--reason", "ERP back", cwd=root, **who).returncode == 0
    assert plant.audit()[-1]["detail"]["signature"]["user"] == "joe"


def login(person: Browser, user: str, password: str) -> Browser:
    assert person.login("", user=user, password=password).status == 303
    return person


def test_the_pages_ask_for_the_password_again(plant: Plant, people: People) -> None:
    joe = login(people(plant.target), "joe", OTHER)
    dead = plant.dead()
    page = joe.get(f"/messages/{dead}").body.decode()
    assert 'name="meaning"' in page
    form = {"csrf": joe.csrf(), "reason": "ERP back"}
    for more in ({}, {"meaning": "m"}, {"meaning": "m", "password": PASSWORD}, {"meaning": "", "password": OTHER}):
        assert joe.post(f"/messages/{dead}/retry", {**form, **more}).status == 403, more
    assert plant.state(dead) == "dead"
    told = Page(joe.act(f"/messages/{dead}/retry", reason="ERP back", meaning="ERP is back", password=OTHER))
    assert "Retry: 1 queued" in told.text
    plant.target.drained("free")
    plant.ask("users", {"name": "ada", "roles": ["auditor"], "password": PASSWORD})
    ada = login(people(plant.target), "ada", PASSWORD)
    assert "signed by Joe Huber (joe)" in Page(ada.get("/audit")).text
    assert PASSWORD not in plant.target.bus.log()


def test_each_message_of_a_bulk_retry_stands_under_the_signature_of_who_began_it(plant: Plant, people: People) -> None:
    dead = plant.dead()
    words = {"ids": [dead], "reason": "ERP back", "rate": "20/s", "background": True}
    assert plant.ask("dlq/retry", words).json["code"] == "signature-required"
    (job,) = plant.ask("dlq/retry", {**words, "signature": sign("mia", meaning="released")}).json["items"]
    assert (job["result"], job["by"], job["total"]) == ("started", "mia", 1)
    until(lambda: plant.ask(f"dlq/bulk/{job['job']}").json["items"][0]["state"] == "done", within=30.0, what="it ends")
    plant.target.drained("free")
    (entry,) = [one for one in plant.audit() if one["action"] == "dlq.retry" and one["object"] == dead]
    assert (entry["actor"], entry["detail"]["signature"]["meaning"]) == ("mia", "released")
    mia = login(people(plant.target), "mia", PASSWORD)
    form = {"csrf": mia.csrf(), "reason": "typo", "payload": "{}"}
    tried = mia.post(f"/messages/{dead}/edit", {**form, "do": "try"})
    assert tried.status == 200
    assert 'name="meaning"' in tried.body.decode()
    assert mia.post(f"/messages/{dead}/edit", {**form, "do": "save"}).status == 403, "saving needs the password again"


# -- four eyes ------------------------------------------------------------------------------------------------------------
def test_what_the_policy_names_waits_for_somebody_else(plant: Plant, people: People) -> None:
    ids = [plant.dead() for _ in range(3)]
    asked = plant.ask("dlq/discard", {"ids": ids, "reason": "test data", "signature": sign("mia")})
    assert asked.status == 202
    (request,) = {item["approval"] for item in asked.json["items"]}
    assert {item["result"] for item in asked.json["items"]} == {"waits"}
    assert [plant.state(id_) for id_ in ids] == ["dead"] * 3
    at = f"approvals/{request}"
    for words, code in [
        ({"reason": "ok"}, "signature-required"),
        ({"reason": "ok", "signature": sign("mia")}, "forbidden"),
        ({"reason": "ok", "signature": sign("eva")}, "forbidden"),
        ({"reason": "", "signature": sign("joe", OTHER)}, "not-allowed"),
    ]:
        answer = plant.ask(f"{at}/approve", words)
        assert answer.json["code"] == code, answer.body
    later = plant.dead()
    joe = login(people(plant.target), "joe", OTHER)
    page = Page(joe.get("/approvals"))
    assert "Discard 3 messages of free" in page.text
    assert page.strange == []
    told = joe.act(f"/approvals/{request}/approve", reason="seen", meaning="approved", password=OTHER)
    assert "Approved: 3 discarded" in Page(told).text
    assert [plant.state(id_) for id_ in (*ids, later)] == ["discarded"] * 3 + ["dead"], "exactly what was asked for"
    entries = [entry for entry in plant.audit() if entry["object"] in ids and entry["action"] == "dlq.discard"]
    assert {(e["actor"], e["detail"]["approved_by"], e["detail"]["approval"], e["detail"]["signature"]["user"]) for e in entries} == {("mia", "joe", request, "joe")}  # fmt: skip
    assert (
        plant.ask(f"{at}/approve", {"reason": "again", "signature": sign("joe", OTHER)}).json["code"] == "not-allowed"
    )
    assert plant.ask("audit/verify").json["items"] == []


@contextmanager
def beside(plant: Plant) -> Iterator[Plant]:
    """The same bus over a connection of its own, for who asks at the same time, or after a restart."""
    with closing(Client(plant.target.bus.admin)) as client:
        yield Plant(replace(plant.target, admin=client))


def test_what_is_approved_twice_is_done_once(plant: Plant) -> None:
    """A double click, or a second approver while what the first one said yes to goes on: each message is replayed once."""
    ids = [plant.dead() for _ in range(4)]
    words = {"ids": ids, "reason": "the MES lost it", "rate": "3/s", "signature": sign("mia")}
    request = plant.ask("replay", words).json["items"][0]["approval"]
    at, yes = f"approvals/{request}/approve", {"reason": "ok", "signature": sign("joe", OTHER)}

    def state() -> str:
        return next(str(one["state"]) for one in plant.ask("approvals").json["items"] if one["approval"] == request)

    with beside(plant) as joe, ThreadPoolExecutor(1) as other:
        first = other.submit(joe.ask, at, yes)
        until(lambda: state() == "approved", within=30.0, what="it is being done")
        second = plant.ask(at, yes)
        assert (second.status, second.json["code"]) == (409, "conflict"), second.body
        assert first.result().json["items"][0]["results"] == {"replayed": 4}
    replays = [one for one in plant.audit() if one["action"] == "replay" and one["object"] in ids]
    assert sorted(one["object"] for one in replays) == sorted(ids)


def test_what_was_replayed_before_the_bus_died_is_not_replayed_again_by_the_same_approval(tmp_path: Path) -> None:
    settings = SETTINGS.replace("regulated: true\n", "")
    with attacked(tmp_path / "plant", {"routes/a.yaml": ROUTES, "esb.yaml": settings}) as target:
        plant = Plant(target)
        for name, role in (("mia", "engineer"), ("joe", "operator")):
            assert plant.ask("users", {"name": name, "roles": [role], "password": PASSWORD}).status == 200
        ids = [plant.dead() for _ in range(3)]
        words = {"ids": ids, "reason": "the MES lost it", "rate": "1/h", "signature": sign("mia")}
        request = plant.ask("replay", words).json["items"][0]["approval"]
        yes = {"reason": "ok", "signature": sign("joe")}

        for number in (1, 2):
            with beside(plant) as joe, beside(plant) as eye, ThreadPoolExecutor(1) as other:
                other.submit(joe.ask, f"approvals/{request}/approve", yes)
                until(lambda: len(replayed(eye)) == number, within=30.0, what="one more")  # noqa: B023 - asked at once
                target.bus.kill()
            target.bus.start()
        with beside(plant) as eye:
            assert sorted(replayed(eye)) == sorted(ids[:2])


def replayed(plant: Plant) -> list[str]:
    return [str(one["object"]) for one in plant.audit() if one["action"] == "replay"]


def test_an_edit_waits_with_its_payload_and_only_for_the_message_as_it_was(plant: Plant) -> None:
    dead = plant.dead()

    def ask(body: str) -> str:
        words = {"id": dead, "body": body, "reason": "typo", "signature": sign("mia")}
        return str(plant.ask("dlq/edit", words).json["items"][0]["approval"])

    plant.ask("users", {"name": "kim", "roles": ["engineer"], "password": PASSWORD})
    first, second, third = ask('{"lot": "A"}'), ask('{"lot": "B"}'), ask('{"lot": "C"}')
    listed = {item["approval"]: item for item in plant.ask("approvals").json["items"]}
    assert listed[first]["body_base64"]
    assert plant.ask(f"approvals/{first}/approve", {"reason": "ok", "signature": sign("joe", OTHER)}).json["code"] == "forbidden"  # fmt: skip
    done = plant.ask(f"approvals/{first}/approve", {"reason": "ok", "signature": sign("kim")})
    assert done.json["items"][0]["results"] == {"edited": 1}
    stale = plant.ask(f"approvals/{second}/approve", {"reason": "ok", "signature": sign("kim")})
    assert "changed after" in stale.json["detail"]
    assert plant.ask(f"approvals/{second}/deny", {"reason": "no", "signature": sign("kim")}).status == 200
    assert plant.ask(f"approvals/{third}/deny", {"reason": "mistaken", "signature": sign("mia")}).status == 200
    assert plant.ask(f"approvals/{third}/approve", {"reason": "ok", "signature": sign("kim")}).status == 409
    assert json.loads(plant.ask(f"messages/{dead}").json["items"][0]["body"]) == {"lot": "A"}


def test_grave_routes_wait_however_few_and_dry_runs_never(plant: Plant) -> None:
    dead = plant.dead("hold")
    dry = plant.ask("dlq/discard", {"ids": [dead], "reason": "r", "dry_run": True})
    assert dry.json["items"][0]["result"] == "would discard"
    root = plant.target.root
    who = {"ESB_SIGN_USER": "mia", "ESB_SIGN_PASSWORD": PASSWORD, "ESB_SIGN_MEANING": "m"}
    waits = esb("dlq", "discard", dead, "--reason", "r", cwd=root, **who)
    assert (waits.returncode, "needs a second person" in waits.stdout) == (75, True), waits.stderr
    (item,) = json.loads(esb("approvals", "ls", "--json", cwd=root).stdout)["items"]
    who = {"ESB_SIGN_USER": "joe", "ESB_SIGN_PASSWORD": OTHER, "ESB_SIGN_MEANING": "m"}
    done = esb("approvals", "approve", item["approval"], "--reason", "ok", cwd=root, **who)
    assert done.stdout.strip() == f"{item['approval']}: done (1 discarded)"


# -- what a thief of the store could try ----------------------------------------------------------------------------------
def rewritten(source: Path, target: Path, change: Callable[[list[dict[str, Any]]], None]) -> list[str]:
    """What `verify` says of a store whose audit was written anew, with every hash right again."""
    from esb.clock import SystemClock
    from esb.store import open_store

    target.parent.mkdir()
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new, new:
        old.backup(new)
        rows = [
            dict(zip(COLUMNS, row, strict=True))
            for row in new.execute(f"SELECT {', '.join(COLUMNS)} FROM audit ORDER BY seq")
        ]
        change(rows)
        before = "0" * 64
        for row in rows:
            row["prev_hash"] = before
            row["hash"] = before = link(row)
            new.execute(
                "UPDATE audit SET detail = :detail, actor = :actor, prev_hash = :prev_hash, hash = :hash WHERE seq = :seq",
                row,
            )
        new.execute("UPDATE meta SET value = ? WHERE name = 'audit_head'", (f"{rows[-1]['seq']} {before}",))
        new.commit()
    old.close()
    new.close()

    import asyncio

    async def verify() -> list[str]:
        store = await open_store(f"sqlite:///{target}", target.parent, clock=SystemClock(), read_only=True)
        try:
            return store.verify_audit()
        finally:
            await store.close()

    return asyncio.run(verify())


def test_s31_a_signature_taken_to_another_entry_or_away_shows(plant: Plant, tmp_path: Path) -> None:
    plant.ask("users", {"name": "ida", "roles": ["auditor"], "password": PASSWORD, "reason": "r"})
    hold = {"track": "lot=L-9", "reason": "complaint"}
    assert plant.ask("holds/place", hold).json["code"] == "signature-required"
    assert plant.ask("holds/place", {**hold, "signature": sign("ida")}).status == 200
    assert plant.ask("routes/free/pause", {"reason": "r", "signature": sign("mia")}).status == 200
    assert plant.ask("routes/free/resume", {"reason": "r", "signature": sign("mia")}).status == 200
    source = tmp_path / "bus.db"
    backup = esb("db", "backup", str(source), cwd=plant.target.root)
    assert backup.returncode == 0, backup.stderr

    def last(rows: list[dict[str, Any]], action: str) -> dict[str, Any]:
        return [row for row in rows if row["action"] == action][-1]

    def copy(rows: list[dict[str, Any]]) -> None:
        last(rows, "route.resume")["detail"] = last(rows, "route.pause")["detail"]

    def remove(rows: list[dict[str, Any]]) -> None:
        last(rows, "route.resume")["detail"] = "{}"

    def remove_of_hold(rows: list[dict[str, Any]]) -> None:
        last(rows, "hold.place")["detail"] = "{}"

    def somebody_else(rows: list[dict[str, Any]]) -> None:
        last(rows, "route.resume")["actor"] = "joe"

    for number, (change, said) in enumerate([(copy, "was not given for it"), (remove, "has no signature"), (somebody_else, "was not given for it")]):  # fmt: skip
        faults = rewritten(source, tmp_path / f"store{number}" / "bus.db", change)
        assert [said in fault for fault in faults] != [], faults
        assert all(said in fault for fault in faults), faults
    faults = rewritten(source, tmp_path / "held" / "bus.db", remove_of_hold)
    assert any("(hold.place) has no signature" in fault for fault in faults), faults


def test_a_stopped_bus_asks_for_signatures_as_well(plant: Plant, tmp_path: Path) -> None:
    dead = plant.dead()
    root = tmp_path / "stopped"
    (root / ".esb").mkdir(parents=True)
    assert esb("db", "backup", str(root / ".esb" / "bus.db"), cwd=plant.target.root).returncode == 0
    (root / "esb.yaml").write_text("bus: plant-graz\n")  # and no word of `regulated`
    refused = esb("dlq", "discard", dead, "--reason", "r", cwd=root)
    assert (refused.returncode, "password again" in refused.stderr) == (77, True), refused.stderr
    who = {"ESB_SIGN_USER": "mia", "ESB_SIGN_PASSWORD": PASSWORD, "ESB_SIGN_MEANING": "m"}
    assert esb("dlq", "discard", dead, "--reason", "r", cwd=root, **who).returncode == 0
    prune = ("db", "prune", "--done", "1d", "--reason", "space")
    assert "password again" in esb(*prune, cwd=root).stderr
    assert "it takes an admin" in esb(*prune, cwd=root, **who).stderr
    assert esb("users", "roles", "mia", "--role", "admin", cwd=root).returncode == 0
    assert esb(*prune, cwd=root, **who).returncode == 0
    assert esb("audit", "verify", cwd=root).returncode == 0
    shutil.rmtree(root)
