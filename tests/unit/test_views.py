"""What people ask for of a large store comes whole, in pages between which the bus goes on, and says where it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from benchmarks.search import Population
from esb import views
from esb.cli import cli, operate
from esb.cli.offline import offline_app
from esb.clock import SystemClock
from esb.store import files, open_store
from esb.store.base import Filter
from esb.store.sqlstore import SqlStore

MESSAGES = 3_000


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stopped bus whose messages are all of one lot."""
    root = tmp_path_factory.mktemp("plant")
    (root / "esb.yaml").write_text("bus: plant\n")
    (root / ".esb").mkdir()
    files.create(root / ".esb" / "bus.db", datetime.now(UTC))
    people = Population(MESSAGES)
    people.lots = 1
    people.write(root / ".esb" / "bus.db")
    return root


@pytest.fixture
def store(root: Path) -> Iterator[SqlStore]:
    opened = asyncio.run(open_store("sqlite:///.esb/bus.db", root, clock=SystemClock(), read_only=True))
    yield opened
    asyncio.run(opened.close())


@pytest.fixture
def esb(root: Path) -> Callable[..., Result]:
    def run(*words: str) -> Result:
        done = CliRunner().invoke(cli, [*words, "-C", str(root)])
        assert done.exit_code == 0, (done.output, done.exception)
        return done

    return run


def lot() -> str:
    return Population(MESSAGES).lot(0)


@pytest.mark.parametrize(
    "path", ["/messages?limit=3000", f"/messages?track=lot%3D{lot()}&limit=3000", f"/trace/{lot()}"]
)
def test_a_long_answer_lets_the_loop_of_the_bus_go_on(root: Path, path: str) -> None:
    async def turns() -> int:
        async with offline_app(root) as app:
            answer = asyncio.ensure_future(asked(app, path))
            count = 0
            while not answer.done():
                await asyncio.sleep(0)
                count += 1
            assert len(json.loads(answer.result())["items"]) == (views.TRACED if "trace" in path else 3000)
            return count

    assert asyncio.run(turns()) > 25


READS = [
    "", "/status", "/routes", "/sites", "/messages", "/dlq", "/dlq/groups", "/dlq/bulk", "/audit", "/audit/verify", "/kpis", "/alerts",
    "/trends", "/holds", "/differences", "/approvals", "/users", "/tokens", "/live", f"/trace/{lot()}", "/evidence/key",
]  # fmt: skip


@pytest.mark.parametrize("path", READS)
def test_a_word_that_nobody_reads_is_refused_wherever_something_is_read(root: Path, path: str) -> None:
    """`?since=1h` of what knows no time would look like an answer to it."""

    async def answers() -> tuple[bytes, bytes]:
        async with offline_app(root) as app:
            return await asked(app, path), await asked(app, f"{path}?nobody=reads")

    plain, worded = (json.loads(answer) for answer in asyncio.run(answers()))
    assert "items" in plain
    assert worded["status"] == 400
    assert "`nobody` is not known here" in worded["detail"]


def test_who_shows_a_token_that_opens_nothing_is_told_that_it_was_seen(root: Path) -> None:
    async def answer() -> bytes:
        async with offline_app(root) as app:
            return await asked(app, "/audit", "esb_of_last_year")

    assert "expired or revoked" in json.loads(asyncio.run(answer()))["detail"]


async def asked(app: Any, path: str, token: str = "offline") -> bytes:
    where, _, query = path.partition("?")
    scope = {
        "type": "http",
        "method": "GET",
        "path": f"/api/v1{where}",
        "query_string": query.encode(),
        "headers": [(b"host", b"localhost"), (b"authorization", f"Bearer {token}".encode())],
        "client": ("127.0.0.1", 0),
    }
    parts: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(event: dict[str, Any]) -> None:
        parts.append(event.get("body", b""))

    await app(scope, receive, send)
    return b"".join(parts)


def test_a_trace_reads_a_hundred_correlations_at_a_time(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Filter] = []
    find = store.find

    def counted(filter_: Filter) -> Any:
        asked.append(filter_)
        return find(filter_)

    class Counted:
        find = staticmethod(counted)
        get, audit_of = store.get, store.audit_of

    items = [item for page in views.trace(Counted(), lot()) for item in page]  # type: ignore[arg-type]  # a double, or none
    assert len(items) == views.TRACED
    assert len(asked) < 30  # a thousand messages of two hundred correlations
    assert max(one.limit for one in asked) <= views.PAGE


