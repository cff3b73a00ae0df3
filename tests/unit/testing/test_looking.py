"""Looks between the steps change nothing of how a message ends, and the book says what each step made of it."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from esb.config.loader import read_workspace
from esb.formats.json import Json
from esb.message import Envelope
from esb.testing import looking
from esb.testing.clock import VirtualClock
from esb.testing.looking import Book
from esb.testing.rehearse import Rehearsed, Trial, rehearse

EXAMPLES = Path(__file__).resolve().parents[3] / "examples/steps"
ID = "0190a0a0-0000-7000-8000-000000000000"
AT = datetime(2026, 5, 31, 6, tzinfo=UTC)
LINES = {"order": "4711", "of": 1, "line": 1}
DENIED = {"order": "4712", "qty": 99}


def tried(root: Path, route: str, body: object, book: Book | None) -> Rehearsed:
    clock = VirtualClock()
    found = read_workspace(root, need_secrets=False, clock=clock, weave=book.weave if book is not None else None)
    assert found.workspace is not None, found.problems
    envelope = Envelope(id=ID, route=route, body=Json().encode(body), content="json", accepted_at=AT, seq=1)
    ended = book.ended if book is not None else None
    (one,) = rehearse(found.workspace, route, [Trial(envelope, "done", {})], clock, ended)
    return one


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(EXAMPLES, tmp_path / "routes", ignore=shutil.ignore_patterns("connectors", "schemas", "transforms"))
    for name in ("connectors", "schemas", "transforms"):
        shutil.copytree(EXAMPLES / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(("step", "body"), [("aggregate", LINES), ("compensate", DENIED)])
def test_what_looks_on_changes_nothing(root: Path, step: str, body: object) -> None:
    plain, woven = tried(root, f"try-{step}", body, None), tried(root, f"try-{step}", body, Book())
    assert (plain.state, plain.error, plain.children) == (woven.state, woven.error, woven.children)
    assert [one["to"] for one in plain.sent] == [one["to"] for one in woven.sent] != []


def test_the_group_of_an_aggregate_goes_on_as_a_message_of_its_own(root: Path) -> None:
    book = Book()
    tried(root, "try-aggregate", LINES, book)
    whole = {(one["message"], one["step"]): one for one in book.items()}
    assert whole["", "aggregate"]["ended"]
    assert '"count": 1' in whole["aggregate", "map"]["after"]


def test_the_steps_that_undo_are_told_apart(root: Path) -> None:
    book = Book()
    tried(root, "try-compensate", DENIED, book)
    items = book.items()
    assert [one["step"] for one in items if not one["message"]] == ["to:file", "compensate", "reject"]
    assert [one["ended"] for one in items if one["step"] == "reject"] == ["dead: rejected: not so many: 99"]
    assert {one["message"] for one in items if one["message"]} == {"compensate/undo"}


def test_a_book_is_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "MOST", 2)
    monkeypatch.setattr(looking, "LONGEST", 10)
    book = Book()
    tried(root, "try-compensate", DENIED, book)
    items = book.items()
    assert book.cut
    assert len(items) == 2
    assert items[0]["before"].endswith("\n… cut")
    assert items[-1]["ended"] == "what followed was not written down: it is too much"
