"""What the options of ``sql`` let through, and what to write instead of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from esb.config.loader import load_workspace
from esb.endpoints.sql import SqlConnection
from esb.secret import Secret

CONNECTOR = "connector: db\ntype: sql\n{url}\n"
SOURCE = "route: r\nfrom:\n  sql:\n    connector: db\n{options}\nsteps: [ {{ log: x }} ]\n"
SINK = "route: r\nfrom: {{ timer: {{ every: 1h }} }}\nsteps:\n  - to:\n      sql:\n        connector: db\n{options}\n"


def codes(tmp_path: Path, route: str, url: str = "url: sqlite:///data/mes.db") -> list[str]:
    for folder, text in (("connectors", CONNECTOR.format(url=url)), ("routes", route)):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "x.yaml").write_text(text)
    _, problems = load_workspace(tmp_path, environ={}, resolve_env=False)
    return [problem.code for problem in problems]


def source(*lines: str) -> str:
    return SOURCE.format(options="\n".join(f"    {line}" for line in lines))


def sink(*lines: str) -> str:
    return SINK.format(options="\n".join(f"        {line}" for line in lines))


@pytest.mark.parametrize(
    "lines",
    [
        ("query: select * from t", "watermark: { column: at, tie: id, overlap: 2m }"),
        ("query: select * from t", "watermark: { column: x, tie: id, bound: snapshot }"),
        ("query: select * from t where sent = 0", "mark: update t set sent = 1 where id = :id"),
        ("outbox: { table: public.esb_outbox, id: seq }", "every: 5s", "batch: 500", "wake: changed"),
    ],
)
def test_what_a_source_takes(tmp_path: Path, lines: tuple[str, ...]) -> None:
    assert codes(tmp_path, source(*lines)) == []


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (("query: select * from t",), "ESB107"),
        (("outbox: t", "query: select 1"), "ESB107"),
        (("query: select * from t", "watermark: { column: at, tie: id }"), "ESB606"),
        (("query: select * from t", "mark: update t set sent = 1"), "ESB106"),
        (
            (
                "query: \"select * from t where plant = '{{ site.plant }}'\"",
                "mark: update t set sent = 1 where id = :id",
            ),
            "ESB507",
        ),
        (("outbox: { table: 'a; drop table b' }",), "ESB103"),
    ],
)
def test_what_a_source_refuses(tmp_path: Path, lines: tuple[str, ...], code: str) -> None:
    assert codes(tmp_path, source(*lines)) == [code]


@pytest.mark.parametrize(
    "lines",
    [
        ("statement: insert into t (a) values (:a)", "values: { a: body.a }"),
        ("upsert: { table: t, key: [lot], sequence: seq }", "values: { lot: body.lot, seq: body.n }"),
        ("statement: call post(:lot)", "values: { lot: body.lot }", "once: true", "batch: 50"),
    ],
)
def test_what_a_sink_takes(tmp_path: Path, lines: tuple[str, ...]) -> None:
    assert codes(tmp_path, sink(*lines)) == []


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (("values: { a: body.a }",), "ESB107"),
        (("statement: insert into t (a) values (:a)",), "ESB102"),
        (("statement: insert into t (a) values (:a)", "values: { a: body.a, b: body.b }"), "ESB101"),
        (("statement: \"insert into t values ('{{ body.a }}')\"",), "ESB507"),
        (("upsert: { table: t, key: [lot] }", "values: { state: body.s }"), "ESB102"),
    ],
)
def test_what_a_sink_refuses(tmp_path: Path, lines: tuple[str, ...], code: str) -> None:
    assert codes(tmp_path, sink(*lines)) == [code]


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("url: postgres://db/erp", "ESB105"),
        ("url: jdbc:oracle:thin:@db", "ESB105"),
        ("url: sqlite:////etc/x.db?uri=true", "ESB103"),
        ("url: sqlite://", "ESB103"),
        ("url: sqlite:///.esb/../.esb/bus.db", "ESB103"),
        ("url: postgresql+psycopg://esb:geheim@db/erp", "ESB501"),
        ("url: postgresql+psycopg://db/erp?service=x", "ESB103"),
        ("url: postgresql+psycopg://db:abc/erp", "ESB103"),
    ],
)
def test_addresses_that_are_refused(tmp_path: Path, url: str, code: str) -> None:
    route = source("outbox: { table: t }")
    assert code in codes(tmp_path, route, url)


@pytest.mark.parametrize(
    ("url", "codes_found"),
    [
        ("postgresql+psycopg://db/erp", []),
        ("postgresql+psycopg://db/erp?sslmode=require", ["ESB107"]),
        ("sqlite:///data/mes.db", ["ESB107"]),
        ("mysql+pymysql://db/erp", ["ESB107"]),
    ],
)
def test_certificates_are_for_a_server_of_postgresql(tmp_path: Path, url: str, codes_found: list[str]) -> None:
    lines = f"url: {url}\ntls: {{ ca: tls/ca.crt }}"
    assert codes(tmp_path, "route: r\nfrom: { timer: { every: 1h } }\nsteps: [ { log: x } ]\n", lines) == codes_found


def test_a_login_stands_beside_the_address() -> None:
    options = SqlConnection(url="postgresql+psycopg://db:5433/erp", user="esb", password=Secret("geheim"))
    address = options.address(Path("/plant"))
    assert (address.username, address.password, address.host, address.port) == ("esb", "geheim", "db", 5433)
    assert SqlConnection(url="sqlite:///data/mes.db").address(Path("/plant")).database == "/plant/data/mes.db"
    assert "geheim" not in repr(options)
