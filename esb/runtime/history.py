"""Which versions of a route have been live, since when, and who brought them in.

The texts of a version are kept once (:meth:`Store.save_version`); this is the order in which versions took turns, so that a
version that came back is seen as one. It is a memory for people: what counts as evidence is the audit.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from esb.config.model import RouteSpec
from esb.config.settings import SETTINGS
from esb.store.base import SAME_AS, Store

SPACE = "versions"
#: The reason of a turn that a start of the bus makes.
START = "start"
LIVE = ("bus", "live")
#: Turns that are remembered for each route; the oldest go first.
LONGEST = 200


async def note_version(store: Store, spec: RouteSpec, at: datetime, actor: str, reason: str) -> None:
    """Keep what this version was made of, and that it is the one that is live from now on.

    The digest of a route with secrets is another one in every process. A start with nothing else that is new is no turn, and the same
    texts are kept once.
    """
    turns = turns_of(store, spec.name)
    last = turns[-1] if turns else None
    if last is not None and last["digest"] == spec.digest:
        return
    texts = spec.digest
    if last is not None and store.version(spec.name, last["digest"]) == dict(spec.files):
        texts = last.get("texts", last["digest"])
    if store.version(spec.name, spec.digest) is None:
        kept = spec.files if texts == spec.digest else {SAME_AS: texts}
        await store.save_version(spec.name, spec.digest, kept, at)
    turn = {
        "digest": spec.digest,
        "known": spec.known,
        "texts": texts,
        "own_version": spec.version,
        "file": spec.position.path,
        "at": at.isoformat(),
        "actor": actor,
        "reason": reason,
    }
    if last is not None and reason == START and not is_new(store, spec):
        same = {name: last[name] for name in ("at", "actor", "reason")}
        turns[-1] = {**turn, **same, "also": [*last.get("also", ()), last["digest"]][-LONGEST:]}
    else:
        turns.append(turn)
    await store.put_state(SPACE, spec.name, turns[-LONGEST:])


def is_new(store: Store, spec: RouteSpec) -> bool:
    """Whether a route is another than the one that was live last, the values of its secrets aside."""
    turns = turns_of(store, spec.name)
    return not turns or turns[-1].get("known") != spec.known


def known_of(store: Store, route: str, digest: str) -> str:
    """What a version is called in every process, whatever the values of its secrets; empty where that is not remembered."""
    for turn in reversed(turns_of(store, route)):
        if turn["digest"] == digest or digest in turn.get("also", ()):
            return str(turn.get("known", ""))
    return ""


def turns_of(store: Store, route: str) -> list[dict[str, Any]]:
    """``digest own_version file at actor reason`` of every turn, the newest last."""
    return list(store.get_state(SPACE, route) or ())


async def note_live(store: Store, names: list[str], settings: str, at: datetime, actor: str, reason: str) -> None:
    """Which routes are live from now on, and the text of ``esb.yaml`` that they are live under."""
    if store.get_state(*LIVE) != names:
        await store.put_state(*LIVE, names)
    digest = hashlib.sha256(settings.encode("utf-8", "surrogatepass")).hexdigest()
    turns = turns_of(store, SETTINGS)
    if not turns or turns[-1]["digest"] != digest:
        await store.save_version(SETTINGS, digest, {SETTINGS: settings}, at)
        turn = {
            "digest": digest,
            "own_version": "",
            "file": SETTINGS,
            "at": at.isoformat(),
            "actor": actor,
            "reason": reason,
        }
        await store.put_state(SPACE, SETTINGS, [*turns, turn][-LONGEST:])


def live_routes(store: Store) -> list[str]:
    """The routes that are live, or were when the bus stopped."""
    return list(store.get_state(*LIVE) or ())
