"""Six ways to change an audit of 10 000 entries behind the bus's back; `esb audit verify` finds each and names the place."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from esb.cli import cli
from esb.clock import ManualClock
from esb.store import open_store
from esb.store.anchor import Anchor
from esb.store.base import AuditEntry
from esb.store.chain import COLUMNS, START, link

ENTRIES = 10_000
NAMES = ", ".join(COLUMNS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stopped workspace whose audit has 10 000 entries, anchored at 4 000, 8 000 and at the end."""
    root = tmp_path_factory.mktemp("audited")
    (root / "esb.yaml").write_text("audit: { anchor: elsewhere/esb.anchor, key: '${secret:audit-key}' }\n")
    (root / ".secrets").mkdir(mode=0o700)
    (root / ".secrets" / "audit-key").write_text("a key of the quality department")
    (root / ".secrets" / "audit-key").chmod(0o600)

    async def fill() -> None:
        clock = ManualClock()
        store = await open_store("sqlite:///.esb/bus.db", root, clock=clock, min_free=0)
        anchor = Anchor(root / "elsewhere" / "esb.anchor", _key())
        for upto in (4_000, 8_000, ENTRIES):
            begin = store.audit_head()[0]
            entries = [AuditEntry("mia", "dlq.retry", f"m{n}", "why", {"n": n}) for n in range(begin, upto)]
            await asyncio.gather(*[store.audit(entry, clock.now()) for entry in entries])
            assert anchor.write(*store.audit_head(), clock.now().isoformat())
            assert not anchor.write(*store.audit_head(), clock.now().isoformat()), "the head did not move"
        await store.close()

    asyncio.run(fill())
    return root


def _key() -> Any:
    from esb.secret import Secret

    return Secret("a key of the quality department")


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    return copy


def sql(root: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(root / ".esb" / "bus.db", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def rechain(root: Path, first: int, change: str) -> None:
    """What somebody does who knows how the chain is made: change an entry, and compute every hash behind it anew."""
    with contextlib.closing(sqlite3.connect(root / ".esb" / "bus.db", isolation_level=None)) as connection:
        connection.execute("BEGIN")
        if change:
            connection.execute(change)
        row = connection.execute("SELECT hash FROM audit WHERE seq = ?", (first - 1,)).fetchone()
        before, seq = (row[0] if row else START), first - 1
        for values in connection.execute(f"SELECT {NAMES} FROM audit WHERE seq >= ? ORDER BY seq", (first,)).fetchall():
            entry = dict(zip(COLUMNS, values, strict=True))
            entry["prev_hash"], seq = before, entry["seq"]
            before = entry["hash"] = link(entry)
            connection.execute("UPDATE audit SET prev_hash = :prev_hash, hash = :hash WHERE seq = :seq", entry)
        connection.execute("UPDATE meta SET value = ? WHERE name = 'audit_head'", (f"{seq} {before}",))
        connection.execute("COMMIT")


def verify(root: Path, *more: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["audit", "verify", "-C", str(root), *more])
    return done.exit_code, done.output


def without_anchor(root: Path) -> tuple[int, str]:
    (root / "esb.yaml").write_text("bus: plain\n")
    return verify(root)


def test_an_audit_that_nobody_touched_is_whole(root: Path) -> None:
    assert verify(root) == (0, "the chain is whole, and the anchor confirms it\n")
    code, said = without_anchor(root)
    assert code == 0
    assert "without an anchor" in said


CHAIN_SHOWS = {
    "edit": (("UPDATE audit SET reason = 'other' WHERE seq = 4711",), "entry 4711 was changed"),
    "delete": (("DELETE FROM audit WHERE seq = 4711",), "entry 4711 is missing"),
    "insert": (
        (
            "UPDATE audit SET seq = -seq WHERE seq >= 4711",
            "UPDATE audit SET seq = 1 - seq WHERE seq < 0",
            f"INSERT INTO audit ({NAMES}) SELECT 4711, {NAMES.partition(', ')[2]} FROM audit WHERE seq = 12",
        ),
        "entry 4711 does not follow",
    ),
    "swap": (
        (
            "UPDATE audit SET seq = 99999 WHERE seq = 4711",
            "UPDATE audit SET seq = 4711 WHERE seq = 4712",
            "UPDATE audit SET seq = 4712 WHERE seq = 99999",
        ),
        "entry 4711",
    ),
}


@pytest.mark.parametrize("name", CHAIN_SHOWS)
def test_the_chain_shows_it_and_names_the_first_bad_entry(root: Path, name: str) -> None:
    statements, expected = CHAIN_SHOWS[name]
    sql(root, *statements)
    code, said = verify(root)
    assert (code, expected in said.splitlines()[0], "only the anchor" in said) == (1, True, False), said[:500]
    assert without_anchor(root)[0] == 1


ANCHOR_SHOWS = {
    "cut tail": (9_001, "DELETE FROM audit WHERE seq > 9000", "entry 9001 is missing: the end was cut"),
    "rewrite of everything": (1, "UPDATE audit SET actor = 'nobody'", "entry 1 or one behind it, up to entry 4000"),
    "rewrite of the end": (
        8_500,
        "UPDATE audit SET actor = 'nobody' WHERE seq = 8500",
        "entry 8001 or one behind it, up to entry 10000",
    ),
}


@pytest.mark.parametrize("name", ANCHOR_SHOWS)
def test_only_the_anchor_shows_what_was_made_consistent(root: Path, name: str) -> None:
    first, change, expected = ANCHOR_SHOWS[name]
    if name == "cut tail":
        sql(root, change)
        rechain(root, 9_000, "")
    else:
        rechain(root, first, change)
    code, said = verify(root, "--json")
    (item,) = json.loads(said)["items"]
    assert (code, expected in item["fault"], item["needs_anchor"]) == (1, True, True), item
    assert without_anchor(root)[0] == 0, "the chain alone cannot show it, and says so"


def test_a_line_of_the_anchor_cannot_be_made_up_without_its_key(root: Path) -> None:
    path = root / "elsewhere" / "esb.anchor"
    line = json.loads(path.read_text().splitlines()[0])
    copy = root / "copy.anchor"
    copy.write_text(json.dumps({**line, "hash": "0" * 64}) + "\n")
    code, said = verify(root, "--anchor", str(copy))
    assert (code, "line 1 of the anchor is not one that this bus wrote" in said) == (1, True)


def test_a_missing_anchor_is_no_confirmation(root: Path) -> None:
    (root / "elsewhere" / "esb.anchor").unlink()
    assert verify(root)[0] == 66
