"""Checks of the whole store, for tests and ``esb db verify``; each gives the faults in words, none where all is well."""

from __future__ import annotations

import hashlib

from esb.errors import InternalFault
from esb.store.blob_rows import kept
from esb.store.blobs import Blobs
from esb.store.chain import COLUMNS, faults
from esb.store.codes import ACCEPTED, PURGED, STATES
from esb.store.reader import Reader
from esb.store.writer import Words

_COUNTED = (
    "SELECT route, state, count(*) FROM pending GROUP BY route, state"
    " UNION ALL SELECT route, state, count(*) FROM outcome GROUP BY route, state"
)
_ORPHANS = "SELECT count(*) FROM {} t WHERE NOT EXISTS (SELECT 1 FROM message m WHERE m.seq = t.seq)"
#: What must not be there, with the query that counts it (states up to 3 are open, 5 is dead).
_NEVER = {
    "messages without a state": "SELECT count(*) FROM message m"
    " WHERE NOT EXISTS (SELECT 1 FROM pending p WHERE p.seq = m.seq)"
    " AND NOT EXISTS (SELECT 1 FROM outcome o WHERE o.seq = m.seq)",
    "messages that are both open and ended": "SELECT count(*) FROM pending JOIN outcome USING (seq)",
    "open messages without a payload": _ORPHANS.format("pending"),
    "ended messages without a payload": _ORPHANS.format("outcome"),
    "open messages that differ from their payload": "SELECT count(*) FROM pending p JOIN message m ON m.seq = p.seq"
    " WHERE m.mid <> p.mid OR m.route <> p.route OR m.scope <> p.scope OR m.key <> p.key OR (m.key IS NULL) <> (p.key IS NULL)",
    "open messages in a state of the ended": "SELECT count(*) FROM pending WHERE state > 3",
    "ended messages in a state of the open": "SELECT count(*) FROM outcome WHERE state <= 3",
    "blocked lanes without a dead message": "SELECT count(*) FROM block b"
    " WHERE NOT EXISTS (SELECT 1 FROM outcome o WHERE o.seq = b.seq AND o.state = 5)",
    "tracked values without a message": _ORPHANS.format("track"),
    "messages outside of the span of time noted for them": "SELECT count(*) FROM message m"
    " LEFT JOIN span s ON s.n = m.seq / 4096"
    " WHERE s.n IS NULL OR m.created NOT BETWEEN s.first AND s.last",
    "payload files kept by no message": _ORPHANS.format("blob"),
    "attempts without a message": _ORPHANS.format("attempt"),
}


def conservation(reader: Reader, words: Words) -> list[str]:
    """SPEC promise 2, counted anew: every message is in exactly one state, and ``accepted = sum(states) + purged``."""
    kept = {(route, state): n for route, state, n in reader.unlimited("SELECT route, state, n FROM counter")}
    counted = {(route, state): n for route, state, n in reader.unlimited(_COUNTED)}
    found = []
    for route in sorted({route for route, _ in [*kept, *counted]}):
        name = words.text(route)
        total = 0
        for code, state in enumerate(STATES):
            real, noted = counted.get((route, code), 0), kept.get((route, code), 0)
            total += real
            if real != noted:
                found.append(f"route {name}: {real} messages are {state}, the counter says {noted}")
        accepted, purged = kept.get((route, ACCEPTED), 0), kept.get((route, PURGED), 0)
        if accepted != total + purged:
            found.append(f"route {name}: accepted {accepted}, but {total} messages are kept and {purged} were purged")
    for fault, query in _NEVER.items():
        if count := reader.unlimited(query)[0][0]:
            found.append(f"{count} {fault}")
    return found


def audit_chain(reader: Reader) -> list[str]:
    head = reader.unlimited("SELECT value FROM meta WHERE name = 'audit_head'")
    columns = ", ".join(COLUMNS)
    rows = reader.unlimited(f"SELECT {columns} FROM audit ORDER BY seq")  # noqa: S608 - constants
    return faults(rows, head[0][0] if head else "")


def blobs(reader: Reader, files: Blobs) -> list[str]:
    """Every payload file that a message keeps is there, and has the content that its name says."""
    found = []
    for sha256, size in kept(reader):
        blob = files.at(sha256, size)
        try:
            there, digest = blob.file.stat().st_size, hashlib.sha256()
            for chunk in blob.chunks() if there == size else ():
                digest.update(chunk)
        except (OSError, InternalFault):
            found.append(f"the payload file {sha256} is missing")
            continue
        if there != size or digest.hexdigest() != sha256:
            found.append(f"the payload file {sha256} is damaged")
    return found


def file(reader: Reader) -> list[str]:
    """The database's own check of every page and index, where it has one."""
    return reader.faults()
