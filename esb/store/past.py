"""What happened to stored messages, as far as the store still knows: for indicators that were not there yet when it happened."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from msgspec import structs

from esb.blob import Blob
from esb.message import Envelope, State
from esb.store import facts
from esb.store.base import AuditEntry
from esb.store.blob_rows import split_content
from esb.store.chain import append
from esb.store.codes import ABSORBED, DEAD, SPAN, STATES
from esb.store.commands import put_state
from esb.store.facts import Fact
from esb.store.queries import Queries
from esb.store.values import dump_any, load_any, load_trace, micros
from esb.store.writer import Words, Writer

#: Marks that one statement reads.
_TOGETHER = 500
_ATTEMPTS = "SELECT n, at, trace FROM attempt WHERE seq = ? AND state = ? ORDER BY n"
_OUTCOME = "SELECT state, finished, reason FROM outcome WHERE seq = ?"
_CLOSED = "SELECT at, detail FROM audit WHERE action = 'kpi.close' AND object = ? ORDER BY seq"
#: The tables of an indicator's numbers.
_TABLES = ("kpi_hour", "kpi_pair", "kpi_level")


class Asked(Protocol):
    """Where rows come from: a read connection, or the transaction that is open."""

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]: ...

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None: ...


@dataclass(frozen=True, slots=True)
class Told:
    """One event of a stored message: when (microseconds since 1970), what, and the message as it was then."""

    at: int
    on: str
    envelope: Envelope


class Past:
    """Reads events of messages in the order of acceptance."""

    def __init__(self, asked: Asked, words: Words, blob_at: Callable[[str, int], Blob]) -> None:
        self._asked, self._words, self._blob_at = asked, words, blob_at
        self._queries = Queries(asked, words, blob_at)  # type: ignore[arg-type]  # of a reader it asks for rows only here

    def begin(self, since: datetime) -> int:
        """The number behind which messages that were accepted since an instant begin."""
        row = self._asked.row("SELECT min(n) FROM span WHERE last >= ?", (micros(since),))
        return max(0, int(row[0]) * SPAN - 1) if row is not None and row[0] is not None else self.head()

    def head(self) -> int:
        """The number of the newest message."""
        row = self._asked.row("SELECT coalesce(max(seq), 0) FROM message")
        return int(row[0]) if row is not None else 0

    def after(self, seq: int, limit: int) -> list[tuple[int, int]]:
        """Number and acceptance (microseconds) of the next messages."""
        sql = "SELECT seq, created FROM message WHERE seq > ? ORDER BY seq LIMIT ?"
        return [(row[0], row[1]) for row in self._asked.rows(sql, (seq, limit))]

    def marks(self, seqs: Iterable[int]) -> dict[int, str]:
        """Of the messages to which more may happen, something that changes when it does; the others have ended for good."""
        wanted, found = sorted(seqs), {}
        for start in range(0, len(wanted), _TOGETHER):
            some = wanted[start : start + _TOGETHER]
            places = ", ".join("?" * len(some))
            for seq, traces, attempts in self._asked.rows(
                f"SELECT seq, traces, attempts FROM pending WHERE seq IN ({places})",  # noqa: S608 - only places
                some,
            ):
                found[seq] = f"open {traces} {attempts}"
            for seq, finished in self._asked.rows(
                f"SELECT seq, finished FROM outcome WHERE seq IN ({places}) AND state = ?",  # noqa: S608 - only places
                (*some, DEAD),
            ):
                found[seq] = f"dead {finished}"
        return found

    def told(self, seq: int) -> list[Told]:
        """Every event of a message but its deliveries, oldest first; empty where retention has removed it meanwhile."""
        if self._asked.row("SELECT 1 FROM message WHERE seq = ?", (seq,)) is None:
            return []
        envelope, _ = self._queries.payload(seq)
        edits, deaths = self._attempts(seq, envelope)
        ended = self._asked.row(_OUTCOME, (seq,))
        state = STATES[ended[0]] if ended is not None else None
        born = micros(envelope.accepted_at)
        events = [(born, "duplicate")] if state is State.DUPLICATE else [(born, "accepted")]
        if state is not State.DUPLICATE and envelope.replay_of is not None:
            events.append((born, "replayed"))
        if ended is not None and state is State.DEAD and ended[1] not in deaths:
            deaths.append(ended[1])  # refused at the door: no attempt has told of it
        events += [(at, "dead") for at in sorted(deaths)]
        if ended is not None and (on := _end(state, ended[2] or "")):
            events.append((ended[1], on))
        return [Told(at, on, _as_of(envelope, edits, at)) for at, on in events]

    def _attempts(self, seq: int, envelope: Envelope) -> tuple[list[tuple[int, Envelope]], list[int]]:
        """Until when which payload was the message's, where it was edited; and when it died."""
        edits: list[tuple[int, Envelope]] = []
        deaths = []
        for _, at, trace in self._asked.rows(_ATTEMPTS, (seq, DEAD)):
            first = next(iter(load_trace(trace)), {})
            if "edit" in first:
                edits.append((at, self._before(envelope, first)))
            else:
                deaths.append(at)
        return edits, deaths

    def _before(self, envelope: Envelope, kept: Mapping[str, Any]) -> Envelope:
        import base64  # noqa: PLC0415 - for the few messages that were edited

        content, blob = split_content(str(kept["content"]), self._blob_at)
        body = base64.b64decode(kept["body_base64"]) if "body_base64" in kept else str(kept["body"]).encode()
        return structs.replace(envelope, body=body, content=content, blob=blob)

    def aside(self, space: str, name: str) -> list[Any]:
        """What :func:`fill` put aside, in the order of its names."""
        rows = self._asked.rows("SELECT value FROM state WHERE space = ? ORDER BY name", (f"{space}/{name}",))
        return [load_any(value) for (value,) in rows]

    def closed_by_hand(self, kpi: str) -> list[tuple[int, str]]:
        """When a person closed which pair of an indicator."""
        found = self._asked.rows(_CLOSED, (kpi,))
        return [(micros(datetime.fromisoformat(at)), str(json.loads(detail)["key"])) for at, detail in found]


