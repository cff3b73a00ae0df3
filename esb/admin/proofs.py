"""Signatures of people whose password only the identity provider knows: they log in there again, for one act and no other.

A proof is bound to who signs, to what is to be done (the path and every word of it), to the reason and the meaning. It counts once, soon, and
only with a login at the provider that happened after it was asked for.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from esb.admin.by import By
from esb.clock import Clock

#: Seconds for the way to the provider and back, and between the way back and the act.
ASKED_LASTS, GIVEN_LASTS = 600.0, 300.0
#: Most proofs that one person, and that all, may have under way; the oldest goes first.
MOST_EACH, MOST = 20, 200


@dataclass(slots=True)
class Proof:
    """One act that somebody is to sign. ``given`` is the instant of the login at the provider, None before it."""

    user: str
    about: str
    place: str
    words: Mapping[str, Any] = field(repr=False)
    reason: str
    meaning: str
    began: float
    page: bool
    issuer: str = ""
    given: datetime | None = None
    id: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)


class Proofs:
    """Those under way; in memory, gone with the process. ``base`` is the listener as browsers know it."""

    def __init__(self, clock: Clock, base: str = "") -> None:
        self._clock = clock
        self._base = base.rstrip("/")
        self._open: dict[str, Proof] = {}

    def ask(self, by: By, user: str, meaning: str) -> Proof:
        """A new proof for what ``by`` is about to do."""
        self._tidy()
        own = [one.id for one in self._open.values() if one.user == user]
        for id_ in (*own[: len(own) - MOST_EACH + 1], *list(self._open)[: len(self._open) - MOST + 1]):
            self._open.pop(id_, None)
        now = self._clock.monotonic()
        proof = Proof(user, by.about(meaning), by.place, by.words, by.reason, meaning, now, by.page)
        self._open[proof.id] = proof
        return proof

    def page(self, proof: Proof) -> str:
        """Where its person signs it: an address where browsers know the pages by one, else a path."""
        return f"{self._base}/sign/{proof.id}"

    def find(self, id_: str, user: str) -> Proof | None:
        """A proof of that person that is still good."""
        self._tidy()
        proof = self._open.get(id_)
        return proof if proof is not None and proof.user == user else None

    def give(self, proof: Proof, issuer: str, at: datetime) -> None:
        """The person has logged in at the provider again."""
        proof.issuer, proof.given, proof.began = issuer, at, self._clock.monotonic()

    def take(self, id_: str, user: str, about: str) -> Proof | None:
        """The proof for exactly this act, once; None where it was not given, or was given for something else."""
        proof = self.find(id_, user)
        if proof is None or proof.given is None or not secrets.compare_digest(proof.about, about):
            return None
        return self._open.pop(id_)

    def _tidy(self) -> None:
        now = self._clock.monotonic()
        self._open = {
            id_: one
            for id_, one in self._open.items()
            if now - one.began <= (ASKED_LASTS if one.given is None else GIVEN_LASTS)
        }
