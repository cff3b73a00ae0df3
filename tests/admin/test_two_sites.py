"""S30: one bus for two plants: who belongs to one of them neither sees nor touches what is the other's, by whatever word."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.admin.browsing import Browser
from tests.admin.conftest import send
from tests.hostile.tools import Answer, Target, attacked

TEMPLATE = """
template: hold
routes:
  - route: hold
    key: body.lot
    track: { lot: body.lot }
    from: { http: { path: "/{{ site.id | lower }}", method: POST, format: json } }
    steps:
      - reject: "no lot {{ '{{ body.lot }}' }}"
"""
PASSWORD = "a plain old sentence"


@dataclass
class Plants:
    target: Target
    route: dict[str, str]
    dead: dict[str, str]
    tokens: dict[str, str]

    def ask(self, site: str, path: str, words: dict[str, Any] | None = None) -> Answer:
        headers = {"Authorization": f"Bearer {self.tokens[site]}", "Content-Type": "application/json"}
        body = json.dumps({"reason": "r", **words}).encode() if words is not None else None
        return self.target.admin.send("POST" if body else "GET", f"/api/v1/{path}", body, headers)


@pytest.fixture(scope="module")
def plants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plants]:
    files = {"esb.yaml": "bus: two\n", "routes/hold.yaml": TEMPLATE.replace("{{ '{{ body.lot }}' }}", "")}
    files |= {f"routes/sites/{site}.yaml": f"site: {site}\nuse: [ {{ template: hold }} ]\n" for site in ("P10", "P20")}
    with attacked(tmp_path_factory.mktemp("sites"), files, "--no-watch") as target:
        found = Plants(target, {}, {}, {"": target.token()})
        names = [item["route"] for item in found.ask("", "routes").json["items"]]
        for site in ("P10", "P20"):
            found.route[site] = next(name for name in names if site.lower() in name.lower())
            found.dead[site] = send(target, f"/{site.lower()}", lot=f"LOT-{site}")
            target.drained(found.route[site])
            for role in ("engineer", "viewer"):
                words = {"name": f"{role}-{site}", "scopes": [f"{role}@{site}"]}
                found.tokens[f"{role}@{site}"] = found.ask("", "tokens", words).json["items"][0]["secret"]
        words = {"name": "joe", "roles": ["engineer@P10", "viewer@P20"], "password": PASSWORD}
        assert found.ask("", "users", words).status == 200
        yield found


LISTS = ("status", "routes", "messages", "messages?key=LOT-P20", "messages?track=lot=LOT-P20", "messages?state=dead", "dlq",
         "dlq/groups", "trace/LOT-P20", "messages?text=LOT-P20")  # fmt: skip


@pytest.mark.parametrize("path", LISTS)
def test_lists_hold_only_what_is_of_the_own_site(plants: Plants, path: str) -> None:
    body = plants.ask("engineer@P10", path).body
    assert b"P20" not in body.replace(b"LOT-P20", b"P20") if "LOT-P20" not in path else b'"items":[]' in body
    assert plants.route["P20"].encode() not in body
    if "LOT-P20" not in path:
        assert plants.route["P10"].encode() in body
    assert plants.route["P20"].encode() in plants.ask("engineer@P20", path).body
    assert plants.ask("engineer@P10", "messages?route=" + plants.route["P20"]).status == 404


def test_nothing_of_the_other_site_can_be_acted_on_by_whatever_word(plants: Plants) -> None:
    there, dead = plants.route["P20"], plants.dead["P20"]
    (group,) = plants.ask("", f"dlq/groups?route={there}").json["items"]
    both = [plants.dead["P10"], dead]
    tries: list[tuple[str, dict[str, Any]]] = [
        (f"routes/{there}/pause", {}),
        (f"routes/{there}/send", {"body": "{}"}),
        (f"routes/{there}/rollback", {"version": "x"}),
        ("dlq/edit", {"id": dead, "body": "{}"}),
        ("reload", {}),
    ]
    for action in ("dlq/retry", "dlq/discard", "replay"):
        tries += [(action, words) for words in (
            {"ids": [dead]}, {"ids": both}, {"ids": dead}, {"route": there}, {"group": group["group"]}, {"all": True}, {"key": "LOT-P20"},
            {"ids": [dead], "route": plants.route["P10"]}, {"group": group["group"], "route": plants.route["P10"]},
        )]  # fmt: skip
    before = len(plants.ask("", "audit?limit=10000").json["items"])
    for path, words in tries:
        answer = plants.ask("engineer@P10", path, words)
        empty = answer.status == 200 and answer.json["items"] == []
        assert answer.status in (403, 404) or empty, (path, words, answer.body)
    assert len(plants.ask("", "audit?limit=10000").json["items"]) == before
    assert plants.ask("", f"messages/{dead}").json["items"][0]["state"] == "dead"
    for path in (f"messages/{dead}", f"routes/{there}/versions", f"routes/{there}/traffic", f"routes/{plants.route['P10']}/traffic?id={dead}"):  # fmt: skip
        answer = plants.ask("engineer@P10", path)
        assert answer.status == 404, (path, answer.body)
    done = plants.ask("engineer@P10", "dlq/retry", {"route": plants.route["P10"], "dry_run": True})
    assert [item["result"] for item in done.json["items"]] == ["would retry"]


def test_one_person_may_have_two_roles_at_two_sites(plants: Plants, people: Callable[[Target], Browser]) -> None:
    joe = people(plants.target)
    assert joe.login("", user="joe", password=PASSWORD).status == 303
    for site, may in (("P10", True), ("P20", False)):
        page = joe.get(f"/messages/{plants.dead[site]}")
        assert page.status == 200
        assert ('action="/messages/' in page.body.decode()) is may
        form = {"csrf": joe.csrf(), "reason": "r"}
        assert joe.post(f"/messages/{plants.dead[site]}/retry", form).status == (303 if may else 403)
    dead = joe.get("/dead").body.decode()
    assert dead.count('action="/dead/retry"') <= 1


def test_how_the_other_site_went_is_not_shown_either(plants: Plants, people: Callable[[Target], Browser]) -> None:
    here, there = plants.route["P10"], plants.route["P20"]
    assert plants.ask("viewer@P10", f"trends?route={here}").json["items"][0]["route"] == here
    assert plants.ask("viewer@P10", f"trends?route={there}").status == 404
    assert plants.ask("viewer@P10", "trends").status == 403, "it is of both"
    words = {"name": "ana", "roles": ["viewer@P10"], "password": PASSWORD}
    assert plants.ask("", "users", words).status == 200
    ana = people(plants.target)
    assert ana.login("", user="ana", password=PASSWORD).status == 303
    for path in ("/", "/topology", "/live", f"/routes/{here}"):
        body = ana.get(path).body.decode()
        assert here in body
        assert there not in body
        assert ("<figure" in body) == (path not in ("/", "/topology", "/live"))
    sites = ana.get("/sites").body.decode()
    assert f"/dead?route={here}" in sites, "what is dead there leads to it"
    assert there not in sites
    digest = plants.ask("", f"routes/{there}/versions").json["items"][0]["digest"]
    assert ana.get(f"/routes/{there}").status == 404
    assert ana.get(f"/routes/{there}/versions/{digest}").status == 404
    assert ana.get(f"/live?route={there}").status == 404
