"""A store on a server that cannot be opened: words of servers and of their client library, and what to write instead."""

from __future__ import annotations

import pytest

from esb.errors import StoreBusy, StoreError
from esb.store.address import address_of
from esb.store.unreachable import unreachable

ADDRESS = address_of("postgresql+psycopg://bus:geheim@db.plant:5433/plant?schema=graz")
TO = 'connection failed: connection to server at "10.0.0.3", port 5433 failed: '

#: what was said → whether waiting may help, and what stands in the advice
SAID = {
    TO + 'FATAL:  password authentication failed for user "bus"': (False, "`bus` has another one"),
    TO + "fe_sendauth: no password supplied": (False, "`bus:${secret:store}@…`"),
    TO + 'FATAL:  role "bus" does not exist': (False, "CREATE ROLE bus"),
    TO + 'FATAL:  role "bus" is not permitted to log in': (False, "ALTER ROLE bus LOGIN"),
    TO + 'FATAL:  no pg_hba.conf entry for host "10.0.0.9", user "bus", database "plant"': (False, "hostssl plant bus"),
    TO + 'FATAL:  database "plant" does not exist': (False, "CREATE DATABASE plant OWNER bus"),
    TO + 'FATAL:  permission denied for database "plant"': (False, "ON DATABASE plant TO bus"),
    "permission denied for schema graz": (False, "ALTER SCHEMA graz OWNER TO bus"),
    "permission denied for table meta": (False, "must own what is in schema `graz`"),
    TO + "FATAL:  sorry, too many clients already": (True, "max_connections"),
    TO + "FATAL:  the database system is starting up": (True, "wait until it is up"),
    TO + "Connection refused": (True, "start the database"),
    "failed to resolve host 'db.plant': [Errno -2] Name or service not known": (True, "correct the host"),
    "connection timeout expired": (True, "firewall"),
    TO + "server is not in hot standby mode": (True, "target_session_attrs"),
    TO + "received invalid response to SSL negotiation: H": (False, "correct the port"),
    TO + "server does not support SSL, but SSL was required": (False, "`ssl = on`"),
    TO + "SSL error: certificate verify failed": (False, "sslrootcert=FILE"),
    TO + 'root certificate file "/nowhere.pem" does not exist': (False, "behind the `?`"),
    'connection is bad: invalid sslmode value: "bogus"': (False, "behind the `?`"),
    TO + "channel binding required, but SSL not in use": (False, "needs TLS"),
    TO + "FATAL:  Passwort-Authentifizierung für Benutzer »bus« fehlgeschlagen": (True, "password and name right?"),
}


@pytest.mark.parametrize("words", SAID)
def test_what_to_write_instead_follows_from_the_words(words: str) -> None:
    may_mend, advice = SAID[words]
    error = unreachable(ADDRESS, words)
    assert isinstance(error, StoreBusy) == may_mend
    assert advice in error.hint
    assert str(error).startswith("the store db.plant:5433/plant (schema graz) cannot be opened: ")
    assert "FATAL" not in str(error)
    assert "geheim" not in str(error) + error.hint


def test_a_state_counts_where_the_words_are_of_another_language() -> None:
    error = unreachable(ADDRESS, "keine Berechtigung für Tabelle meta", "42501")
    assert type(error) is StoreError
    assert "rights" in error.hint


def test_an_address_without_a_user_has_a_word_for_it() -> None:
    error = unreachable(
        address_of("postgresql+psycopg:///plant?host=/run/postgresql"), 'database "plant" does not exist'
    )
    assert "OWNER USER" in error.hint
