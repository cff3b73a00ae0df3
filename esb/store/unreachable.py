"""Why a database on a server cannot be opened, and what a person does about it.

A refused connection brings no SQLSTATE with it, only words: the server's, which are English unless its ``lc_messages`` says
otherwise, and those of its client library. What is not known by its words gets the general advice.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from esb.errors import StoreBusy, StoreError

if TYPE_CHECKING:
    from esb.store.address import Address

#: SQLSTATEs that no waiting mends: wrong login, no such database, missing rights, unknown features.
_FOR_GOOD = ("28", "3D", "42501", "0A")
_CHECK = "check user, password, database and rights: see `store` in docs/operations.md"
_GENERAL = "is the database running and reachable from here, are user, password and name right? then start again"
#: What the driver and its library write before the words that count; where it is stands in front of them anyway.
_BEFORE = re.compile(
    r"^(connection (failed|is bad): )?(connection to server .*? failed: (?=FATAL|fe_sendauth))?(FATAL: +)?(fe_sendauth: )?"
)
#: Words, whether only a person can mend it, and how.
_KNOWN: tuple[tuple[str, bool, str], ...] = (
    # -- who logs in --------------------------------------------------------------------------------------------------
    ("password authentication failed", True, "correct the user in `store`, or the secret of its password: `{user}` has another one there"),
    ("no password supplied", True, "write the password as a secret before the host: `{user}:${{secret:store}}@…`"),
    (r'role ".*" does not exist', True, "correct the user in `store`, or make it: `CREATE ROLE {user} LOGIN PASSWORD '…'`"),
    ("not permitted to log in", True, "let it log in: `ALTER ROLE {user} LOGIN`; or give another user in `store`"),
    (r"pg_hba\.conf|(Ident|Peer|certificate) authentication failed", True, "add a line to pg_hba.conf there: `hostssl {database} {user} ADDRESS scram-sha-256`"),
    # -- which database -----------------------------------------------------------------------------------------------
    (r'database ".*" does not exist', True, "correct the name behind the last `/` of `store`, or make it: `CREATE DATABASE {database} OWNER {user}`"),
    ("not currently accepting connections", True, "let it: `ALTER DATABASE {database} ALLOW_CONNECTIONS true`"),
    ("permission denied for database", True, "let its owner say: `GRANT CONNECT, CREATE ON DATABASE {database} TO {user}`; or make the schema: `CREATE SCHEMA {schema} AUTHORIZATION {user}`"),
    ("permission denied for schema|must be owner of schema", True, "let its owner say: `ALTER SCHEMA {schema} OWNER TO {user}`; or take another one: `?schema=NAME`"),
    ("permission denied|must be owner of", True, "`{user}` must own what is in schema `{schema}`: give the user that made the store, or another schema (`?schema=NAME`)"),
    # -- whether it is there ------------------------------------------------------------------------------------------
    (r"too many (clients|connections)|remaining connection slots", False, "raise the limit there (`max_connections`, or that of the role), or end what holds them: the bus takes a few"),
    ("database system is|not yet accepting connections", False, "wait until it is up, then start again"),
    ("Connection refused|Is the server running", False, "start the database, or correct host and port in `store`"),
    ("resolve host|translate host name", False, "correct the host in `store`, or have the name service know it"),
    ("timeout expired|timed out|No route to host|unreachable", False, "nothing answers there: is it the right host, and does a firewall let the port through?"),
    ("hot standby|read-only|in recovery", False, "give the address of the primary, or `?target_session_attrs=read-write`"),
    # -- how it is spoken to ------------------------------------------------------------------------------------------
    ("invalid response|expected authentication request|lost synchronization", True, "something else than PostgreSQL answers there: correct the port in `store`"),
    ("does not support SSL", True, "turn TLS on there (`ssl = on`), or take `sslmode` out of `store` where the network is trusted"),
    ("certificate verify failed|does not match host name", True, "nobody vouches for that server: give its authority's file as `sslrootcert=FILE`, and the host as its certificate names it"),
    ("channel binding", True, "it needs TLS: set `sslmode=verify-full` in `store`, or take `channel_binding` out"),
    (r"(certificate|private key|service) file|sslrootcert|invalid .*value|invalid connection option", True, "correct what stands behind the `?` of `store`"),
)  # fmt: skip


def unreachable(address: Address, words: str, state: str = "") -> StoreError:
    """The error of a store that cannot be opened: StoreBusy where it may be mended elsewhere, by itself; what to write instead."""
    said = _BEFORE.sub("", words, count=1)
    message = f"the store {address.where} cannot be opened: {said}"
    names = {"user": address.user or "USER", "database": address.database, "schema": address.schema}
    for pattern, for_good, hint in _KNOWN:
        if re.search(pattern, said):
            return (StoreError if for_good else StoreBusy)(message, hint=hint.format(**names))
    if state.startswith(_FOR_GOOD):
        return StoreError(message, hint=_CHECK)
    return StoreBusy(message, hint=_GENERAL)


__all__ = ["unreachable"]
