"""Rights, the roles that hold them, and the one who asks: everything that says yes or no.

A grant is a role or a single right, everywhere (``operator``) or at one site (``operator@P10``).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Self

from esb.errors import EsbError


class Right(StrEnum):
    """What somebody may do; every page and every call of the API asks for exactly one."""

    READ = "read"  #: routes, counts, messages with masked payloads, metrics
    PAYLOAD = "payload"  #: what contracts mark as sensitive
    RETRY = "retry"
    DISCARD = "discard"
    EDIT = "edit"
    REPLAY = "replay"
    PAUSE = "pause"  #: and resume
    SEND = "send"
    RELOAD = "reload"
    AUDIT = "audit"  #: read and verify it
    APPROVE = "approve"  #: be the second person for what one may do oneself
    PEOPLE = "people"  #: users and tokens


#: What a right is to do, where its name is no verb.
_DOES: Mapping[Right, str] = MappingProxyType(
    {Right.PAYLOAD: "see sensitive payloads", Right.AUDIT: "read the audit", Right.PEOPLE: "manage users and tokens"}
)
_OPERATOR = frozenset({Right.READ, Right.RETRY, Right.DISCARD, Right.REPLAY, Right.PAUSE, Right.APPROVE})
#: What each role holds.
ROLES: Mapping[str, frozenset[Right]] = MappingProxyType(
    {
        "viewer": frozenset({Right.READ}),
        "operator": _OPERATOR,
        "engineer": _OPERATOR | {Right.PAYLOAD, Right.EDIT, Right.SEND, Right.RELOAD},
        "auditor": frozenset({Right.READ, Right.PAYLOAD, Right.AUDIT}),
        "admin": frozenset(Right),
    }
)
_SITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class BadGrant(EsbError):
    """Neither a role nor a right."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Rights, everywhere or at one site (``site`` empty: everywhere)."""

    name: str
    rights: frozenset[Right]
    site: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """``operator``, ``retry``, ``operator@P10``. Raises BadGrant."""
        name, at, site = text.strip().partition("@")
        if at and not _SITE.fullmatch(site):
            raise BadGrant(f"`{text}` names no site", hint="write it like `operator@P10`")
        if name in ROLES:
            return cls(name, ROLES[name], site)
        if name in set(Right):
            return cls(name, frozenset({Right(name)}), site)
        known = (*ROLES, *Right)
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean `{close[0]}`?" if close else f"one of: {', '.join(known)}"
        raise BadGrant(f"`{name}` is neither a role nor a right", hint=hint)

    def __str__(self) -> str:
        return f"{self.name}@{self.site}" if self.site else self.name


def parse_grants(texts: Iterable[str]) -> tuple[Grant, ...]:
    """Grants in order, each once. Raises BadGrant."""
    return tuple({str(grant): grant for grant in map(Grant.parse, texts)}.values())


@dataclass(frozen=True, slots=True)
class Principal:
    """The one who asks: as the audit names it, by which way it was known, and what it was granted.

    ``user`` is the local or OIDC user behind it, empty for a token that belongs to nobody. ``limit`` is the owner of a token:
    a token never opens more than its owner may.
    """

    actor: str
    method: str
    grants: tuple[Grant, ...]
    user: str = ""
    limit: Principal | None = None

    def may(self, right: Right, site: str = "") -> bool:
        """Whether the right is held for objects of ``site``."""
        held = any(right in grant.rights and grant.site in ("", site) for grant in self.grants)
        return held and (self.limit is None or self.limit.may(right, site))

    def somewhere(self, right: Right) -> bool:
        """Whether the right is held at all; what it is held for is asked with :meth:`may`."""
        held = any(right in grant.rights for grant in self.grants)
        return held and (self.limit is None or self.limit.somewhere(right))

    def everywhere(self, right: Right) -> bool:
        """Whether the right is held without regard to sites."""
        held = any(right in grant.rights and not grant.site for grant in self.grants)
        return held and (self.limit is None or self.limit.everywhere(right))

    def refusal(self, right: Right) -> tuple[str, str]:
        """What whoever may not is told, and what helps: the rights of a token are those that it was made with."""
        narrow = self.method == "api-token" and not any(right in grant.rights for grant in self.grants)
        hint = (
            f"another token can: esb tokens create NAME --scope {right}"
            if narrow
            else "an admin grants it: esb users roles"
        )
        return f"{self.actor} may not {_DOES.get(right, right)}", hint


def all_rights(actor: str, method: str) -> Principal:
    """Who holds the local or the configured token."""
    return Principal(actor, method, (Grant("admin", ROLES["admin"]),))


#: Whoever sits at a machine on which nobody has set up users or a token: reads everything, changes nothing.
ANONYMOUS = Principal("anonymous", "open", (Grant("auditor", ROLES["auditor"]),))
