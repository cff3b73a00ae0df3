"""Claim checks: what stands in a message in place of a part that was put aside, and what the two steps ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

from esb.blob import Blob
from esb.errors import Invalid
from esb.formats.packed import KEPT
from esb.formats.unread import Unread
from esb.message import Message
from esb.steps.base import Context
from esb.steps.paths import Path

_CLAIM = re.compile(r"claim:sha256:([0-9a-f]{64})")


class Claims(Protocol):
    """Parts of one message that lie beside the store."""

    async def put_aside(self, content: bytes | Blob) -> Blob:
        """Keep bytes beside the store, at least as long as this message; durable when it returns."""
        ...

    async def bring_back(self, sha256: str) -> Blob:
        """What was put aside for this message or for one that it came from. Raises Invalid where nothing is."""
        ...

    async def whole(self, blob: Blob) -> bytes:
        """All bytes of a blob. Raises Invalid where they are more than memory is given for."""
        ...


class ClaimContext(Context, Protocol):
    """What the steps `claim` and `fetch` may do beside all others."""

    @property
    def aside(self) -> Claims: ...


def ticket_of(blob: Blob, content: str) -> dict[str, Any]:
    """The claim check of a part: ``content`` is how its bytes are read (``json``, ``packed``, ``raw``)."""
    return {"claim": f"claim:sha256:{blob.sha256}", "bytes": blob.size, "content": content}


def ticket_in(value: Any) -> tuple[str, str] | None:
    """The SHA-256 and the content of a claim check; None for any other value."""
    if not isinstance(value, Mapping) or not isinstance(claim := value.get("claim"), str):
        return None
    found = _CLAIM.fullmatch(claim)
    return (found[1], str(value.get("content", "json"))) if found is not None else None


def part_at(message: Message, path: Path) -> Any:
    """The part of a message at a path; None where there is none."""
    value: Any = getattr(message, path[0])
    for name in path[1:]:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def part_of(data: bytes, content: str) -> Any:
    """The part again, whose ticket says ``content``. Raises Invalid."""
    codec = KEPT.get(content)
    if codec is None:
        words = ", ".join(f"`{word}`" for word in KEPT)
        raise Invalid(f"the claim check says `{content}`, which is none of {words}")
    return codec.decode(data)


def kept_as(body: Unread) -> str | None:
    """The word for an undecoded body that can be put aside as it lies; None where whoever fetches it could not read it."""
    return next((word for word, codec in KEPT.items() if codec == body.codec), None)


__all__ = ["ClaimContext", "Claims", "kept_as", "part_at", "part_of", "ticket_in", "ticket_of"]
