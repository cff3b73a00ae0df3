"""Answers that may be used again for a while (``enrich`` with ``cache``)."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

from esb.formats.json import Json
from esb.steps.base import Reply, Target

#: answers kept per route
KEPT = 10_000
_JSON = Json()


def question(target: Target, asked: Any) -> str:
    """One short text for a target and what it is asked. Inline endpoints are the same target only in the same place."""
    whom = [target.system] if "." in target.name else [target.connector, target.name, str(target.position)]
    return hashlib.sha256(_JSON.encode([whom, asked])).hexdigest()


class Answers:
    """A bounded memory of replies with the time (monotonic seconds) until which each is good; the oldest makes room."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[float, Reply]] = OrderedDict()

    def get(self, key: str, now: float) -> Reply | None:
        until, reply = self._kept.get(key, (0.0, None))
        if reply is None or until <= now:
            self._kept.pop(key, None)
            return None
        return reply

    def put(self, key: str, reply: Reply, until: float) -> None:
        self._kept[key] = (until, reply)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
