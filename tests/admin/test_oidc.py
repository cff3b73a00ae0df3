"""Log in with an OpenID provider, and everything that must not count as one (S34, S35, S37)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.admin.browsing import Browser, Page
from tests.admin.provider import OpenId, provider
from tests.hostile.tools import Answer, Target, attacked

People = Callable[[Target], Browser]
SETTINGS = """
bus: plant-graz
admin:
  oidc:
    issuer: "%s"
    client_id: esb-graz
    client_secret: ${secret:oidc}
    label: Graz <ID>
    roles: { shift: [operator], quality: [auditor, retry@P10] }
"""
JOE = {"sub": "1", "preferred_username": "Joe", "name": "Joe Huber", "groups": ["shift", "unknown"]}


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Target, OpenId]]:
    with provider() as openid:
        files = {"esb.yaml": SETTINGS % openid.issuer}
        root = tmp_path_factory.mktemp("oidc")
        with attacked(root, files, "--no-watch", ESB_SECRET_OIDC="secret-of-the-client") as target:
            ask(target, "users", name="mia", roles=["admin"], password="a plain old sentence")
            openid.person = dict(JOE)
            somebody = Browser(target.bus.admin)
            assert login(somebody, openid).status == 200, "a token as it should be"
            somebody.client.close()
            yield target, openid


@pytest.fixture(autouse=True)
def _as_it_should_be(plant: tuple[Target, OpenId]) -> None:
    plant[1].person, plant[1].change, plant[1].signed = dict(JOE), lambda _: None, None


def ask(target: Target, path: str, **words: Any) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {target.token()}", "Content-Type": "application/json"}
    body = json.dumps(words).encode() if words else None
    answer = target.admin.send("POST" if words else "GET", f"/api/v1/{path}", body, headers)
    assert answer.status == 200, answer.body
    return list(answer.json["items"])


def begin(person: Browser, back: str = "/dead") -> str:
    """Follow the link of the login page; where the provider is to be found."""
    answer = person.get(f"/login/oidc?back={back}")
    assert answer.status == 303, answer.body
    cookie = answer.headers["set-cookie"]
    assert all(flag in cookie.lower() for flag in ("httponly", "samesite=lax", "path=/login"))
    person.cookie = cookie.partition(";")[0]
    return answer.headers["location"]


def come_back(person: Browser, path: str) -> Answer:
    """The browser returns from another site, as browsers say it."""
    answer = person.get(path, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")
    cookies = [part for part in answer.headers.get("set-cookie", "").split(", ") if part.startswith("esb-session=")]
    if cookies:
        person.cookie = cookies[0].partition(";")[0]
    return answer


def login(person: Browser, openid: OpenId) -> Answer:
    return come_back(person, openid.authorize(begin(person)))


def test_who_is_in_a_group_comes_in_with_its_roles(plant: tuple[Target, OpenId], people: People) -> None:
    target, openid = plant
    person = people(target)
    page = person.get("/login")
    assert "Log in with Graz <ID>" in Page(page).text
    answer = login(person, openid)
    assert answer.status == 200
    assert 'content="0;url=/dead"' in answer.body.decode()
    shown = Page(person.get("/")).text
    assert "joe" in shown
    assert person.get("/audit").status == 403, "an operator"
    user = next(user for user in ask(target, "users") if user["user"] == "joe")
    assert (user["user"], user["full_name"], user["origin"], user["roles"]) == (
        "joe",
        "Joe Huber",
        "oidc",
        ["operator"],
    )
    assert openid.said[-1]["grant_type"] == "authorization_code"
    openid.person["groups"] = ["quality"]
    other = people(target)
    assert login(other, openid).status == 200
    assert other.get("/audit").status == 200
    assert person.get("/").status == 401, "the roles of the first session are not those of today"
    assert next(user for user in ask(target, "users") if user["user"] == "joe")["roles"] == ["auditor", "retry@P10"]
    ask(target, "users/joe/disable", reason="left")
    assert other.get("/").status == 401
    assert login(people(target), openid).status == 403
    ask(target, "users/joe/enable", reason="back")
    log = [(entry["action"], entry["object"]) for entry in ask(target, "audit")]
    assert ("login", "joe") in log
    assert target.admin.send("POST", "/api/v1/users/joe/passwd", b'{"password": "a plain old sentence"}', {"Authorization": f"Bearer {target.token()}"}).status == 400  # fmt: skip


def hs256(openid: OpenId) -> Callable[[dict[str, Any]], str]:
    """Signed with the public key as if it were a shared secret."""

    def part(words: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(words).encode()).rstrip(b"=").decode()

    def sign(claims: dict[str, Any]) -> str:
        text = f"{part({'alg': 'HS256', 'kid': 'k1'})}.{part(claims)}"
        mac = hmac.new(openid.pem(), text.encode(), hashlib.sha256).digest()
        return f"{text}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"

    return sign


def own_key(kid: str, **header: Any) -> Callable[[dict[str, Any]], str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return lambda claims: jwt.encode(claims, key, "RS256", {"kid": kid, **header})


CLAIMS: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://evil.example"},
    "another audience": {"aud": "somebody-else"},
    "several audiences": {"aud": ["esb-graz", "somebody-else"]},
    "another party": {"azp": "somebody-else"},
    "expired": {"exp": 1_700_000_000},
    "no expiry": {"exp": None},
    "from tomorrow": {"iat": 4_000_000_000, "nbf": 4_000_000_000},
    "another login": {"nonce": "x"},
    "no nonce": {"nonce": None},
    "no subject": {"sub": None},
    "no name": {"preferred_username": None},
    "a name that is none": {"preferred_username": "joe <b>"},
    "no group": {"groups": []},
    "groups as text": {"groups": "shift"},
    "a group that is nothing here": {"groups": ["wheel"]},
    "the name of a local user": {"preferred_username": "mia"},
    "the name of another subject": {"sub": "2"},
}


@pytest.mark.parametrize("what", [*CLAIMS, "alg none", "hs256", "own key", "unknown key", "own key in the header", "no token"])  # fmt: skip
def test_s37_a_token_that_does_not_count_opens_nothing(plant: tuple[Target, OpenId], people: People, what: str) -> None:
    target, openid = plant
    if what in CLAIMS:
        gone = [name for name, value in CLAIMS[what].items() if value is None]

        def change(claims: dict[str, Any]) -> None:
            claims.update(CLAIMS[what])
            for name in gone:
                del claims[name]

        openid.change = change
    openid.signed = {
        "alg none": lambda claims: jwt.encode(claims, "", "none"),
        "hs256": hs256(openid),
        "own key": own_key("k1"),
        "unknown key": own_key("k2"),
        "own key in the header": own_key("k1", jwk={"kty": "RSA"}, jku="https://evil.example"),
        "no token": lambda _: "x.y.z",
    }.get(what)
    before = ask(target, "users")
    person = people(target)
    answer = login(person, openid)
    assert answer.status == 403, answer.body
    assert "esb-session" not in answer.headers.get("set-cookie", "")
    assert person.get("/").status == 401
    assert ask(target, "users") == before
    target.alive()


def test_s34_a_login_counts_once_in_the_browser_that_began_it(plant: tuple[Target, OpenId], people: People) -> None:
    target, openid = plant
    person, stranger = people(target), people(target)
    path = openid.authorize(begin(person))
    assert come_back(stranger, path).status == 403, "a link sent to somebody else (login CSRF)"
    assert come_back(person, path).status == 403, "and it is used up"
    path = openid.authorize(begin(person))
    assert come_back(person, path.replace("state=", "state=x")).status == 403
    assert come_back(person, path + "&iss=https%3A%2F%2Fevil.example").status == 403
    path = openid.authorize(begin(person))
    kept = person.cookie
    assert come_back(person, path).status == 200
    person.cookie = kept
    assert come_back(person, path).status == 403
    state = parse_qs(urlsplit(begin(person)).query)["state"][0]
    assert come_back(person, f"/login/oidc/back?state={state}&error=access_denied").status == 403
    assert come_back(person, "/login/oidc/back").status == 403
    for other in ("/", "/dead", "/login"):
        assert person.get(other, Sec_Fetch_Site="cross-site").status == 403, "nothing else may be opened from elsewhere"


@pytest.mark.parametrize("back", ["//evil.example", "https://evil.example", '/a" onload=x', "javascript:alert(1)"])
def test_s52_the_way_back_leads_nowhere_else(plant: tuple[Target, OpenId], people: People, back: str) -> None:
    from urllib.parse import quote

    person = people(plant[0])
    answer = come_back(person, plant[1].authorize(begin(person, quote(back, safe=""))))
    assert 'content="0;url=/"' in answer.body.decode()
    assert Page(answer).strange == []


def test_a_provider_that_is_none_is_refused_at_the_start(tmp_path: Any) -> None:
    from tests.hostile.tools import esb

    (tmp_path / "esb.yaml").write_text(SETTINGS % "http://login.example")
    done = esb("run", ".", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", cwd=tmp_path, ESB_SECRET_OIDC="x")
    assert (done.returncode, "no https address" in done.stderr) == (78, True), done.stderr
    (tmp_path / "esb.yaml").write_text((SETTINGS % "https://login.example").replace("[operator]", "[opertor]"))
    done = esb("run", ".", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", cwd=tmp_path, ESB_SECRET_OIDC="x")
    assert (done.returncode, "did you mean `operator`?" in done.stderr) == (78, True), done.stderr
