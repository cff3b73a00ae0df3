"""Users and API tokens in the store; each change with its entry in the audit, in one transaction."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from esb.access.passwords import Passwords, check_strength
from esb.access.roles import Principal, parse_grants
from esb.clock import Clock
from esb.errors import EsbError
from esb.message import EMPTY
from esb.store.base import AuditEntry, Store

USER, TOKEN = "user", "token"
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
_PREFIX = "esb"
#: What stands in the record of a user, and what of it nobody is shown.
_HIDDEN = frozenset({"password", "hash", "stamp", "subject"})


class BadName(EsbError):
    """What cannot be a name of a user or a token."""


class UnknownPerson(EsbError):
    """There is no such user or token."""


class Taken(EsbError):
    """The name is in use, or the record was changed by somebody else meanwhile."""


def name_of(text: str) -> str:
    """A name as it is kept: lower case. Raises BadName."""
    name = text.strip().lower()
    if not _NAME.fullmatch(name):
        raise BadName(f"`{text}` is no name", hint="letters, digits, `.`, `_`, `-` and `@`, at most 64")
    return name


class People:
    """The users and tokens of a bus. One process owns the store, so what was read once is kept until it is written."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._passwords = Passwords()
        self._known: dict[str, dict[str, dict[str, Any]]] = {}

    # -- reading ------------------------------------------------------------------------------------------------------
    def _records(self, kind: str) -> dict[str, dict[str, Any]]:
        if kind not in self._known:
            self._known[kind] = self._store.access(kind)
        return self._known[kind]

    def any(self) -> bool:
        """Whether somebody was ever set up."""
        return bool(self._records(USER))

    def users(self) -> list[dict[str, Any]]:
        """Every user, without what is secret."""
        return [{"user": name, **_shown(record)} for name, record in sorted(self._records(USER).items())]

    def tokens(self) -> list[dict[str, Any]]:
        now = self._clock.now()
        return [
            {"token": name, **_shown(record), "state": _state(record, now)}
            for name, record in sorted(self._records(TOKEN).items())
        ]

    def user(self, name: str) -> dict[str, Any]:
        """The record of a user. Raises UnknownPerson."""
        record = self._records(USER).get(name.strip().lower())
        if record is None:
            raise UnknownPerson(f"no user {name}", hint="esb users ls")
        return record

    def origin(self, name: str) -> str:
        """Where a user comes from (``local``, ``oidc``); empty for nobody."""
        record = self._records(USER).get(name)
        return "" if record is None else str(record["origin"])

    def stamp(self, name: str) -> str:
        """Changes whenever password, roles or state of a user do: what was begun before is over. Empty for nobody."""
        record = self._records(USER).get(name)
        return "" if record is None or record["disabled"] else str(record["stamp"])

    def principal(self, name: str, method: str) -> Principal | None:
        """The user as one who asks; None for an unknown or disabled one."""
        record = self._records(USER).get(name)
        if record is None or record["disabled"]:
            return None
        return Principal(name, method, parse_grants(record["roles"]), user=name)

    def by_token(self, given: str) -> Principal | None:
        """Who shows an API token; None for a wrong, expired or revoked one, or where its owner may not log in."""
        _, _, rest = given.partition("_")
        id_ = rest.partition("_")[0]
        found = [(name, one) for name, one in self._records(TOKEN).items() if one["id"] == id_]
        name, record = found[0] if found else ("", {"hash": ""})
        right = hmac.compare_digest(str(record["hash"]), _digest(given))
        if not right or _state(record, self._clock.now()) != "active":
            return None
        owner = str(record["owner"])
        limit = self.principal(owner, "api-token") if owner else None
        if owner and limit is None:
            return None
        return Principal(f"token:{name}", "api-token", parse_grants(record["scopes"]), user=owner, limit=limit)

    async def check(self, name: str, password: str) -> str:
        """The name of the user whose password it is, empty for a wrong one; takes the same time for unknown names."""
        known = name.strip().lower()
        record = self._records(USER).get(known)
        usable = record is not None and not record["disabled"]
        hashed = record["password"] if record is not None else None
        right = await self._passwords.matches(hashed, password)
        return known if right and usable else ""

    async def note(self, action: str, name: str, actor: str, **detail: Any) -> None:
        """An entry of the audit that changes nothing else, such as a login."""
        await self._store.audit(AuditEntry(actor, action, name, "", detail), self._clock.now())

    # -- users --------------------------------------------------------------------------------------------------------
    async def add(
        self,
        name: str,
        roles: Sequence[str],
        password: str | None,
        actor: str,
        *,
        reason: str = "",
        full_name: str = "",
        origin: str = "local",
        subject: str = "",
        about: Mapping[str, Any] = EMPTY,
    ) -> dict[str, Any]:
        """Make a user. ``password`` None: one who comes by OIDC. ``about`` is kept in the audit, such as a signature.

        Raises EsbError for a weak password or bad grants.
        """
        name = name_of(name)
        grants = [str(grant) for grant in parse_grants(roles)]
        hashed = None
        if password is not None:
            check_strength(password, name)
            hashed = await self._passwords.hash(password)
        record = {
            "full_name": full_name.strip()[:200],
            "roles": grants,
            "password": hashed,
            "disabled": False,
            "origin": origin,
            "subject": subject,
            "created": self._clock.now().isoformat(),
            "stamp": secrets.token_hex(8),
        }
        entry = AuditEntry(actor, "user.add", name, reason, {"roles": grants, "origin": origin, **about})
        await self._put(USER, name, record, None, entry)
        return {"user": name, "result": "added", "roles": grants}

    async def change(
        self,
        name: str,
        actor: str,
        *,
        reason: str = "",
        roles: Sequence[str] | None = None,
        disabled: bool | None = None,
        password: str | None = None,
        about: Mapping[str, Any] = EMPTY,
    ) -> dict[str, Any]:
        """Change roles, state or password of a user; ends its sessions. Raises UnknownPerson, EsbError as :meth:`add`."""
        before = self.user(name)
        name = name.strip().lower()
        record, detail, action = {**before, "stamp": secrets.token_hex(8)}, {}, "user.passwd"
        if roles is not None:
            record["roles"] = [str(grant) for grant in parse_grants(roles)]
            action, detail = "user.roles", {"old": before["roles"], "new": record["roles"]}
        if disabled is not None:
            record["disabled"] = disabled
            action = "user.disable" if disabled else "user.enable"
        if password is not None:
            if record["origin"] != "local":
                raise BadName(f"{name} comes by {record['origin']}, and has no password here")
            check_strength(password, name)
            record["password"] = await self._passwords.hash(password)
        await self._put(USER, name, record, before, AuditEntry(actor, action, name, reason, {**detail, **about}))
        return {"user": name, "result": action.partition(".")[2], "roles": record["roles"]}

    # -- tokens -------------------------------------------------------------------------------------------------------
    async def create_token(
        self,
        name: str,
        scopes: Sequence[str],
        lasts: timedelta | None,
        owner: str,
        actor: str,
        reason: str = "",
        about: Mapping[str, Any] = EMPTY,
    ) -> dict[str, Any]:
        """Make an API token; ``secret`` of the answer is shown this once, the store has only its hash.

        ``owner`` is the user whose rights bound it, empty for one made with the local token.
        """
        name = name_of(name)
        grants = [str(grant) for grant in parse_grants(scopes)]
        id_ = secrets.token_hex(6)
        plain = f"{_PREFIX}_{id_}_{secrets.token_urlsafe(32)}"
        now = self._clock.now()
        record = {
            "id": id_,
            "hash": _digest(plain),
            "scopes": grants,
            "owner": owner,
            "created": now.isoformat(),
            "expires": (now + lasts).isoformat() if lasts is not None else None,
            "revoked": None,
        }
        old = self._records(TOKEN).get(name)
        if old is not None and _state(old, now) == "active":
            raise Taken(f"there is a token {name}", hint=f"esb tokens revoke {name}")
        detail = {"scopes": grants, "owner": owner, "expires": record["expires"], **about}
        await self._put(TOKEN, name, record, old, AuditEntry(actor, "token.create", name, reason, detail))
        return {"token": name, "result": "created", "secret": plain, "scopes": grants, "expires": record["expires"]}

    async def revoke_token(
        self, name: str, actor: str, reason: str = "", about: Mapping[str, Any] = EMPTY
    ) -> dict[str, Any]:
        """End a token at once; it stays listed. Raises UnknownPerson."""
        before = self._records(TOKEN).get(name)
        if before is None:
            raise UnknownPerson(f"no token {name}", hint="esb tokens ls")
        record = {**before, "revoked": before["revoked"] or self._clock.now().isoformat()}
        await self._put(TOKEN, name, record, before, AuditEntry(actor, "token.revoke", name, reason, dict(about)))
        return {"token": name, "result": "revoked"}

    async def _put(
        self, kind: str, name: str, value: Mapping[str, Any], before: Mapping[str, Any] | None, entry: AuditEntry
    ) -> None:
        try:
            if not await self._store.put_access(kind, name, value, before, entry, self._clock.now()):
                words = "is taken" if before is None else "was changed by somebody else just now"
                raise Taken(f"the {kind} {name} {words}", hint="look again")
        finally:
            self._known.pop(kind, None)


def _digest(token: str) -> str:
    # a token is 256 bits of chance, so a plain hash cannot be turned back
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _state(record: Mapping[str, Any], now: datetime) -> str:
    if record.get("revoked"):
        return "revoked"
    expires = record.get("expires")
    return "expired" if expires and datetime.fromisoformat(expires) <= now else "active"


def _shown(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in _HIDDEN}
