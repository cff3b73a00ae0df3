"""Who signs: in a regulated bus every action needs the password again, a reason and a meaning (21 CFR Part 11, 11.50 to 11.200).

Who comes by an identity provider has no password here, and logs in there again (:mod:`esb.admin.proofs`). A session, a token, the local command line: none of them signs by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from esb.access.people import People
from esb.access.roles import Principal, Right
from esb.admin.access import Access
from esb.admin.by import By
from esb.admin.proofs import Proofs
from esb.clock import Clock
from esb.errors import EsbError

#: Ways in which a person was known by a password of their own a while ago.
_PERSONAL = frozenset({"session", "oidc"})
LONGEST_MEANING = 200


class NeedsSignature(EsbError):
    """Who asks must say who they are, with their password."""


class NeedsProof(NeedsSignature):
    """Who signs must log in at the identity provider again, on the page of that proof."""

    def __init__(self, proof: str, page: str) -> None:
        super().__init__(
            f"log in again to sign: {page}",
            hint=f"open it in a browser, then send the very same again with the signature's `proof`: {proof}",
        )
        self.proof = proof


class WrongSignature(EsbError):
    """The password, the user, or what must stand beside them, is not right."""


@dataclass(frozen=True, slots=True)
class Signing:
    """Checks signatures. ``regulated``: nothing is done without one. ``proofs`` where there is an identity provider to ask."""

    people: People
    access: Access
    clock: Clock
    regulated: bool = False
    proofs: Proofs | None = None

    def possible(self, right: Right) -> bool:
        """Whether there is anybody at all who can sign for what takes that right everywhere."""
        origins = ("local", "oidc") if self.proofs is not None else ("local",)
        known = [user["user"] for user in self.people.users() if user["origin"] in origins]
        found = [self.people.principal(name, "signature") for name in known]
        return any(who is not None and who.everywhere(right) for who in found)

    async def person(self, by: By, action: str, *, known: bool) -> tuple[Principal, dict[str, Any]]:
        """Who acts, and what of it the audit keeps.

        In a regulated bus that is who signed. Else it is who asks, or where it must be ``known`` which person that is, and a
        token does not tell, who gave their password. Raises NeedsSignature, WrongSignature.
        """
        if not self.regulated and (not known or by.principal.method in _PERSONAL):
            return by.principal, {}
        name = str(by.sign.get("user") or by.principal.user).strip().lower()
        by_provider = self.proofs is not None and self.people.origin(name) == "oidc"
        if not by.sign.get("password") and not by_provider:
            wants = "your password again, a reason and a meaning" if self.regulated else "your name and password"
            raise NeedsSignature(
                f"this needs {wants}", hint="" if self.people.any() else "nobody was set up: esb users add"
            )
        meaning = str(by.sign.get("meaning") or "").strip()[:LONGEST_MEANING]
        if by.principal.user and by.principal.user != name:
            await self._refuse(by, action, name, "this is not whose session or token it is")
        if by_provider:
            who, how = await self._by_provider(by, action, name, meaning)
        else:
            who, how = await self._by_password(by, action, name), {}
        if not self.regulated:
            return who, {"known_by": "oidc" if by_provider else "password"}
        self._whole(by, meaning)
        full_name = self.people.user(name)["full_name"]
        signature = {"user": name, "name": full_name, "meaning": meaning, "signed_at": self.clock.now().isoformat()}
        return who, {"signature": {**signature, **how}}

    async def _by_password(self, by: By, action: str, name: str) -> Principal:
        right = await self.access.check_password(by.address, name, str(by.sign["password"]))
        who = self.people.principal(right, "signature")
        if who is None:
            await self._refuse(by, action, name, "name or password are not right, or they were tried too often")
            raise AssertionError("refused")
        return who

    async def _by_provider(self, by: By, action: str, name: str, meaning: str) -> tuple[Principal, dict[str, Any]]:
        """Who has logged in at the provider again, for this very act. Raises NeedsProof where that is still to be done."""
        assert self.proofs is not None
        given = str(by.sign.get("proof") or "")
        if not given:
            self._whole(by, meaning)
            asked = self.proofs.ask(by, name, meaning)
            raise NeedsProof(asked.id, self.proofs.page(asked))
        proof = self.proofs.take(given, name, by.about(meaning))
        who = self.people.principal(name, "signature")
        if proof is None or proof.given is None or who is None:
            await self._refuse(by, action, name, "the login at the identity provider was not for this, or too long ago")
            raise AssertionError("refused")
        return who, {"provider": proof.issuer, "authenticated_at": proof.given.isoformat()}

    def _whole(self, by: By, meaning: str) -> None:
        if self.regulated and not (meaning and by.reason.strip()):
            raise NeedsSignature(
                "a signature needs a reason and a meaning", hint="such as `reviewed` or `approved for release`"
            )

    async def _refuse(self, by: By, action: str, name: str, why: str) -> None:
        await self.people.note("signature.refused", f"{name[:64]!r}", by.actor, what=action, address=by.address)
        raise WrongSignature(f"not signed: {why}")
