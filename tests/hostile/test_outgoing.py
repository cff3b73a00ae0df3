"""S6, S18, S19, S32, S33, S36, S41: what the bus calls, what it says, and what it never says."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.corpora import naughty_strings
from tests.hostile.tools import JSON, Listener, Target, attacked

#: Twelve secrets, each in the place where the bus would use it. None may be seen anywhere else.
NAMES = [
    "key",
    "basic",
    "bearer",
    "oauth",
    "hmac",
    "inbound",
    "webhook",
    "admin",
    "login",
    "token",
    "connector",
    "unused",
]
SECRETS = {name: f"canary-{hashlib.sha256(name.encode()).hexdigest()[:20]}/+{name}" for name in NAMES}
ROUTE = """
route: {name}
from: {{ http: {{ path: /{name}, method: POST, format: json }} }}
retry: {{ max: 1, backoff: 10ms }}
steps:
  - to: {{ http: {{ url: "{url}", method: POST{more} }} }}
    timeout: 3s
"""
CONNECTOR = """
connector: partner
type: http
base_url: {url}
auth: {{ oauth2: {{ token_url: "{url}/token", client_id: esb, client_secret: "${{secret:oauth}}" }} }}
inbound: {{ hmac: {{ secret: "${{secret:webhook}}", header: X-Signature, timestamp_header: X-Timestamp, client: partner }} }}
operations:
  order: {{ path: /order, method: POST }}
"""
LATER = """
connector: later
type: http
base_url: {url}
auth: {{ api_key: {{ key: "${{secret:connector}}", header: X-Later }} }}
operations:
  order: {{ path: /echo/later, method: POST }}
"""
OTHERS = """
route: later
from: { http: { path: /later, method: POST, format: json } }
retry: { max: 1, backoff: 10ms }
steps:
  - to: later.order
    timeout: 3s
---
route: login
from: { http: { path: /login, method: POST, format: json, auth: { basic: { user: u, password: "${secret:login}" } } } }
steps:
  - reject: "no {{ headers }}"
---
route: token
from: { http: { path: /token, method: POST, format: json, auth: { bearer: { token: "${secret:token}" } } } }
steps:
  - reject: "no {{ headers }}"
---
route: oauth
from: { http: { path: /oauth, method: POST, format: json } }
retry: { max: 1, backoff: 10ms }
steps:
  - to: partner.order
    timeout: 3s
---
route: webhook
from: { http: { path: /webhook, method: POST, format: json, auth: partner } }
steps:
  - filter: "`false`"
---
route: inbound
from: { http: { path: /inbound, method: POST, format: json, auth: { api_key: { key: "${secret:inbound}", client: a } } } }
steps:
  - reject: "no {{ headers }} {{ body.text }}"
---
route: said
from: { http: { path: /said, method: POST, format: json } }
steps:
  - log: { text: "{{ body.text }}", fields: { words: body.text, body: body } }
---
route: failing
from: { http: { path: /failing, method: POST, format: json, reply: delivered } }
steps:
  - set: { vars.a: "sum(body.text)" }
---
route: rejecting
from: { http: { path: /rejecting, method: POST, format: json, reply: delivered } }
steps:
  - reject: "{{ body.text }}"
