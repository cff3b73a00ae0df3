"""`tls` of a connector of type `sql`: a PostgreSQL whose certificate is checked before anything is sent to it."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from esb.endpoints.http import HttpTls
from esb.endpoints.sql import SqlConnection, SqlSink
from esb.errors import Unavailable
from esb.message import Message
from tests.contracts.sql_rigs import connection_context
from tests.contracts.test_sql_contracts import TableRig
from tests.contracts.test_sql_sink import RIG
from tests.servers.certificates import make_authority, make_certificate, make_certificates
from tests.servers.postgres import Postgres

SEEN = "select ssl, client_dn from pg_stat_ssl where pid = pg_backend_pid()"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pg-tls")
    make_certificates(folder)
    make_authority(folder, "stranger")
    make_certificate(folder, "elsewhere", of="DNS:db.example.com")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Postgres]:
    server = Postgres()
    for name in ("ca.crt", "server.crt", "server.key", "elsewhere.crt", "elsewhere.key"):
        place = Path(shutil.copy(folder / name, server.folder / name))
        place.chmod(0o600)
        if os.getuid() == 0:
            os.chown(place, pwd.getpwnam("postgres").pw_uid, -1)
    show(server, "server")
    try:
        server.start()
        yield server
    finally:
        server.close()


def show(server: Postgres, name: str) -> None:
    """What the server shows from its next start on."""
    files = {"ssl_cert_file": f"{name}.crt", "ssl_key_file": f"{name}.key", "ssl_ca_file": "ca.crt"}
    server.settings = ("ssl=on", *(f"{setting}={server.folder / file}" for setting, file in files.items()))


def ask(server: Postgres, tls: HttpTls | None) -> Any:
    async def scenario() -> Any:
        live = await SqlConnection(url=server.url, user="esb", tls=tls).open(connection_context())
        try:
            message = Message({})
            sink = SqlSink(statement=SEEN, result="row")
            return (await sink.send(message, TableRig.delivery(RIG, message), live)).body
        finally:
            await live.close()

    return asyncio.run(scenario())


def test_a_server_of_the_authority_is_spoken_to_and_shown_our_certificate(server: Postgres, folder: Path) -> None:
    ca = str(folder / "ca.crt")
    assert ask(server, HttpTls(ca=ca)) == {"ssl": True, "client_dn": None}
    (folder / "client.key").chmod(0o600)
    shown = HttpTls(ca=ca, cert=str(folder / "client.crt"), key=str(folder / "client.key"))
    assert ask(server, shown) == {"ssl": True, "client_dn": "/CN=client"}
    assert ask(server, HttpTls(trust_all=True)) == {"ssl": True, "client_dn": None}


def test_another_authority_and_none_at_all_are_refused(server: Postgres, folder: Path) -> None:
    with pytest.raises(Unavailable, match="certificate verify failed"):
        ask(server, HttpTls(ca=str(folder / "stranger.crt")))
    with pytest.raises(Unavailable, match="certificate verify failed"):
        ask(server, HttpTls())


def test_a_certificate_of_another_host_is_refused(server: Postgres, folder: Path) -> None:
    server.kill()
    show(server, "elsewhere")
    server.start()
    try:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
            ask(server, HttpTls(ca=str(folder / "ca.crt")))
    finally:
        server.kill()
        show(server, "server")
        server.start()


def test_a_server_without_tls_gets_nothing(postgres: Postgres, folder: Path) -> None:
    with pytest.raises(Unavailable, match="SSL"):
        ask(postgres, HttpTls(ca=str(folder / "ca.crt")))
