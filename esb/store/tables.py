"""The tables of the store, the same for every database; their numbers are in :mod:`esb.store.codes`.

``message`` is only appended to (a body changes by ``edit`` alone). A message that is open has one row in the narrow
``pending``, every other one row in ``outcome``: so the backlog never slows down what is new. Instants are
microseconds since 1970 UTC. ``counter`` is kept in the transactions that move messages; nothing ever counts rows.

Importing this imports SQLAlchemy, which takes longer than all else at a start: only the making of a store and the
searches of people do it.
"""

from __future__ import annotations

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

metadata = MetaData()
Int = BigInteger().with_variant(Integer(), "sqlite")
#: Compared by code points everywhere, as SQLite does by itself: places of a walk and beginnings of names rely on it.
Str = Text().with_variant(Text(collation="C"), "postgresql")


def _table(name: str, *parts: Any, rowid: bool = True) -> Table:
    """``rowid=False``: the primary key is the table, for small rows that are found by several columns."""
    return Table(name, metadata, *parts, sqlite_with_rowid=rowid)


#: Names that repeat in every row (routes, scopes, versions), kept once. Id 0 is the empty text.
word = _table("word", Column("id", Int, primary_key=True), Column("text", Str, nullable=False, unique=True))

message = _table(
    "message",
    Column("seq", Int, primary_key=True, autoincrement=False),
    Column("mid", LargeBinary, nullable=False, unique=True),
    Column("route", Int, nullable=False),
    Column("scope", Int, nullable=False),
    Column("version", Int, nullable=False),
    Column("key", Str),
    Column("created", Int, nullable=False),
    Column("correlation", Str),  # null: its own id
    Column("parent", LargeBinary),
    Column("replay_of", LargeBinary),
    Column("duplicate_of", LargeBinary),
    Column("origin", Str),  # null: its own id
    Column("overtakes", Int, nullable=False),
    Column("priority", Int, nullable=False),
    Column("content", Str, nullable=False),
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
    Column("key", Str),
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
    Column("reason", Str),
    Column("error", LargeBinary),
    Column("trace", LargeBinary),  # of the last attempt, unless it is dead: a dead message may be tried again
    Column("grp", Str),  # dead letters that look alike
    Column("dead_letter", Str),  # the group that the route named
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
    Column("step", Str),
    Column("value", LargeBinary, nullable=False),
    PrimaryKeyConstraint("seq", "step"),
    rowid=False,
)

dedupe = _table(
    "dedupe",
    Column("route", Int),
    Column("space", Str),
    Column("key", Str),
    Column("seq", Int, nullable=False),
    Column("mid", LargeBinary),
    Column("expires", Int, nullable=False),
    Column("fingerprint", Str, nullable=False),
    PrimaryKeyConstraint("route", "space", "key"),
    rowid=False,
)

# value first: a search for a value alone and one for name and value use the same key
track = _table(
    "track",
    Column("value", Str),
    Column("name", Str),
    Column("seq", Int),
    PrimaryKeyConstraint("value", "name", "seq"),
    rowid=False,
)

#: Dead messages that block their lane (``order: { on_dead: block }``).
block = _table(
    "block",
    Column("route", Int),
    Column("scope", Int),
    Column("key", Str),
    Column("seq", Int),
    PrimaryKeyConstraint("route", "scope", "key", "seq"),
    rowid=False,
)

#: Which messages keep which payload file (see :mod:`esb.store.blobs`): as their body, or set aside by a ``claim``.
blob = _table(
    "blob",
    Column("seq", Int),
    Column("sha", LargeBinary),
    Column("size", Int, nullable=False),
    PrimaryKeyConstraint("seq", "sha"),
    rowid=False,
)
Index("blob_sha", blob.c.sha)

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
    Column("space", Str),
    Column("name", Str),
    Column("value", LargeBinary, nullable=False),
    PrimaryKeyConstraint("space", "name"),
    rowid=False,
)

version = _table(
    "version",
    Column("route", Str),
    Column("version", Str),
    Column("files", LargeBinary, nullable=False),
    Column("at", Int, nullable=False),
    PrimaryKeyConstraint("route", "version"),
    rowid=False,
)

