"""Parts of a message that `claim` puts aside and `fetch` brings back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from esb.blob import Blob
from esb.errors import Invalid
from esb.failpoints import pause as failpoint
from esb.runtime.large import too_large

if TYPE_CHECKING:
    from esb.runtime.run import MessageRun


@dataclass(frozen=True, slots=True)
class Aside:
    """Implements :class:`esb.steps.claims.Claims` for one attempt."""

    run: MessageRun

    async def put_aside(self, content: bytes | Blob) -> Blob:
        await self.run.started()
        seq, store = self.run.entry.seq, self.run.bench.store
        if isinstance(content, Blob):  # the message's own payload
            await store.hold(seq, content)
            return content
        blob = await asyncio.to_thread(store.blobs.put, [content], len(content))
        try:
            await store.hold(seq, blob)
        finally:
            store.blobs.release(blob)
        await failpoint("claim.held")
        return blob

    async def bring_back(self, sha256: str) -> Blob:
        blob = self.run.bench.store.held(self.run.entry.seq, sha256)
        if blob is None:
            raise Invalid(
                f"nothing was put aside under {sha256[:12]}… for this message",
                hint="is it a claim check of this bus? retention removes a part with the last message that holds it",
            )
        return blob

    async def whole(self, blob: Blob) -> bytes:
        away = self.run.bench.away
        if away is not None and blob.size > away.limits.in_memory:
            raise too_large(blob.size, away.limits)
        return await asyncio.to_thread(blob.read)


__all__ = ["Aside"]
