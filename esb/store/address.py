"""Where a store on a server is: ``postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE?schema=NAME``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from esb.errors import StoreError
from esb.secret import Secret

SCHEME = "postgresql+psycopg"
#: The schema of the tables, where the address names none.
SCHEMA = "esb"
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
#: What else the address may say; the driver's own words.
_OPTIONS = frozenset(
    {
        "channel_binding", "gssencmode", "host", "krbsrvname", "passfile", "port", "sslcert", "sslcrl", "sslkey", "sslmode",
        "sslrootcert", "target_session_attrs",
    }
)  # fmt: skip
_HINT = "write `store: postgresql+psycopg://bus:${secret:store}@db.plant.example/bus`"


@dataclass(frozen=True, slots=True)
class Address:
    """A database and the schema in it."""

    host: str
    port: int | None
    user: str
    password: Secret | None
    database: str
    schema: str = SCHEMA
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def where(self) -> str:
        """For people and for the marker: no login, no secret."""
        host = self.options.get("host", self.host) or "this machine"
        port = f":{self.port}" if self.port is not None else ""
        return f"{host}{port}/{self.database}" + (f" (schema {self.schema})" if self.schema != SCHEMA else "")

    @property
    def is_verified(self) -> bool:
        """Whether whoever answers there is who was meant: this machine, or a server whose certificate is checked."""
        host = self.options.get("host", self.host)
        here = host in ("", "localhost", "::1") or host.startswith(("/", "127."))
        return here or self.options.get("sslmode") in ("verify-full", "verify-ca")

    @property
    def arguments(self) -> dict[str, Any]:
        """What the driver connects with."""
        plain = {"host": self.host, "port": self.port, "user": self.user, "dbname": self.database, **self.options}
        found = {name: value for name, value in plain.items() if value not in ("", None)}
        return found if self.password is None else {**found, "password": self.password.reveal()}

    @property
    def lock(self) -> int:
        """The number of the advisory lock that whoever writes this store holds."""
        digest = hashlib.sha256(f"esb store {self.schema}".encode()).digest()
        return int.from_bytes(digest[:8], "big", signed=True)


def is_remote(url: str | Secret) -> bool:
    """Whether a store is on a server, not in a file."""
    return plain(url).partition(":")[0].partition("+")[0] in ("postgresql", "postgres")


def plain(url: str | Secret) -> str:
    return url.reveal() if isinstance(url, Secret) else url


def address_of(url: str | Secret) -> Address:
    """Read an address. Raises StoreError, which never shows a password."""
    try:
        parts = urlsplit(plain(url))
        port = parts.port
    except ValueError as error:
        raise StoreError("store: the address cannot be read", hint=_HINT) from error
    if parts.scheme != SCHEME:
        raise StoreError(f"store: `{parts.scheme}://` is not known", hint=f"write `{SCHEME}://…`")
    database = unquote(parts.path.removeprefix("/"))
    if not database or "/" in database:
        raise StoreError("store: the address names no database", hint=_HINT)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    schema = options.pop("schema", SCHEMA)
    if not _NAME.fullmatch(schema):
        raise StoreError(f"store: `{schema}` is no name of a schema", hint="small letters, digits and `_`, at most 63")
    if unknown := sorted(options.keys() - _OPTIONS):
        raise StoreError(
            f"store: `{unknown[0]}` may not stand in the address", hint=f"known: schema, {', '.join(sorted(_OPTIONS))}"
        )
    password = Secret(unquote(parts.password), "store") if parts.password else None
    return Address(
        parts.hostname or "", port, unquote(parts.username or ""), password, database, schema, MappingProxyType(options)
    )