audit = _table(
    "audit",
    Column("seq", Int, primary_key=True, autoincrement=False),
    Column("at", Str, nullable=False),
    Column("actor", Str, nullable=False),
    Column("action", Str, nullable=False),
    Column("object", Str, nullable=False),
    Column("reason", Str, nullable=False),
    Column("detail", Str, nullable=False),
    Column("prev_hash", Str, nullable=False),
    Column("hash", Str, nullable=False),
)
Index("audit_object", audit.c.object, audit.c.seq)

#: Who may call the admin listener: users, API tokens, requests that wait for a second person. ``value`` is canonical JSON.
access = _table(
    "access",
    Column("kind", Str),
    Column("name", Str),
    Column("value", Str, nullable=False),
    PrimaryKeyConstraint("kind", "name"),
    rowid=False,
)

# -- indicators ---------------------------------------------------------------------------------------------------------
#: Pairs that are open: begun, and not ended. ``weight`` in millionths of the indicator's unit.
kpi_pair = _table(
    "kpi_pair",
    Column("kpi", Int),
    Column("key", Str),
    Column("label", Str, nullable=False),
    Column("start", Int, nullable=False),
    Column("due", Int),
    Column("weight", Int, nullable=False),
    Column("seen", Str, nullable=False),  # the parts that have ended, as JSON
    PrimaryKeyConstraint("kpi", "key"),
    rowid=False,
)
Index("kpi_pair_start", kpi_pair.c.kpi, kpi_pair.c.start, kpi_pair.c.weight)
Index("kpi_pair_due", kpi_pair.c.kpi, kpi_pair.c.due, kpi_pair.c.weight)

#: The level of each key of a gauge that is not zero, in millionths; ``since`` it left zero.
kpi_level = _table(
    "kpi_level",
    Column("kpi", Int),
    Column("key", Str),
    Column("label", Str, nullable=False),
    Column("n", Int, nullable=False),
    Column("weight", Int, nullable=False),
    Column("since", Int, nullable=False),
    PrimaryKeyConstraint("kpi", "key"),
    rowid=False,
)
Index("kpi_level_since", kpi_level.c.kpi, kpi_level.c.since, kpi_level.c.weight)

#: What an indicator counted in an hour (hours since 1970 UTC); hour 0 holds what is so now: open pairs, levels.
kpi_hour = _table(
    "kpi_hour",
    Column("kpi", Int),
    Column("hour", Int),
    Column("label", Str),
    Column("what", Str),
    Column("n", Int, nullable=False),
    Column("weight", Int, nullable=False),
    PrimaryKeyConstraint("kpi", "hour", "label", "what"),
    rowid=False,
)

#: What two systems do not agree on (a ``reconcile`` step); ``still`` is 1 while it is found, also where a person accepted it.
difference = _table(
    "difference",
    Column("name", Str),
    Column("key", Str),
    Column("opened", Int),
    Column("seen", Int, nullable=False),
    Column("closed", Int),
    Column("how", Str),
    Column("who", Str),
    Column("reason", Str),
    Column("fingerprint", Str, nullable=False),
    Column("value", Int, nullable=False),
    Column("finding", LargeBinary, nullable=False),
    Column("still", Int, nullable=False),
    PrimaryKeyConstraint("name", "key", "opened"),
    rowid=False,
)
_still_open = difference.c.closed.is_(None)
Index(
    "difference_open",
    difference.c.name,
    difference.c.opened,
    difference.c.value,
    sqlite_where=_still_open,
    postgresql_where=_still_open,
)

#: Tracked values whose messages retention must leave.
legal_hold = _table(
    "legal_hold",
    Column("name", Str),
    Column("value", Str),
    Column("who", Str, nullable=False),
    Column("reason", Str, nullable=False),
    Column("at", Int, nullable=False),
    PrimaryKeyConstraint("name", "value"),
    rowid=False,
)

#: ``epoch clean last_seq audit_head created``
meta = _table("meta", Column("name", Str, primary_key=True), Column("value", Str, nullable=False), rowid=False)
