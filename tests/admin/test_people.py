"""Users from outside: the first one over the printed link, login, throttling, and what ends a session (S26, S34, S35)."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.admin.browsing import Browser, Page
from tests.hostile.tools import Target, attacked, esb
from tests.servers.require import free_port

People = Callable[[Target], Browser]
PASSWORD = "a plain old sentence"
FILES = {"esb.yaml": "bus: plant-graz\nadmin: { session_idle: 2h, session_max: 3h }\n"}


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Target]:
    """A bus that nobody was set up on."""
    with attacked(tmp_path / "fresh", FILES, "--no-watch") as target:
        yield target


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A bus with an admin, made before its first start."""
    root = tmp_path_factory.mktemp("people")
    with attacked(root, FILES, "--no-watch") as target:
        add(target, "mia", "admin")
        yield target


def ask(target: Target, path: str, **words: Any) -> list[dict[str, Any]]:
    """What the local command line asks, without starting it."""
    headers = {"Authorization": f"Bearer {target.token()}", "Content-Type": "application/json"}
    body = json.dumps(words).encode() if words else None
    answer = target.admin.send("POST" if words else "GET", f"/api/v1/{path}", body, headers)
    assert answer.status == 200, answer.body
    return list(answer.json["items"])


def add(target: Target, name: str, role: str = "operator") -> None:
    ask(target, "users", name=name, roles=[role], password=PASSWORD)


def link(target: Target) -> str:
    found = re.search(r"http\S+(/setup\?token=\S+)", target.bus.log())
    return found[1] if found else ""


def login(browser: Browser, user: str, password: str = PASSWORD) -> int:
    return browser.login("", user=user, password=password).status


def test_the_first_user_is_made_over_the_printed_link_once(fresh: Target, people: People) -> None:
    somebody = people(fresh)
    path = fresh.setup_link()
    token = path.partition("=")[2]
    assert Page(somebody.get(path)).strange == []
    for bad in ("/setup", "/setup?token=x", f"/setup?token={token}x"):
        assert somebody.get(bad).status == 404
    form = {"token": token, "user": "Mia", "password": PASSWORD, "again": PASSWORD}
    for change, said in [({"again": "another one here"}, "differ"), ({"password": "short", "again": "short"}, "10 to 256"),
                         ({"password": "mia is my name", "again": "mia is my name"}, "holds the user"), ({"user": "<b>"}, "is no name")]:  # fmt: skip
        answer = somebody.post("/setup", {**form, **change})
        assert (answer.status, said in Page(answer).text) == (400, True), change
        assert PASSWORD.encode() not in answer.body
    assert somebody.post("/setup", form, Origin="https://evil.example").status == 403
    assert somebody.post("/setup", {**form, "token": "x"}).status == 404
    assert somebody.get("/").status == 200, "open, as long as nobody was set up"
    made = somebody.post("/setup", form)
    assert made.status == 303
    somebody.cookie = made.headers["set-cookie"].partition(";")[0]
    assert "mia is an admin now" in Page(somebody.get("/")).text
    stranger = people(fresh)
    assert [stranger.get("/").status, stranger.get("/api/v1/status").status] == [401, 401]
    assert somebody.post("/setup", form).status == somebody.get(path).status == 404, "once"
    log = [(entry["actor"], entry["action"], entry["object"]) for entry in ask(fresh, "audit")]
    assert ("setup", "user.add", "mia") in log


def test_of_several_at_the_printed_link_at_once_one_becomes_the_admin(fresh: Target, people: People) -> None:
    token = fresh.setup_link().partition("=")[2]
    forms = [{"token": token, "user": name, "password": PASSWORD, "again": PASSWORD} for name in ("mia", "eve", "bob")]
    browsers = [people(fresh) for _ in forms]
    with ThreadPoolExecutor(len(forms)) as pool:
        answers = list(pool.map(lambda browser, form: browser.post("/setup", form).status, browsers, forms))
    assert sorted(answers) == [303, 404, 404]
    assert len(ask(fresh, "users")) == 1


def test_s26_off_loopback_somebody_must_have_to_log_in(plant: Target, tmp_path: Path, people: People) -> None:
    (tmp_path / "esb.yaml").write_text("bus: b\n")
    refused = esb("run", ".", "--admin", "0.0.0.0:0", "--http", "127.0.0.1:0", cwd=tmp_path)
    assert (refused.returncode, "needs a token, or users" in refused.stderr) == (78, True)
    made = esb("users", "add", "mia", "--role", "viewer", "--generate", cwd=tmp_path)
    assert (made.returncode, "shown this once" in made.stdout) == (0, True), made.stderr
    port = free_port("0.0.0.0")
    with attacked(tmp_path, {}, "--no-watch", "--admin", f"0.0.0.0:{port}") as target:
        somebody = people(target)
        somebody.client.port = port
        assert [somebody.get(path).status for path in ("/", "/api/v1/status")] == [401, 401]
        assert link(target) == "", "there is a user already"
    assert plant.setup_link(), "it was printed before there was somebody"
    assert people(plant).get(plant.setup_link()).status == 404