"""
SETTINGS = 'bus: attacked\nadmin: { token: "${secret:admin}" }\n'


def redirect(to: str, status: int) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Location", to)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def echo(status: int) -> Callable[[BaseHTTPRequestHandler], None]:
    """A target that tells everybody what it was told."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        words = "".join(f"{name}: {value}\n" for name, value in handler.headers.items()) + handler.path
        scheme, _, word = handler.headers.get("Authorization", "").partition(" ")
        if scheme == "Basic":
            words += base64.b64decode(word).decode()
        data = json.dumps({"error": words, "quoted": quote(words, safe="")}).encode()
        handler.send_response(status, "No")
        handler.send_header("Content-Type", "application/json")
        handler.send_header("X-Echo", handler.headers.get("Authorization", "none"))
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def bomb(coding: str, packed: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Encoding", coding)
        handler.send_header("Content-Length", str(len(packed)))
        handler.end_headers()
        handler.wfile.write(packed)

    return answer


AUTH = {
    "key": 'auth: { api_key: { key: "${secret:key}", header: X-API-Key } }',
    "basic": 'auth: { basic: { user: esb, password: "${secret:basic}" } }',
    "bearer": 'auth: { bearer: "${secret:bearer}" }',
    "hmac": 'auth: { hmac: { secret: "${secret:hmac}" } }',
}
REDIRECTS = (301, 302, 303, 307, 308)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, sink: Listener, canary: Listener) -> Iterator[Target]:
    files: dict[str, str | bytes] = {
        "esb.yaml": SETTINGS,
        "routes/others.yaml": OTHERS,
        "connectors/partner.yaml": CONNECTOR.format(url=sink.url),
        "connectors/later.yaml": LATER.format(url=sink.url),
    }
    for name, auth in AUTH.items():
        for status in (401, 500, 200):
            sink.answers[f"/echo/{name}/{status}"] = echo(status)
            files[f"routes/{name}-{status}.yaml"] = ROUTE.format(
                name=f"{name}-{status}", url=f"{sink.url}/echo/{name}/{status}", more=f", {auth}"
            )
        files[f"routes/{name}-down.yaml"] = ROUTE.format(
            name=f"{name}-down", url="http://127.0.0.1:9/x", more=f", {auth}"
        )
    for status in REDIRECTS:
        sink.answers[f"/redirect/{status}"] = redirect(f"{canary.url}/stolen", status)
        files[f"routes/redirect-{status}.yaml"] = ROUTE.format(
            name=f"redirect-{status}", url=f"{sink.url}/redirect/{status}", more=", " + AUTH["key"]
        )
    packed = gzip.compress(bytes(100_000_000), 1)
    for coding in ("gzip", "deflate", "br"):
        sink.answers[f"/bomb/{coding}"] = bomb(coding, packed)
        files[f"routes/bomb-{coding}.yaml"] = ROUTE.format(
            name=f"bomb-{coding}", url=f"{sink.url}/bomb/{coding}", more=""
        )
    sink.answers["/token"] = echo(401)
    sink.answers["/echo/later"] = echo(500)
    proxies = dict.fromkeys(
        ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"), canary.url
    )
    secrets = {f"ESB_SECRET_{name.upper()}": value for name, value in SECRETS.items()}
    with attacked(
        tmp_path_factory.mktemp("outgoing"), files, "--no-watch", "--log-level", "debug", **proxies, **secrets
    ) as found:
        yield found


def settle(target: Target, *routes: str) -> dict[str, dict[str, int]]:
    return {route: target.drained(route) for route in routes}


def test_s19_a_redirect_takes_neither_body_nor_key_elsewhere(target: Target, canary: Listener) -> None:
    routes = [f"redirect-{status}" for status in REDIRECTS]
    for route in routes:
        assert target.http.post_json(f"/{route}", {"n": 1}).status == 202
    assert all(found["dead"] == 1 for found in settle(target, *routes).values())
    assert canary.connections == 0


def test_s6_an_answer_that_inflates_is_cut_off(target: Target) -> None:
    before = target.rss()
    routes = ["bomb-gzip", "bomb-deflate", "bomb-br"]
    for route in routes:
        assert target.http.post_json(f"/{route}", {"n": 1}).status == 202
    assert all(found["dead"] == 1 for found in settle(target, *routes).values())
    assert target.rss() - before < 64_000_000


def test_s18_proxies_of_the_environment_are_not_asked(target: Target, canary: Listener) -> None:
    assert target.http.post_json("/key-200", {"n": 1}).status == 202
    assert settle(target, "key-200")["key-200"]["done"] == 1
    assert canary.connections == 0


