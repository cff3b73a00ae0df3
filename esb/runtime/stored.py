"""What a source remembers over restarts, kept in the store; and writes whose answer nobody may need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from esb.store.base import Store


@dataclass(frozen=True, slots=True)
class StoredState:
    """Implements :class:`esb.endpoints.base.SourceState` over the store."""

    store: Store
    space: str

    async def get(self, name: str) -> Any:
        return self.store.get_state(self.space, name)

    async def put(self, name: str, value: Any) -> None:
        await self.store.put_state(self.space, name, value)

    async def forget(self, name: str) -> None:
        await self.store.put_state(self.space, name, None)


def swallow(future: Any) -> None:
    """A ledger entry that could not be saved early is saved by the settlement, or the delivery is repeated."""
    if not future.cancelled():
        future.exception()