def test_required_means_nobody_reads_and_an_older_store_gets_what_it_lacks(tmp_path: Path, people: People) -> None:
    (tmp_path / "esb.yaml").write_text("bus: b\n")
    assert esb("users", "ls", cwd=tmp_path).returncode == 0
    with contextlib.closing(sqlite3.connect(tmp_path / ".esb" / "bus.db")) as connection, connection:
        connection.execute("DROP TABLE access")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    with attacked(tmp_path, {"esb.yaml": "bus: b\nadmin: { auth: required }\n"}, "--no-watch") as target:
        assert people(target).get("/").status == 401
        assert link(target) == ""
        add(target, "mia")
        assert [item["user"] for item in ask(target, "users")] == ["mia"]
        target.alive()


def test_users_and_tokens_on_the_command_line(plant: Target) -> None:
    made = esb(
        "users", "add", "otto", "--role", "operator", "--role", "viewer@P10", "--generate", "--json", cwd=plant.root
    )
    assert len(json.loads(made.stdout)["items"][0]["password"]) >= 20
    listed = {item["user"]: item for item in ask(plant, "users")}
    assert listed["otto"]["roles"] == ["operator", "viewer@P10"]
    assert set(listed["otto"]) == {"user", "full_name", "roles", "disabled", "origin", "created"}
    token = esb("tokens", "create", "wall", "--scope", "read", "--expires", "never", cwd=plant.root).stdout.strip()
    bearer = {"Authorization": f"Bearer {token}"}
    assert plant.admin.send("GET", "/api/v1/status", None, bearer).status == 200
    elsewhere = {"ESB_SERVER": plant.bus.admin, "ESB_TOKEN": token}
    far = esb("status", "--json", cwd=plant.root.parent, **elsewhere)
    assert [item["route"] for item in json.loads(far.stdout)["items"]] == ["probe"]
    for words, said in [
        (("routes", "pause", "probe"), "token:wall may not pause\n  = help: another token can: esb tokens create NAME --scope pause"),
        (("audit", "ls"), "token:wall may not read the audit\n  = help: another token can: esb tokens create NAME --scope audit"),
    ]:  # fmt: skip
        refused = esb(*words, cwd=plant.root.parent, **elsewhere)
        assert (refused.returncode, said in refused.stderr) == (77, True), refused.stderr
    for words, code, said in [
        (("users", "add", "otto", "--role", "viewer", "--generate"), 77, "is taken"),
        (("users", "add", "x", "--role", "opertor", "--generate"), 2, "did you mean `operator`?"),
        (("users", "add", "x", "--role", "viewer"), 2, "--password-stdin or --generate"),
        (("tokens", "create", "x", "--scope", "read", "--owner", "nobody"), 66, "no user nobody"),
    ]:
        done = esb(*words, cwd=plant.root)
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr


def test_s34_password_roles_and_state_end_the_sessions_of_a_user(plant: Target, people: People) -> None:
    add(plant, "eva")
    person, password = people(plant), PASSWORD
    for verb, words in [("roles", {"roles": ["engineer"]}), ("passwd", {"password": "another plain sentence"}), ("disable", {"reason": "left"})]:  # fmt: skip
        assert login(person, "eva", password) == 303
        assert "eva" in Page(person.get("/")).text
        ask(plant, f"users/eva/{verb}", **words)
        password = str(words.get("password", password))
        assert person.get("/").status == 401, verb
    assert login(person, "eva", password) == 401, "disabled"
    ask(plant, "users/eva/enable", reason="back")
    assert login(person, "eva", PASSWORD) == 401, "the old password"
    assert login(person, "eva", password) == 303


def test_s34_a_session_begun_with_a_token_ends_with_it(plant: Target, people: People) -> None:
    (made,) = ask(plant, "tokens", name="screen", scopes=["viewer"])
    person = people(plant)
    assert person.login(made["secret"]).status == 303
    assert "token:screen" in Page(person.get("/")).text
    ask(plant, "tokens/screen/revoke", reason="over")
    assert person.get("/").status == 401


