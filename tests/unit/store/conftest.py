"""What the tests of the store share: a workspace folder, a clock, and stores that are closed whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from esb.clock import ManualClock
from esb.message import Envelope, State, new_id
from esb.store import open_store
from esb.store.base import NewMessage, Settlement
from esb.store.sqlstore import SqlStore

NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


class Stores:
    """Opens stores in one workspace."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / ".esb" / "bus.db"
        self.opened: list[SqlStore] = []

    async def open(self, **options: Any) -> SqlStore:
        options.setdefault("min_free", 0)
        store = await open_store("sqlite:///.esb/bus.db", self.root, clock=ManualClock(NOW), **options)
        self.opened.append(store)
        return store

    @staticmethod
    def new(route: str = "r", **parts: Any) -> NewMessage:
        own = {name: parts.pop(name) for name in list(parts) if name in NewMessage.__slots__}
        id_ = parts.pop("id", None) or new_id()
        filled = {"body": b"{}", "content": "json", "accepted_at": NOW, "origin": id_, "correlation_id": id_} | parts
        return NewMessage(Envelope(id=id_, route=route, **filled), **own)

    @staticmethod
    def done(seq: int, **parts: Any) -> Settlement:
        return Settlement(seq, State.DONE, 1, NOW, **parts)


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    opened = Stores(tmp_path)
    yield opened
    for store in opened.opened:
        if not store._closed:
            for part in (store._hot, store._search, store._writer):
                if part is not None:
                    part.close()
