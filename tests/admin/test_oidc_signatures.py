"""S31 for people whose password only the provider knows: they log in there again, for one act, which is bound to it; nothing else signs.
And who may come to a regulated bus is itself signed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.admin.browsing import Browser, Page
from tests.admin.conftest import send
from tests.admin.provider import OpenId, provider
from tests.admin.test_oidc import SETTINGS, ask, come_back, login
from tests.hostile.tools import Answer, Target, attacked, esb

People = Callable[[Target], Browser]
ROUTE = 'route: free\nfrom: { http: { path: /free, method: POST, format: json } }\nsteps:\n  - reject: "no"\n'
JOE = {"sub": "1", "preferred_username": "joe", "name": "Joe Huber", "groups": ["shift"]}
BOB = {"sub": "7", "preferred_username": "bob", "name": "Bob Maier", "groups": ["shift"]}
ADA = {"sub": "9", "preferred_username": "ada", "name": "Ada Gruber", "groups": ["boss"]}


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Target, OpenId]]:
    with provider() as openid:
        settings = "regulated: true" + SETTINGS.replace("quality:", "boss: [admin], quality:") % openid.issuer
        files = {"routes/a.yaml": ROUTE, "esb.yaml": settings}
        with attacked(tmp_path_factory.mktemp("signing"), files, "--no-watch", ESB_SECRET_OIDC="secret-of-the-client") as target:  # fmt: skip
            yield target, openid


def entered(plant: tuple[Target, OpenId], people: People, person: dict[str, Any]) -> Browser:
    """Somebody who is logged in by the provider."""
    target, openid = plant
    openid.person, openid.change, openid.signed = dict(person), lambda _: None, None
    somebody = people(target)
    assert login(somebody, openid).status == 200
    return somebody


def dead(target: Target) -> str:
    id_ = send(target, "/free", lot="L-1")
    target.drained("free")
    return id_


def state(target: Target, id_: str) -> str:
    return str(ask(target, f"messages/{id_}")[0]["state"])


def asked(person: Browser, id_: str, **more: str) -> str:
    """The form of a retry, sent without a password; the page where it is to be signed."""
    form = {"csrf": person.csrf(), "reason": "ERP back", "meaning": "released", **more}
    answer = person.post(f"/messages/{id_}/retry", form)
    assert answer.status == 303, answer.body
    assert answer.headers["location"].startswith("/sign/")
    return str(answer.headers["location"])


def log_in_again(person: Browser, openid: OpenId, page: str, *, spoil: Callable[[Browser], None] = lambda _: None) -> Answer:  # fmt: skip
    """Follow the link of the page to the provider, and come back."""
    session = person.cookie
    out = person.get(f"/login/oidc?sign={page.rpartition('/')[2]}")
    assert out.status == 303, out.body
    assert "prompt=login" in out.headers["location"]
    assert "max_age=0" in out.headers["location"]
    path = openid.authorize(out.headers["location"])
    person.cookie = out.headers["set-cookie"].partition(";")[0]  # a redirect from elsewhere brings no strict cookie
    spoil(person)
    back = come_back(person, path)
    person.cookie = session
    return back


def sent(person: Browser, page: str, **changes: str) -> Answer:
    """Press the button of the page, once its login is given."""
    shown = person.get(page).body.decode()
    where = re.search(r'<form class="act" method="post" action="([^"]+)"', shown)
    assert where is not None, shown
    form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', shown))
    form |= dict(re.findall(r'<textarea name="(\w+)" hidden readonly>\n([^<]*)</textarea>', shown))
    return person.post(where[1], {**form, **changes})


def entries(target: Target, id_: str, action: str = "dlq.retry") -> list[dict[str, Any]]:
    found = ask(target, "audit?limit=10000")
    return [one for one in found if one["action"] == action and one["object"] == id_]


def test_who_logs_in_again_signs_this_one_act(plant: tuple[Target, OpenId], people: People) -> None:
    target, openid = plant
    joe, id_ = entered(plant, people, JOE), dead(plant[0])
    page = joe.get(f"/messages/{id_}").body.decode()
    assert "log in at Graz &lt;ID&gt; again" in page
    assert 'name="password"' not in page
    place = asked(joe, id_)
    assert state(target, id_) == "dead"
    first = joe.get(place)
    assert Page(first).strange == []
    assert "released" in Page(first).text
    assert "Sign and do it" not in Page(first).text
    assert log_in_again(joe, openid, place).status == 200
    assert Page(joe.get(place)).strange == []
    assert state(target, id_) == "dead", "coming back alone does nothing"
    assert sent(joe, place).status == 303
    target.drained("free")
    (entry,) = entries(target, id_)
    signature = entry["detail"]["signature"]
    assert (entry["actor"], signature["user"], signature["name"], signature["meaning"]) == ("joe", "joe", "Joe Huber", "released")  # fmt: skip
    assert signature["provider"] == openid.issuer
    assert set(signature) >= {"authenticated_at", "signed_at", "record", "binding"}
    assert joe.get(place).status == 404, "it counts once"
    assert ask(target, "audit/verify") == []


def fixed(**claims: Any) -> Callable[[dict[str, Any]], None]:
    def change(found: dict[str, Any]) -> None:
        found.update(claims)
        for name in [name for name, value in claims.items() if value is None]:
            del found[name]

    return change


def before(found: dict[str, Any]) -> None:
    found["auth_time"] = found["iat"] - 30


LOGINS: dict[str, Callable[[dict[str, Any]], None]] = {
    "a login from before": before,
    "a login from tomorrow": lambda found: found.update(auth_time=found["iat"] + 3600),
    "no time of the login": fixed(auth_time=None),
    "a time that is none": fixed(auth_time=True),
    "a time as text": lambda found: found.update(auth_time=str(found["iat"])),
    "somebody else": fixed(**{name: BOB[name] for name in ("sub", "preferred_username")}),
    "another subject under the name": fixed(sub="2"),
    "no group any more": fixed(groups=[]),
    "another login": fixed(nonce="x"),
}


@pytest.mark.parametrize("what", LOGINS)
def test_s31_a_login_that_is_not_now_and_not_theirs_signs_nothing(plant: tuple[Target, OpenId], people: People, what: str) -> None:  # fmt: skip
    target, openid = plant
    joe, id_ = entered(plant, people, JOE), dead(plant[0])
    place = asked(joe, id_)
    openid.change = LOGINS[what]
    assert log_in_again(joe, openid, place).status == 403
    openid.change = lambda _: None
    shown = joe.get(place)
    assert "Sign and do it" not in shown.body.decode()
    form = {"csrf": joe.csrf(), "reason": "ERP back", "meaning": "released", "proof": place.rpartition("/")[2]}
    assert joe.post(f"/messages/{id_}/retry", form).status == 403
    assert state(target, id_) == "dead"
    assert entries(target, id_) == []
    refused = [one for one in ask(target, "audit?limit=10000") if one["action"] == "signature.refused"]
    assert len(refused) >= 2
    target.alive()


def test_s31_a_proof_is_good_for_nothing_else(plant: tuple[Target, OpenId], people: People) -> None:
    target, openid = plant
    joe, id_, other = entered(plant, people, JOE), dead(plant[0]), dead(plant[0])
    place = asked(joe, id_)
    proof = place.rpartition("/")[2]
    bob = entered(plant, people, BOB)
    assert bob.get(place).status == 404
    assert bob.get(f"/login/oidc?sign={proof}").status == 404, "nobody signs for somebody else"
    openid.person = dict(JOE)
    assert log_in_again(joe, openid, place).status == 200
    good = {"csrf": joe.csrf(), "reason": "ERP back", "meaning": "released", "proof": proof}
    for path, form in [
        (f"/messages/{other}/retry", good),
        (f"/messages/{id_}/discard", good),
        (f"/messages/{id_}/retry", {**good, "reason": "another"}),
        (f"/messages/{id_}/retry", {**good, "meaning": "reviewed"}),
        (f"/messages/{id_}/retry", {**good, "stale": "1"}),
        (f"/messages/{id_}/retry", {**good, "proof": "x" * 32}),
    ]:
        assert joe.post(path, form).status == 403, (path, form)
    mallory = {**good, "csrf": bob.csrf()}
    assert bob.post(f"/messages/{id_}/retry", mallory).status == 403
    assert (state(target, id_), state(target, other)) == ("dead", "dead")
    assert joe.post(f"/messages/{id_}/retry", good).status == 303
    target.drained("free")
    assert joe.post(f"/messages/{id_}/retry", good).status == 403, "and it is used up"
    assert len(entries(target, id_)) == 1


def test_a_program_of_theirs_signs_in_two_steps(plant: tuple[Target, OpenId], people: People) -> None:
    target, openid = plant
    joe, id_ = entered(plant, people, JOE), dead(plant[0])

    def retry(**sign: str) -> Answer:
        words = {"ids": [id_], "reason": "ERP back", "signature": {"user": "joe", "meaning": "released", **sign}}
        headers = {"Authorization": f"Bearer {target.token()}", "Content-Type": "application/json"}
        return target.admin.send("POST", "/api/v1/dlq/retry", json.dumps(words).encode(), headers)

    needed = retry()
    assert (needed.status, needed.json["code"]) == (403, "signature-elsewhere")
    place = "/sign/" + needed.json["detail"].rpartition("/")[2]
    assert retry(password="a plain old sentence").json["code"] == "signature-elsewhere"
    assert log_in_again(joe, openid, place).status == 200
    assert "ESB_SIGN_PROOF" in Page(joe.get(place)).text
    proof = place.rpartition("/")[2]
    assert retry(proof=proof, meaning="reviewed").json["code"] == "signature-wrong"
    assert retry(proof=proof).json["items"][0]["result"] == "queued"
    assert retry(proof=proof).json["code"] == "signature-wrong"


def test_the_command_line_signs_in_two_steps_as_well(plant: tuple[Target, OpenId], people: People) -> None:
    target, openid = plant
    joe, id_ = entered(plant, people, JOE), dead(plant[0])
    words = ("dlq", "retry", id_, "--reason", "ERP back")
    who = {"ESB_SIGN_USER": "joe", "ESB_SIGN_MEANING": "released"}
    first = esb(*words, cwd=target.root, **who)
    assert first.returncode == 77, first.stderr
    place = re.search(r"log in again to sign: (/sign/\S+)", first.stderr)
    assert place is not None, first.stderr
    assert log_in_again(joe, openid, place[1]).status == 200
    proof = {"ESB_SIGN_PROOF": place[1].rpartition("/")[2]}
    assert esb(*words[:-1], "another reason", cwd=target.root, **who, **proof).returncode == 77
    done = esb(*words, cwd=target.root, **who, **proof)
    assert (done.returncode, "1 queued" in done.stdout) == (0, True), done.stderr
    (entry,) = entries(target, id_)
    assert entry["detail"]["signature"]["name"] == "Joe Huber"


def test_users_and_tokens_are_changed_under_a_signature(plant: tuple[Target, OpenId], people: People) -> None:
    target, openid = plant

    def act(path: str, **words: Any) -> Answer:
        headers = {"Authorization": f"Bearer {target.token()}", "Content-Type": "application/json"}
        return target.admin.send("POST", f"/api/v1/{path}", json.dumps({"reason": "r", **words}).encode(), headers)

    def find(action: str, name: str) -> list[dict[str, Any]]:
        return [one for one in ask(target, "audit?limit=10000") if (one["action"], one["object"]) == (action, name)]

    kim = {"name": "kim", "roles": ["admin"], "password": "a plain old sentence", "full_name": "Kim Huber"}
    assert act("users", **kim).status == 200, "the first admin, whom nobody could sign for"
    (entry,) = find("user.add", "kim")
    assert "no admin" in entry["detail"]["unsigned"]
    for path, words in [
        ("users", {"name": "eva", "roles": ["viewer"], "password": "a plain old sentence"}),
        ("users/kim/roles", {"roles": ["viewer"]}),
        ("users/kim/passwd", {"password": "another plain sentence"}),
        ("users/kim/disable", {}),
        ("tokens", {"name": "ci", "scopes": ["read"]}),
    ]:
        assert act(path, **words).json["code"] == "signature-required", path
        sign = {"user": "joe", "meaning": "m"}
        assert act(path, **words, signature=sign).json["code"] == "signature-elsewhere", path
    sign = {"user": "kim", "password": "a plain old sentence", "meaning": "hired"}
    assert act("users", name="eva", roles=["viewer"], password="a plain old sentence", signature=sign).status == 200
    (entry,) = find("user.add", "eva")
    assert (entry["actor"], entry["detail"]["signature"]["name"]) == ("kim", "Kim Huber")
    assert act("users/eva/roles", roles=["operator"], signature=sign).status == 200
    viewer = {"user": "eva", "password": "a plain old sentence", "meaning": "m"}
    assert act("users/kim/roles", roles=["viewer"], signature=viewer).json["code"] == "forbidden"
    assert act("tokens", name="ci", scopes=["read"], signature=sign).status == 200
    ada = entered(plant, people, ADA)
    shown = ada.get("/people")
    assert Page(shown).strange == []
    assert "log in at Graz &lt;ID&gt; again" in shown.body.decode()
    form = {"csrf": ada.csrf(), "reason": "left", "meaning": "revoked"}
    place = ada.post("/tokens/ci/revoke", form).headers["location"]
    openid.person = dict(ADA)
    assert log_in_again(ada, openid, place).status == 200
    assert sent(ada, place).status == 303
    (entry,) = find("token.revoke", "ci")
    assert entry["detail"]["signature"]["user"] == "ada"
    person = people(target)
    assert person.login("", user="kim", password="a plain old sentence").status == 303
    told = person.act("/people/eva/disable", reason="left", meaning="approved", password="a plain old sentence")
    assert "eva: disable" in Page(told).text
    assert person.post("/people/eva/enable", {"csrf": person.csrf(), "reason": "r", "meaning": "m"}).status == 403
    assert ask(target, "audit/verify") == []
    assert "a plain old sentence" not in target.bus.log()