def test_a_trace_of_too_many_messages_is_the_newest_of_them_and_says_so(esb: Callable[..., Result]) -> None:
    done = esb("trace", lot(), "--json")
    seqs = [item["seq"] for item in json.loads(done.stdout)["items"]]
    assert seqs == list(range(MESSAGES - views.TRACED + 1, MESSAGES + 1))
    assert "the newest 1000" in esb("trace", lot()).stderr


def test_a_list_that_ends_at_its_limit_says_that_there_may_be_more(esb: Callable[..., Result]) -> None:
    assert "the newest 100" in esb("messages", "ls").stderr
    assert esb("messages", "ls", "--track", "order=O000000007").stderr == ""


def test_the_pages_of_a_list_hang_together_by_the_place_of_the_last_one(root: Path) -> None:
    async def listed() -> list[str]:
        found: list[str] = []
        async with offline_app(root) as app:
            before = ""
            while items := json.loads(await asked(app, f"/messages?limit=400{before}"))["items"]:
                found += [item["id"] for item in items]
                before = f"&before={items[-1]['seq']}"
        return found

    found = asyncio.run(listed())
    assert len(found) == len(set(found)) == MESSAGES


def test_an_export_is_everything_that_was_asked_for(esb: Callable[..., Result]) -> None:
    items = [json.loads(line) for line in esb("messages", "export").stdout.splitlines()]
    assert [item["seq"] for item in items] == list(range(MESSAGES, 0, -1))
    assert '"quantity": 12.10' in items[0]["body"]
    assert len(esb("messages", "export", "--limit", "250").stdout.splitlines()) == 250
    assert len(json.loads(esb("messages", "export", "--json", "--state", "dead").stdout)["items"]) > 0


@pytest.mark.parametrize("shown", [views.messages, views.whole])
def test_a_limit_is_of_what_may_be_seen_however_much_else_lies_between(store: SqlStore, shown: Any) -> None:
    route = store.find(Filter(limit=1))[0].envelope.route
    mine = [one.envelope.seq for one in store.find(Filter(route=route, limit=50))]
    assert mine[-1] < MESSAGES - 2 * views.PAGE
    assert [one["seq"] for page in shown(store, Filter(limit=50), route.__eq__) for one in page] == mine


def test_every_page_of_an_export_means_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def get(_: Any, path: str, words: Any, **__: Any) -> Any:
        asked.append(words["since"])
        return {"items": [{"seq": 100 - len(asked)}] if len(asked) < 3 else []}

    monkeypatch.setattr(operate.Gateway, "get", get)
    for word in ("24h", "2026-05-31T06:00:00Z", "yesterday"):
        asked.clear()
        CliRunner().invoke(cli, ["messages", "export", "--since", word], catch_exceptions=False)
        assert len(asked) == 3
        assert len(set(asked)) == 1
        assert (asked[0] == word) is (word != "24h")


def test_an_answer_with_payloads_ends_behind_some_megabytes_and_an_export_goes_on_there(
    tmp_path: Path,
) -> None:
    files.create(tmp_path / "bus.db", datetime.now(UTC))
    Population(12).write(tmp_path / "bus.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "bus.db")) as file:
        file.execute("UPDATE message SET body = CAST(replace(hex(zeroblob(450000)), '00', '12') AS BLOB)")
        file.commit()
    store = asyncio.run(open_store(f"sqlite:///{tmp_path}/bus.db", tmp_path, clock=SystemClock(), read_only=True))
    first = [item["seq"] for page in views.whole(store, Filter()) for item in page]
    assert first == list(range(12, 3, -1))
    asyncio.run(store.close())
    (tmp_path / ".esb").mkdir()
    (tmp_path / "esb.yaml").write_text("bus: plant\n")
    (tmp_path / "bus.db").rename(tmp_path / ".esb" / "bus.db")
    done = CliRunner().invoke(cli, ["messages", "export", "-C", str(tmp_path)])
    assert [json.loads(line)["seq"] for line in done.stdout.splitlines()] == list(range(12, 0, -1))