# -- S36 ------------------------------------------------------------------------------------------------------------------
def signed(
    body: bytes, at: datetime, *, secret: str = SECRETS["webhook"], algorithm: str = "sha256", stamp: str = ""
) -> dict[str, str]:
    stamp = stamp or str(int(at.timestamp()))
    digest = hmac.new(secret.encode(), f"{stamp}.".encode() + body, algorithm).hexdigest()
    return {**JSON, "X-Signature": f"{algorithm}={digest}", "X-Timestamp": stamp}


def test_s36_only_the_signed_bytes_and_only_once(target: Target) -> None:
    now, body = datetime.now(UTC), b'{"n":1}'
    good = signed(body, now)
    wrong: dict[str, tuple[bytes, dict[str, str]]] = {
        "no signature": (body, JSON),
        "empty signature": (body, {**good, "X-Signature": ""}),
        "empty algorithm": (body, {**good, "X-Signature": "sha256="}),
        "another algorithm": (body, signed(body, now, algorithm="sha1")),
        "md5": (body, signed(body, now, algorithm="md5")),
        "none": (body, {**good, "X-Signature": "none"}),
        "another secret": (body, signed(body, now, secret="other")),
        "empty secret": (body, signed(body, now, secret="")),
        "one byte": (b'{"n":2}', good),
        "a blank": (body + b" ", good),
        "no time": (body, {name: value for name, value in good.items() if name != "X-Timestamp"}),
        "another time": (body, {**good, "X-Timestamp": str(int(now.timestamp()) + 1)}),
        "old": (body, signed(body, now - timedelta(minutes=10))),
        "early": (body, signed(body, now + timedelta(minutes=10))),
        "time of elsewhere": (body, signed(body, now, stamp="1e9")),
        "two signatures": (body, {**good, "X-Signature": good["X-Signature"] + ", " + good["X-Signature"]}),
    }  # fmt: skip
    for name, (data, headers) in wrong.items():
        assert target.http.send("POST", "/webhook", data, headers).status == 401, name
    assert target.http.send("POST", "/webhook", body, good).status == 202
    assert target.http.send("POST", "/webhook", body, good).status == 401, "a replay"


# -- S41 ------------------------------------------------------------------------------------------------------------------
def test_s41_a_message_can_neither_forge_nor_flood_the_log(target: Target) -> None:
    texts = [
        *naughty_strings()[::6],
        "a\n2026-01-01T00:00:00.000Z error   forged",
        "\x1b[2J\x1b[31mred",
        "\r\rforged",
        '"}\n{"forged":1}',
        "\u202eforged",
        "\x07\x08",
        "\u2028forged",
        "x" * 3_000_000,
    ]
    begun = len(target.bus.log().splitlines())
    for text in texts:
        assert target.http.post_json("/said", {"text": text, "more": {text[:100]: [text[:100]] * 60}}).status == 202
    target.drained("said")
    lines = target.bus.log().split("\n")[begun:-1]
    said = [line for line in lines if " message.log " in line]
    assert len(said) == len(texts)
    assert all(line[:4].isdigit() and line[4] == "-" for line in lines)
    assert all(len(line) <= 20_100 for line in lines)
    assert [ascii(ch) for line in lines for ch in line if not ch.isprintable()] == []


# -- S32, S33 -------------------------------------------------------------------------------------------------------------
INTERNALS = [b"Traceback", b'File "', b".py", b"site-packages", b"sqlite", b"SELECT", b"INSERT", b"/esb/", b"{{", b"sum(", b"object at 0x", b"aiohttp", b"asyncio"]  # fmt: skip


def test_s33_errors_say_nothing_of_what_is_inside(target: Target) -> None:
    for path, body in (
        ("/failing", {"text": "x"}),
        ("/failing", {}),
        ("/rejecting", {"text": "no"}),
        ("/nowhere", {}),
        ("/said/x", {}),
        ("/inbound", {}),
    ):
        for data in (json.dumps(body).encode(), b"{", b"", b"\xff"):
            answer = target.http.post(path, data)
            if answer.status >= 400:
                assert [word for word in INTERNALS if word in answer.body] == [], (path, answer)
                assert answer.headers["content-type"] == "application/problem+json"
                assert "server" not in answer.headers


