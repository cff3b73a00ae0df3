"""``retention:`` of esb.yaml as what housekeeping does: how long, of which routes, how much, and where to before it goes."""

from __future__ import annotations

import base64
import gzip
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from esb.durations import parse_duration, parse_size
from esb.formats.json import Json
from esb.message import EMPTY, State
from esb.store.base import Store

#: What ``done`` stands for: every end but death.
ENDS = (State.DONE, State.EXPIRED, State.DUPLICATE, State.SUPERSEDED, State.DISCARDED)
_STATES = {"done": ENDS, "dead": (State.DEAD,)}
_JSON = Json()


@dataclass(frozen=True, slots=True)
class Rule:
    """Messages in ``states`` go after ``keep``: those of ``routes``, or where it is empty of every route that is not in ``but``."""

    states: tuple[State, ...]
    keep: timedelta
    routes: tuple[str, ...] = ()
    but: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Keeping:
    """What is kept."""

    rules: tuple[Rule, ...] = ()
    payload: timedelta | None = None  #: payloads of messages that ended well go after it, their records stay
    max_size: int | None = None  #: bytes of the store; beyond it the oldest that ended well go, whatever their age
    export: str = ""  #: folder to which messages are written before they go


def keeping_of(retention: Mapping[str, Any], classes: Mapping[str, str] = EMPTY) -> Keeping:
    """``classes`` gives the criticality of each route."""
    rules: list[Rule] = []
    given: Mapping[str, Any] = retention.get("classes") or EMPTY
    for word, states in _STATES.items():
        own = [name for name, ages in given.items() if word in ages]
        special = tuple(sorted(route for route, name in classes.items() if name in own))
        if (keep := _age(retention.get(word))) is not None:
            rules.append(Rule(states, keep, but=special))
        for name in own:
            routes = tuple(sorted(route for route, criticality in classes.items() if criticality == name))
            if routes and (keep := _age(given[name][word])) is not None:
                rules.append(Rule(states, keep, routes=routes))
    size = retention.get("max_size")
    return Keeping(
        tuple(rules),
        _age(retention.get("payload")),
        parse_size(str(size)) if size is not None else None,
        str(retention.get("export") or ""),
    )


def _age(text: Any) -> timedelta | None:
    return parse_duration(text) if isinstance(text, str) and text != "forever" else None


# -- export ---------------------------------------------------------------------------------------------------------------
def export(store: Store, seqs: Sequence[int], folder: Path, now: datetime) -> Path:
    """Append messages as JSON lines to the file of the day, compressed; they are on the disk when it returns.

    A crash before they are removed writes them again: the id tells. Blocks; call it in a thread. Raises OSError, StoreError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"messages-{now:%Y-%m-%d}.jsonl.gz"
    part = gzip.compress(b"".join(_lines(store, seqs)), mtime=0)  # members of a gzip file may follow each other
    flags = (
        os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
    )  # Windows would write each 10 as 13 and 10
    descriptor = os.open(path, flags, 0o600)
    try:
        while part:
            part = part[os.write(descriptor, part) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return path


def _lines(store: Store, seqs: Iterable[int]) -> Iterable[bytes]:
    for seq in seqs:
        envelope, _ = store.payload(seq)
        stored = store.get(envelope.id)
        if stored is None:
            continue
        item = {
            **stored.as_item(),
            "version": envelope.version,
            "headers": dict(envelope.headers),
            "meta": dict(envelope.meta),
            "content": envelope.content,
            "payload_base64": base64.b64encode(envelope.payload()).decode("ascii"),
            "trace": [dict(entry) for entry in stored.trace],
        }
        yield _JSON.encode(item) + b"\n"
