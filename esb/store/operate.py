"""What people do to messages: retry, discard, edit; each with its audit entry in the same transaction, or not at all."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from msgspec.structs import replace

from esb.blob import Blob
from esb.errors import StoreError
from esb.store import commands
from esb.store.accept import IDLE, end_dead, end_open
from esb.store.admission import admit
from esb.store.base import AuditEntry, Memo, NewMessage, Pending
from esb.store.blob_rows import claims_in, keep_claimed, split_content
from esb.store.chain import append
from esb.store.codes import DEAD, DISCARDED, HELD, QUEUED, STATES
from esb.store.queries import PENDING, pending_of
from esb.store.values import dump_any, dump_trace, id_of
from esb.store.writer import Writer


def audit(writer: Writer, entry: AuditEntry, at: int) -> None:
    append(writer, entry, at)


def put_state(writer: Writer, space: str, name: str, value: bytes | None, entry: AuditEntry | None, at: int) -> None:
    commands.put_state(writer, space, name, value)
    if entry is not None:
        append(writer, entry, at)


def put_access(
    writer: Writer, kind: str, name: str, value: str | None, before: str | None, entry: AuditEntry, at: int
) -> bool:
    """Write (None: remove) a record of ``access`` if it still is what ``before`` says (None: not there)."""
    if before is None:
        writer.execute(
            "INSERT INTO access (kind, name, value) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (kind, name, value)
        )
    elif value is None:
        writer.execute("DELETE FROM access WHERE kind = ? AND name = ? AND value = ?", (kind, name, before))
    else:
        writer.execute(
            "UPDATE access SET value = ? WHERE kind = ? AND name = ? AND value = ?", (value, kind, name, before)
        )
    if writer.cursor.rowcount != 1:
        return False
    append(writer, entry, at)
    return True


def retry(
    writer: Writer, seq: int, entry: AuditEntry, at: int, memo: Memo | None, admitted: NewMessage | None = None
) -> Pending | None:
    """A dead message is queued again, with its attempts from zero: the newest version of its route takes it.

    ``admitted``: it was refused at the door, and gets now what the route's rules make of it. Raises KeyTaken.
    """
    ended = writer.execute("SELECT route, attempts FROM outcome WHERE seq = ? AND state = ?", (seq, DEAD)).fetchone()
    if ended is None:
        return None
    route, attempts = ended
    superseded = () if admitted is None else admit(writer, seq, route, admitted, at)
    mid, scope, key, created, priority, overtakes, version = writer.execute(
        "SELECT mid, scope, key, created, priority, overtakes, version FROM message WHERE seq = ?", (seq,)
    ).fetchone()
    writer.execute("DELETE FROM outcome WHERE seq = ? AND state = ?", (seq, DEAD))
    if writer.cursor.rowcount != 1:
        raise StoreError(f"message {seq} is not dead any more")
    unblock(writer, (route, scope, key), seq)
    state = HELD if key is not None and _is_blocked(writer, (route, scope, key), seq) else QUEUED
    writer.execute(
        "INSERT INTO pending (seq, mid, route, scope, key, state, due, attempts, earlier, crashes, traces, created,"
        " priority, overtakes, version) SELECT ?, ?, ?, ?, ?, ?, NULL, 0, ?, 0, coalesce(max(n), 0), ?, ?, ?, ?"
        " FROM attempt WHERE seq = ?",
        (seq, mid, route, scope, key, state, attempts, created, priority, overtakes, version, seq),
    )
    writer.move(route, DEAD, state)
    append(writer, entry, at, message=id_of(mid))
    if memo is not None:
        space, name, value = memo(STATES[state])
        commands.put_state(writer, space, name, dump_any(value))
    pending = pending_of(writer.words, writer.execute(f"{PENDING} WHERE seq = ?", (seq,)).fetchone())
    return replace(pending, superseded=superseded) if superseded else pending


def discard(writer: Writer, seq: int, entry: AuditEntry, at: int) -> bool:
    """An open message that does not run, or a dead one, ends by the word of a person."""
    row = writer.execute("SELECT route, state, attempts + earlier, mid FROM pending WHERE seq = ?", (seq,)).fetchone()
    if row is not None:
        route, state, attempts, mid = row
        if state not in IDLE:
            return False
        end_open(writer, seq, route, state, DISCARDED, at, attempts, entry.reason)
    else:
        row = writer.execute(
            "SELECT o.route, m.scope, m.key, m.mid FROM outcome o JOIN message m ON m.seq = o.seq"
            " WHERE o.seq = ? AND o.state = ?",
            (seq, DEAD),
        ).fetchone()
        if row is None:
            return False
        route, scope, key, mid = row
        end_dead(writer, seq, route, DISCARDED, at, entry.reason)
        unblock(writer, (route, scope, key), seq)
    append(writer, entry, at, message=id_of(mid))
    return True


def edit(writer: Writer, seq: int, body: bytes, entry: AuditEntry, at: int, before: str = "") -> bool:
    """A dead message gets another payload; every payload that it had stays in its trace, the original first.

    ``before`` is the SHA-256 of the payload that the new one was made from: where somebody was faster, nothing is done."""
    row = writer.execute(
        "SELECT m.body, m.mid, m.content, o.attempts FROM message m JOIN outcome o ON o.seq = m.seq"
        " WHERE m.seq = ? AND o.state = ?",
        (seq, DEAD),
    ).fetchone()
    if row is None:
        return False
    old, mid, content, attempts = row
    word, blob = split_content(content, Blob.named)
    replaced = hashlib.sha256(old).hexdigest() if blob is None else blob.sha256
    if before and replaced != before:
        return False
    edited = writer.execute("SELECT 1 FROM attempt WHERE seq = ? AND n = 0", (seq,)).fetchone() is not None
    kept: dict[str, Any] = {
        "edit": "replaced" if edited else "original",
        "by": entry.actor,
        "reason": entry.reason,
        "content": content,
        **_as_text(old),
    }
    writer.execute(
        "INSERT INTO attempt (seq, n, attempt, at, state, trace, error)"
        " SELECT ?, CASE WHEN ? THEN coalesce(max(n), 0) + 1 ELSE 0 END, ?, ?, ?, ?, NULL FROM attempt WHERE seq = ?",
        (seq, edited, attempts, at, DEAD, dump_trace([kept]), seq),
    )
    # the file of a large original stays until retention removes the message: `content` of its trace names it
    writer.execute("UPDATE message SET body = ?, content = ? WHERE seq = ?", (body, word, seq))
    if writer.cursor.rowcount != 1:
        raise StoreError(f"message {seq} is gone")
    keep_claimed(writer, seq, claims_in(body))
    append(
        writer,
        entry,
        at,
        message=id_of(mid),
        old=replaced,
        new=hashlib.sha256(body).hexdigest(),
    )
    return True


def _as_text(body: bytes) -> dict[str, str]:
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode()}


# -- lanes --------------------------------------------------------------------------------------------------------------
def unblock(writer: Writer, lane: tuple[int, int, str | None], seq: int) -> None:
    """The message does not block its lane any more. What it held stays held until ``release_lane``."""
    if lane[2] is not None:
        writer.execute("DELETE FROM block WHERE route = ? AND scope = ? AND key = ? AND seq = ?", (*lane, seq))


def _is_blocked(writer: Writer, lane: tuple[int, int, str], seq: int) -> bool:
    row = writer.execute(
        "SELECT 1 FROM block WHERE route = ? AND scope = ? AND key = ? AND seq < ? LIMIT 1", (*lane, seq)
    ).fetchone()
    return row is not None
