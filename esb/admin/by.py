"""The one who acts, as a request or a form says it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from starlette.requests import Request

from esb.access.roles import Principal
from esb.message import EMPTY
from esb.operations import Who
from esb.store.chain import canonical


@dataclass(frozen=True, slots=True)
class By:
    """The one who acts, and why. ``claimed`` is the name that the local command line gives its user; ``sign`` holds ``user``,
    ``password`` (or ``proof``) and ``meaning`` of a signature. ``place`` and ``words`` are what is asked for, as it came; ``page`` where
    it came from a form."""

    principal: Principal
    reason: str = ""
    claimed: str = ""
    address: str = ""
    sign: Mapping[str, Any] = field(default=EMPTY, repr=False)
    place: str = ""
    words: Mapping[str, Any] = field(default=EMPTY, repr=False)
    page: bool = False

    @classmethod
    def of(cls, request: Request, words: Mapping[str, Any]) -> Self:
        """From a request that the gate let through, and its ``reason``, ``actor`` and ``signature``."""
        who: Principal = request.state.who
        sign = words.get("signature")
        return cls(
            who,
            str(words.get("reason") or "")[:2000],
            str(words.get("actor") or ""),
            request.client.host if request.client else "",
            sign if isinstance(sign, dict) else EMPTY,
            request.url.path,
            {name: value for name, value in words.items() if name != "signature"},
        )

    @property
    def actor(self) -> str:
        return self.claimed[:200] or self.principal.actor if self.principal.method == "local" else self.principal.actor

    def who(self) -> Who:
        return Who(self.actor, self.reason)

    def about(self, meaning: str) -> str:
        """The hash of all that is asked for, and of what a signature of it means. Browsers may write line ends in their own way."""
        words = {name: _plain(value) for name, value in self.words.items()}
        whole = {"place": self.place, "words": words, "reason": self.reason, "meaning": meaning}
        return hashlib.sha256(canonical(whole).encode("utf-8", "replace")).hexdigest()


def _plain(value: Any) -> Any:
    return value.replace("\r\n", "\n") if isinstance(value, str) else value
