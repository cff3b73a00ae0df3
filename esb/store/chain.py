"""The audit: a chain of SHA-256 over canonical JSON, written in the transaction of the action.

The head is kept a second time, so that a cut tail shows. A rewrite of the whole file needs an anchor kept elsewhere
(``audit_head``); no chain inside one file can show that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from esb.failpoints import hit
from esb.store.base import AuditEntry
from esb.store.values import instant_of
from esb.store.writer import Writer

START = "0" * 64
#: What nobody may do without a signature while the bus is regulated.
SIGNED = frozenset(
    {
        "dlq.retry",
        "dlq.discard",
        "dlq.edit",
        "replay",
        "route.pause",
        "route.resume",
        "route.rollback",
        "kpi.close",
        "kpi.backfill",
        "hold.place",
        "hold.lift",
        "reconcile.close",
        "db.prune",
        "user.add",
        "user.roles",
        "user.disable",
        "user.enable",
        "user.passwd",
        "token.create",
        "token.revoke",
    }
)
_FIELDS = ("seq", "at", "actor", "action", "object", "reason", "detail", "prev_hash")
COLUMNS = (*_FIELDS, "hash")


def canonical(value: Any) -> str:
    """JSON with sorted keys and no blanks; equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def link(row: Mapping[str, Any]) -> str:
    """The hash of one entry, over everything that it says and the hash before it."""
    return hashlib.sha256(canonical({name: row[name] for name in _FIELDS}).encode("utf-8", "replace")).hexdigest()


def bind(row: Mapping[str, Any], signature: Mapping[str, Any]) -> str:
    """The hash that ties a signature to the one entry it stands in: who signed what, over which record, with which meaning."""
    about = {name: row[name] for name in ("seq", "at", "actor", "action", "object", "reason", "prev_hash")}
    signed = {name: value for name, value in signature.items() if name != "binding"}
    return hashlib.sha256(canonical({**about, "signature": signed}).encode("utf-8", "replace")).hexdigest()


def append(writer: Writer, entry: AuditEntry, at: int, **more: Any) -> None:
    """Write an entry; ``more`` is added to its detail."""
    hit("audit.appending")
    last = writer.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone() or (0, START)
    row: dict[str, Any] = {
        "seq": last[0] + 1,
        "at": instant_of(at).isoformat(),
        # no database holds a NUL in a text and keeps it: the hash is over what will be read again
        **{name: getattr(entry, name).replace("\0", "\u2400") for name in ("actor", "action", "object", "reason")},
        "prev_hash": last[1],
    }
    detail = {**entry.detail, **more}
    if "signature" in detail:
        detail["signature"] = {**detail["signature"], "binding": bind(row, detail["signature"])}
    row["detail"] = canonical(detail)
    row["hash"] = link(row)
    writer.execute(
        "INSERT INTO audit (seq, at, actor, action, object, reason, detail, prev_hash, hash)"
        " VALUES (:seq, :at, :actor, :action, :object, :reason, :detail, :prev_hash, :hash)",
        row,
    )
    writer.put_meta("audit_head", f"{row['seq']} {row['hash']}")


def faults(rows: Iterable[tuple[Any, ...]], head: str) -> list[str]:
    """What is wrong with the chain, in words that name the entry; ``rows`` in order, ``head`` as it was kept."""
    found: list[str] = []
    before, number, regulated = START, 0, False
    for values in rows:
        row = dict(zip(COLUMNS, values, strict=True))
        number += 1
        if row["seq"] != number:
            found.append(f"entry {number} is missing; entry {row['seq']} follows")
            number = row["seq"]
        elif row["prev_hash"] != before:
            found.append(f"entry {row['seq']} does not follow the entry before it")
        if link(row) != row["hash"]:
            found.append(f"entry {row['seq']} was changed after it was written")
        before = row["hash"]
        regulated = row["action"] == "regulated.on" or (regulated and row["action"] != "regulated.off")
        found += _signature_faults(row, regulated=regulated)
    if head != (f"{number} {before}" if number else ""):
        kept = head.split(" ", 1)[0] or "none"
        found.append(f"the last entry should be {kept}, it is {number}: entries at the end were cut, added or changed")
    return found


def _signature_faults(row: Mapping[str, Any], *, regulated: bool) -> list[str]:
    """What is wrong with the signature of an entry: missing where one was needed, or made for another entry."""
    detail = _detail(row["detail"])
    signature = detail.get("signature")
    if not isinstance(signature, dict):
        needed = regulated and row["action"] in SIGNED and not detail.get("unsigned")
        return (
            [f"entry {row['seq']} ({row['action']}) has no signature, though the bus was regulated"] if needed else []
        )
    if signature.get("binding") != bind(row, signature):
        return [f"the signature of entry {row['seq']} was not given for it"]
    return []


def _detail(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