def test_s34_over_tls_the_cookie_never_leaves_without(plant: Target, people: People) -> None:
    host = f"127.0.0.1:{plant.admin.port}"
    answer = people(plant).post("/login", {"user": "mia", "password": PASSWORD}, Origin=f"https://{host}")
    flags = answer.headers["set-cookie"].lower()
    assert all(flag in flags for flag in ("; secure", "; httponly", "; samesite=strict", "; max-age=10800"))


def test_s35_an_account_that_is_tried_too_often_waits_and_others_do_not(plant: Target, people: People) -> None:
    add(plant, "target")
    person = people(plant)
    with ThreadPoolExecutor(12) as pool:  # all at once, so that none is known to be wrong before the others are asked

        def guess(n: int) -> bytes:
            one = Browser(plant.bus.admin)
            try:
                return one.post("/login", {"user": "TARGET", "password": f"guess number {n}"}).body
            finally:
                one.client.close()

        answers = set(pool.map(guess, range(12)))
    assert len(answers) == 1
    failed = [entry for entry in ask(plant, "audit?limit=1000") if entry["object"] == "'TARGET'"]
    assert len(failed) == 12
    assert login(person, "target") == 401, "the right password, too"
    unknown = people(plant).post("/login", {"user": "no such user", "password": "x"})
    assert unknown.body in answers, "an unknown name looks like a wrong password"
    assert login(person, "mia") == 303
    tried = [entry for entry in ask(plant, "audit") if entry["action"] == "login.failed"]
    assert {entry["object"] for entry in tried} >= {"'TARGET'", "'no such user'"}
    assert "guess number" not in json.dumps(tried)
    assert "guess number" not in plant.bus.log()


def test_an_admin_looks_after_people_on_their_page(plant: Target, people: People) -> None:
    admin, other = people(plant), people(plant)
    assert login(admin, "mia") == 303
    told = Page(
        admin.act("/people/add", name="Uwe", roles="operator, viewer@P10", secret=PASSWORD, full_name="Uwe <b>")
    )
    assert "uwe was added" in told.text
    assert "Uwe <b>" in told.text
    assert told.strange == []
    assert login(other, "uwe") == 303
    assert "uwe: roles, may viewer" in Page(admin.act("/people/uwe/roles", roles="viewer")).text
    assert other.get("/").status == 401
    assert "uwe: disable" in Page(admin.act("/people/uwe/disable")).text
    assert login(other, "uwe") == 401
    told = Page(admin.act("/tokens/create", name="line", scopes="read", expires="1d"))
    found = re.search(r"shown this once: (esb_\S+)", told.text)
    assert found is not None
    assert found[1] not in Page(admin.get("/people")).text
    bearer = {"Authorization": f"Bearer {found[1]}"}
    assert plant.admin.send("GET", "/api/v1/status", None, bearer).status == 200
    admin.act("/tokens/line/revoke")
    assert plant.admin.send("GET", "/api/v1/status", None, bearer).status == 401
    weak = admin.post(
        "/people/add", {"csrf": admin.csrf(), "reason": "r", "name": "x", "roles": "viewer", "secret": "x"}
    )
    assert (weak.status, "10 to 256" in Page(weak).text) == (400, True)
    entries = [entry for entry in ask(plant, "audit") if entry["object"] in ("uwe", "line")]
    assert {entry["actor"] for entry in entries if not entry["action"].startswith("login")} == {"mia"}


def test_a_user_changes_the_password_who_knows_it(plant: Target, people: People) -> None:
    add(plant, "kim")
    person, other = people(plant), people(plant)
    assert login(person, "kim") == login(other, "kim") == 303
    new = "a sentence that is new"

    def change(**form: str) -> int:
        words = {"csrf": person.csrf(), "password": PASSWORD, "new": new, "again": new, **form}
        return person.post("/account", words).status

    assert [change(password="wrong"), change(again="x"), change(new="short", again="short"), change(csrf="x")] == [
        400,
        400,
        400,
        403,
    ]
    assert other.get("/").status == 200
    words = {"csrf": person.csrf(), "password": PASSWORD, "new": new, "again": new}
    answer = person.post("/account", words)
    person.cookie = answer.headers["set-cookie"].partition(";")[0]
    page = Page(person.get("/account"))
    assert "other sessions are over" in page.text
    assert page.strange == []
    assert other.get("/").status == 401
    assert [login(other, "kim", PASSWORD), login(other, "kim", new)] == [401, 303]
    assert (ask(plant, "audit")[-1]["action"], ask(plant, "audit")[-2]["actor"]) == ("login", "anonymous")
    token = people(plant)
    token.login(plant.token())
    assert token.get("/account").status == 200
    assert token.post("/account", {**words, "csrf": token.csrf()}).status == 403