def spellings(value: str) -> list[bytes]:
    plain = value.encode()
    shifted = [base64.b64encode(b"x" * n + plain)[4:-4] for n in range(3)]
    return [
        plain,
        quote(value, safe="").encode(),
        quote(value).encode(),
        *shifted,
        plain.hex().encode(),
        json.dumps(value).encode()[1:-1],
        value.replace("/", "\\/").encode(),
    ]


def test_s32_no_secret_is_seen_anywhere(target: Target) -> None:
    routes = [f"{name}-{status}" for name in AUTH for status in (401, 500, 200, "down")]
    routes += ["oauth", "later"]
    for route in routes:
        for n in range(2):
            assert target.http.post_json(f"/{route}", {"n": n}).status == 202
    guess = {
        **JSON,
        "X-API-Key": SECRETS["inbound"],
        "Authorization": f"Bearer {SECRETS['bearer']}",
        "Cookie": "a=" + SECRETS["key"],
    }
    assert target.http.send("POST", "/inbound", b'{"text":"x"}', guess).status == 202
    basic = base64.b64encode(f"u:{SECRETS['login']}".encode()).decode()
    for path, shown in (("/login", f"Basic {basic}"), ("/token", f"Bearer {SECRETS['token']}")):
        assert target.http.send("POST", path, b"{}", {**JSON, "Authorization": shown}).status == 202
    assert target.http.send("POST", "/webhook", b'{"n":9}', signed(b'{"n":9}', datetime.now(UTC))).status == 202
    settle(target, *routes, "inbound", "login", "token")
    assert target.drained("later")["dead"] == 2, "the target that echoes was asked"
    bearer = {"Authorization": f"Bearer {SECRETS['admin']}"}
    seen: dict[str, bytes] = {}
    for path in (
        "",
        "/status",
        "/routes",
        "/messages?limit=1000",
        "/dlq?limit=1000",
        "/dlq/groups",
        "/audit",
        "/audit/verify",
    ):
        seen[path] = target.admin.send("GET", f"/api/v1{path}", None, bearer).body
    for item in json.loads(seen["/messages?limit=1000"])["items"]:
        seen[item["id"]] = target.admin.send("GET", f"/api/v1/messages/{item['id']}", None, bearer).body
        seen[f"trace {item['id']}"] = target.admin.send("GET", f"/api/v1/trace/{item['id']}", None, bearer).body
    seen["/metrics"] = target.admin.send("GET", "/metrics", None, bearer).body
    seen["reload"] = target.admin.send("POST", "/api/v1/reload", b"{}", bearer).body
    (target.root / "routes" / "broken.yaml").write_text(
        "route: x\nfrom: {}\npassword: ${secret:unused}\nsteps: [{ log: '${secret:unused}' }]\n"
    )
    seen["broken reload"] = target.admin.send("POST", "/api/v1/reload", b"{}", bearer).body
    for words in (["lint", "."], ["status"], ["dlq", "ls"], ["messages", "ls", "--json"]):
        done = target.bus.run(*words)
        seen[" ".join(words)] = (done.stdout + done.stderr).encode()
    (target.root / "routes" / "broken.yaml").unlink()
    pid = target.bus.process.popen.pid
    seen["command line"] = Path(f"/proc/{pid}/cmdline").read_bytes()
    for path in target.root.rglob("*"):
        if path.is_file():
            seen[str(path.relative_to(target.root))] = path.read_bytes()
    assert len(seen) > 60
    found = {
        (place, name)
        for name, value in SECRETS.items()
        for word in spellings(value)
        for place, data in seen.items()
        if word in data
    }
    assert found == set()
