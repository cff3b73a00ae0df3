"""How a simulator behaves when it is told not to behave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: What each mode does to a call of the bus; ``double`` changes the simulator's own events instead.
MODES = {
    "ok": "answers as the real system would",
    "down": "answers 503 and does nothing; with how=drop it closes the connection instead",
    "slow": "does the work, then answers after `delay` seconds",
    "lost": "does the work, then closes the connection without an answer",
    "lying": "answers 200 with an error in the body and does nothing",
    "flaky": "every second call is answered with 503 and does nothing",
    "reject": "answers 422: no, and never",
    "double": "sends each of its own events twice",
}


class UnknownMode(ValueError):
    """The order names no mode; the message lists those there are."""


@dataclass(slots=True)
class Behaviour:
    """An order that stands until it is used up (``times``) or replaced.

    ``path`` limits it to calls whose path contains that text. ``error`` says which error a lie tells: ``transient`` (a lock,
    worth another try) or ``final``.
    """

    mode: str = "ok"
    times: int | None = None
    delay: float = 2.0
    how: str = ""
    path: str = ""
    error: str = "transient"
    calls: int = 0

    @classmethod
    def of(cls, order: dict[str, Any]) -> Behaviour:
        """Read an order. Raises UnknownMode, TypeError (unknown field)."""
        fields = {name: value for name, value in order.items() if name != "idempotent"}
        behaviour = cls(**fields)
        if behaviour.mode not in MODES:
            raise UnknownMode(f"`{behaviour.mode}` is no mode; there are {', '.join(MODES)}")
        behaviour.delay = float(behaviour.delay)
        return behaviour

    def next(self, path: str) -> str:
        """The mode for the next call of ``path``; counts it."""
        if self.mode in ("ok", "double") or self.path not in path:
            return "ok"
        if self.times is not None and self.calls >= self.times:
            return "ok"
        self.calls += 1
        if self.mode == "flaky":
            return "down" if self.calls % 2 else "ok"
        return self.mode

    def copies(self) -> int:
        """How often the next event is sent."""
        if self.mode != "double" or (self.times is not None and self.calls >= self.times):
            return 1
        self.calls += 1
        return 2

    def as_dict(self) -> dict[str, Any]:
        return {
            "mode": self.mode,
            "times": self.times,
            "delay": self.delay,
            "how": self.how,
            "path": self.path,
            "error": self.error,
            "calls": self.calls,
        }
