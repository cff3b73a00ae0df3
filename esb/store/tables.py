"""The tables of the store, the same for every database; the numbers in this file are part of the file format.

``message`` is only appended to (a body changes by ``edit`` alone). A message that is open has one row in the narrow
``pending``, every other one row in ``outcome``: so the backlog never slows down what is new. Instants are
microseconds since 1970 UTC. ``counter`` is kept in the transactions that move messages; nothing ever counts rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)

from esb.message import State

SCHEMA_VERSION = 1
#: "ESB1" in the header of the file, so that no other SQLite file is taken for a store.
APPLICATION_ID = 0x45534231

QUEUED, RUNNING, WAITING, HELD, DONE, DEAD, EXPIRED, DUPLICATE, SUPERSEDED, DISCARDED = range(10)
#: Rows of ``counter`` that are not states.
ACCEPTED, PURGED = 100, 101

CODES: Mapping[State, int] = MappingProxyType(
    {
        State.QUEUED: QUEUED,
        State.RUNNING: RUNNING,
        State.WAITING: WAITING,
        State.HELD: HELD,
        State.DONE: DONE,
        State.DEAD: DEAD,
        State.EXPIRED: EXPIRED,
        State.DUPLICATE: DUPLICATE,
        State.SUPERSEDED: SUPERSEDED,
        State.DISCARDED: DISCARDED,
    }
)
STATES: tuple[State, ...] = tuple(CODES)
#: States up to this code are open (a row in ``pending``).
LAST_OPEN = HELD

metadata = MetaData()
Int = BigInteger().with_variant(Integer(), "sqlite")


def _table(name: str, *parts: Any, rowid: bool = True) -> Table:
    """``rowid=False``: the primary key is the table, for small rows that are found by several columns."""
    return Table(name, metadata, *parts, sqlite_with_rowid=rowid)


#: Names that repeat in every row (routes, scopes, versions), kept once. Id 0 is the empty text.
word = _table("word", Column("id", Int, primary_key=True), Column("text", Text, nullable=False, unique=True))

message = _table(
    "message",
    Column("seq", Int, primary_key=True, autoincrement=False),
    Column("mid", LargeBinary, nullable=False, unique=True),
    Column("route", Int, nullable=False),
    Column("scope", Int, nullable=False),
    Column("version", Int, nullable=False),
    Column("key", Text),
    Column("created", Int, nullable=False),
    Column("correlation", Text),  # null: its own id
    Column("parent", LargeBinary),
    Column("replay_of", LargeBinary),
    Column("duplicate_of", LargeBinary),
    Column("origin", Text),  # null: its own id
    Column("overtakes", Int, nullable=False),
    Column("priority", Int, nullable=False),
    Column("content", Text, nullable=False),
    Column("headers", LargeBinary),
    Column("vars", LargeBinary),
    Column("meta", LargeBinary),
    Column("track", LargeBinary),
    Column("body", LargeBinary, nullable=False),
)
Index("message_route", message.c.route, message.c.seq)
for _name in ("key", "correlation", "parent"):
    _column = message.c[_name]
    _filled = _column.is_not(None)
    Index(f"message_{_name}", _column, message.c.seq, sqlite_where=_filled, postgresql_where=_filled)

#: Earliest and latest `created` of each ``SPAN`` messages in a row: finds a stretch of time without an index on it, and
#: stays right where the clock jumped.
SPAN = 4096
span = _table(
    "span",
    Column("n", Int, primary_key=True, autoincrement=False),  # seq // SPAN
    Column("first", Int, nullable=False),
    Column("last", Int, nullable=False),
)

pending = _table(
    "pending",
    Column("seq", Int, primary_key=True, autoincrement=False),
    Column("mid", LargeBinary, nullable=False),
    Column("route", Int, nullable=False),
    Column("scope", Int, nullable=False),
    Column("key", Text),
    Column("state", Int, nullable=False),
    Column("due", Int),
    Column("attempts", Int, nullable=False),
    Column("earlier", Int, nullable=False),  # attempts before a person retried it
    Column("crashes", Int, nullable=False),
    Column("traces", Int, nullable=False),  # rows in `attempt`
    Column("created", Int, nullable=False),
    Column("priority", Int, nullable=False),
    Column("overtakes", Int, nullable=False),
    Column("version", Int, nullable=False),
)
Index("pending_route", pending.c.route, pending.c.seq)
_keyed = pending.c.key.is_not(None)
Index(
    "pending_lane",
    pending.c.route,
    pending.c.scope,
    pending.c.key,
    pending.c.seq,
    sqlite_where=_keyed,
    postgresql_where=_keyed,
)

outcome = _table(
    "outcome",
    Column("seq", Int, primary_key=True, autoincrement=False),
    Column("route", Int, nullable=False),
    Column("state", Int, nullable=False),
    Column("finished", Int, nullable=False),
    Column("attempts", Int, nullable=False),
    Column("reason", Text),
    Column("error", LargeBinary),
    Column("trace", LargeBinary),  # of the last attempt, unless it is dead: a dead message may be tried again
    Column("grp", Text),  # dead letters that look alike
    Column("dead_letter", Text),  # the group that the route named
)
#: Everything but ``done``; a query that should use the index says so with this very condition.
NOTABLE = text("outcome.state > 4")
Index(
    "outcome_notable",
    outcome.c.state,
    outcome.c.seq,
    outcome.c.route,
    outcome.c.grp,
    outcome.c.finished,
    sqlite_where=text("state > 4"),
    postgresql_where=text("state > 4"),
)

#: Every attempt but one that ended the message for good (see ``outcome``); ``n`` 0 is the original of an edited message.
attempt = _table(
    "attempt",
    Column("seq", Int),
    Column("n", Int),
    Column("attempt", Int, nullable=False),
    Column("at", Int, nullable=False),
    Column("state", Int, nullable=False),
    Column("trace", LargeBinary),
    Column("error", LargeBinary),
    PrimaryKeyConstraint("seq", "n"),
    rowid=False,
)

ledger = _table(
    "ledger",
    Column("seq", Int),
    Column("step", Text),
    Column("value", LargeBinary, nullable=False),
    PrimaryKeyConstraint("seq", "step"),
    rowid=False,
)

dedupe = _table(
    "dedupe",
    Column("route", Int),
    Column("space", Text),
    Column("key", Text),
    Column("seq", Int, nullable=False),
    Column("mid", LargeBinary),
    Column("expires", Int, nullable=False),
    Column("fingerprint", Text, nullable=False),
    PrimaryKeyConstraint("route", "space", "key"),
    rowid=False,
)

# value first: a search for a value alone and one for name and value use the same key
track = _table(
    "track",
    Column("value", Text),
    Column("name", Text),
    Column("seq", Int),
    PrimaryKeyConstraint("value", "name", "seq"),
    rowid=False,
)

#: Dead messages that block their lane (``order: { on_dead: block }``).
block = _table(
    "block",
    Column("route", Int),
    Column("scope", Int),
    Column("key", Text),
    Column("seq", Int),
    PrimaryKeyConstraint("route", "scope", "key", "seq"),
    rowid=False,
)

counter = _table(
    "counter",
    Column("route", Int),
    Column("state", Int),
    Column("n", Int, nullable=False),
    PrimaryKeyConstraint("route", "state"),
    rowid=False,
)

state = _table(
    "state",
    Column("space", Text),
    Column("name", Text),
    Column("value", LargeBinary, nullable=False),
    PrimaryKeyConstraint("space", "name"),
    rowid=False,
)

version = _table(
    "version",
    Column("route", Text),
    Column("version", Text),
    Column("files", LargeBinary, nullable=False),
    Column("at", Int, nullable=False),
    PrimaryKeyConstraint("route", "version"),
    rowid=False,
)

audit = _table(
    "audit",
    Column("seq", Int, primary_key=True, autoincrement=False),
    Column("at", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("object", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("prev_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
)

#: ``epoch clean last_seq audit_head created``
meta = _table("meta", Column("name", Text, primary_key=True), Column("value", Text, nullable=False), rowid=False)