def _end(state: State | None, reason: str) -> str:
    """What an end is called by indicators; what was aggregated into another message has no event."""
    if state is State.DONE:
        return "" if reason.startswith(ABSORBED) else "filtered" if reason else "done"
    return "expired" if state is State.EXPIRED else ""


def _as_of(envelope: Envelope, edits: Sequence[tuple[int, Envelope]], at: int) -> Envelope:
    return next((before for until, before in edits if at <= until), envelope)


# -- commands -------------------------------------------------------------------------------------------------------------
class Writing:
    """The open transaction as something to ask."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self._writer.execute(sql, tuple(parameters)).fetchall()
        return found

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        return next(iter(self.rows(sql, parameters)), None)


def fill(
    writer: Writer, found: Sequence[Fact], space: str, name: str, progress: Any, aside: tuple[str, Any] | None = None
) -> None:
    """Take over facts of the past, and how far that is, together; ``aside`` is a name and what is kept under it until the end."""
    facts.apply(writer, found)
    put_state(writer, space, name, None if progress is None else dump_any(progress))
    if aside is not None:
        put_state(writer, f"{space}/{name}", aside[0], dump_any(aside[1]))


def clear(writer: Writer, kpi: str, space: str = "") -> None:
    """Forget all numbers of an indicator, and what was put aside in a space."""
    if space:
        writer.execute("DELETE FROM state WHERE space = ?", (space,))
    number = writer.word(f"kpi:{kpi}")
    writer.finish()
    for table in _TABLES:
        writer.execute(f"DELETE FROM {table} WHERE kpi = ?", (number,))  # noqa: S608 - constants


def finish(
    writer: Writer,
    kpi: str,
    draft: str,
    work: Callable[[Past], Sequence[Fact] | None],
    blob_at: Callable[[str, int], Blob],
    space: str,
    entry: AuditEntry,
    at: int,
) -> bool:
    """The last facts, worked out from all that is stored at this instant; then the numbers of ``draft`` are those of ``kpi``.

    False, and nothing is done, where ``work`` says with None that too much is left.
    """
    writer.flush()
    found = work(Past(Writing(writer), writer.words, blob_at))
    if found is None:
        return False
    facts.apply(writer, found)
    clear(writer, kpi, f"{space}/{kpi}")
    numbers = (writer.word(f"kpi:{kpi}"), writer.word(f"kpi:{draft}"))
    for table in _TABLES:
        writer.execute(f"UPDATE {table} SET kpi = ? WHERE kpi = ?", numbers)  # noqa: S608 - constants
    put_state(writer, space, kpi, None)
    append(writer, entry, at)
    return True
