"""The message, its states and the moves between them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Self

import uuid_utils
from msgspec import Struct

from esb.blob import Blob


class _Empty(dict[str, Any]):
    """A mapping that stays empty: hashable, so that a dataclass takes it as a default, too (3.11 refuses a mapping proxy)."""

    __slots__ = ()

    def _refuse(self, *_: object, **__: object) -> Any:
        raise TypeError("this empty mapping is shared and never changes")

    __setitem__ = __delitem__ = __ior__ = update = setdefault = pop = popitem = clear = _refuse

    def __hash__(self) -> int:  # type: ignore[override]  # it cannot change, so it may be hashed
        return hash("esb.empty")


EMPTY: Mapping[str, Any] = _Empty()
_SAME: Any = object()


class State(StrEnum):
    """Where an accepted message is; it is in exactly one of these (SPEC promise 2)."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    HELD = "held"
    DONE = "done"
    DEAD = "dead"
    EXPIRED = "expired"
    DUPLICATE = "duplicate"
    SUPERSEDED = "superseded"
    DISCARDED = "discarded"

    #: that of its text, which it is equal to; the one of ``Enum`` is a call of Python for each look into a mapping
    __hash__ = str.__hash__


#: The states of a message that still has work to do; every other state is final until a person acts.
OPEN_STATES = frozenset({State.QUEUED, State.RUNNING, State.WAITING, State.HELD})

#: The legal moves. Stores refuse every other one; the docs print this table.
MOVES: Mapping[State, frozenset[State]] = MappingProxyType(
    {
        State.QUEUED: frozenset(
            {State.RUNNING, State.HELD, State.EXPIRED, State.SUPERSEDED, State.DISCARDED, State.DONE, State.DEAD}
        ),
        State.RUNNING: frozenset(
            {State.DONE, State.WAITING, State.DEAD, State.QUEUED, State.EXPIRED, State.SUPERSEDED, State.DUPLICATE}
        ),
        State.WAITING: frozenset(
            {State.RUNNING, State.QUEUED, State.HELD, State.EXPIRED, State.SUPERSEDED, State.DISCARDED, State.DEAD}
        ),
        State.HELD: frozenset({State.QUEUED, State.SUPERSEDED, State.EXPIRED, State.DISCARDED}),
        State.DEAD: frozenset({State.QUEUED, State.DISCARDED, State.SUPERSEDED}),
        State.DONE: frozenset(),
        State.EXPIRED: frozenset(),
        State.DUPLICATE: frozenset(),
        State.SUPERSEDED: frozenset(),
        State.DISCARDED: frozenset(),
    }
)


#: The instant until which a message waits that waits for something else than time (SPEC: `lookup`, `missing: park`).
PARKED = datetime(9999, 12, 31, tzinfo=UTC)


def new_id() -> str:
    """A new public message id: UUIDv7 text, so that ids sort by time of acceptance."""
    return str(uuid_utils.uuid7())


class Message(Struct, frozen=True):
    """What a step sees and answers with. It never changes; use :meth:`derive` and its siblings.

    ``body`` is the decoded payload (dict, list, str, Decimal, int, bool, None; bytes where no format applies; a
    :class:`~esb.blob.Blob` where a large one was not decoded, which few steps see).
    ``headers`` have lower-case names. ``vars`` belong to this message's run. ``meta`` is written by the bus only:
    ``message_id correlation_id route received_at attempt source{…} reply{status,headers,body}`` and what an endpoint adds
    (``file_name``, ``params`` …).
    """

    body: Any
    headers: Mapping[str, Any] = EMPTY
    vars: Mapping[str, Any] = EMPTY
    meta: Mapping[str, Any] = EMPTY

    def derive(self, *, body: Any = _SAME, headers: Any = _SAME, vars: Any = _SAME, meta: Any = _SAME) -> Self:  # noqa: A002 - the word of the routes
        """The same message with some parts replaced."""
        return type(self)(
            self.body if body is _SAME else body,
            self.headers if headers is _SAME else headers,
            self.vars if vars is _SAME else vars,
            self.meta if meta is _SAME else meta,
        )

    def with_var(self, name: str, value: Any) -> Self:
        return type(self)(self.body, self.headers, {**self.vars, name: value}, self.meta)

    def with_meta(self, name: str, value: Any) -> Self:
        return type(self)(self.body, self.headers, self.vars, {**self.meta, name: value})

    def scope(self, site: Mapping[str, Any] = EMPTY) -> dict[str, Any]:
        """The names that expressions and templates see."""
        return {"body": self.body, "headers": self.headers, "vars": self.vars, "meta": self.meta, "site": site}


class Envelope(Struct, frozen=True, gc=False):
    """A message as the store keeps it: payload bytes plus everything that identifies, orders and links it.

    ``seq`` is its place in the order of acceptance (0 until the store gave one). ``scope`` is empty for a message of the
    route itself, else the step path of the ``split`` or branch of the ``fanout`` that made it (``fanout/mes``).
    ``origin`` is the base of its delivery ids: its own id, or that of the message it replays, or parent origin + place.
    """

    id: str
    route: str
    body: bytes
    content: str  #: codec of ``body``: ``json``, ``packed`` (JSON with bytes in it), ``raw``, ``source`` for as it came
    accepted_at: datetime
    version: str = ""
    scope: str = ""
    key: str | None = None
    origin: str = ""
    correlation_id: str = ""
    parent_id: str | None = None
    replay_of: str | None = None
    duplicate_of: str | None = None
    overtakes: bool = False
    priority: int = 0
    headers: Mapping[str, Any] = EMPTY
    vars: Mapping[str, Any] = EMPTY
    meta: Mapping[str, Any] = EMPTY
    track: Mapping[str, str] = EMPTY
    seq: int = 0
    blob: Blob | None = None  #: a large payload lies here, and ``body`` is empty

    @property
    def size(self) -> int:
        """Bytes of the payload."""
        return len(self.body) if self.blob is None else self.blob.size

    def payload(self) -> bytes:
        """The payload as a whole, wherever it lies."""
        return self.body if self.blob is None else self.blob.read()


def short_version(digest: str) -> str:
    """A version as people see it: the first eight digits of its digest, the same in every list."""
    return digest[:8]


def delivery_id(origin: str, step: str) -> str:
    """The stable id of one delivery: the same on every retry, restart and replay (SPEC promise 3)."""
    digest = bytearray(hashlib.sha256(f"{origin}#{step}".encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80  # UUIDv8 (RFC 9562): made by a rule of our own
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
