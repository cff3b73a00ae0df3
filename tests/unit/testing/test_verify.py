"""`verify` of an operation in route tests: what asks is a target like any other, after a lost answer and after a death."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import RunCase, write

OPERATIONS = """
  order: { path: /orders, idempotency_key: false, verify: { to: mes.get, done_when: meta.reply.body.id == body.id } }
  get: { path: "/orders/{{ body.id }}", method: GET }
  book: { path: /bookings, verify: { path: "/bookings/{{ body.id }}", done_when: meta.reply.status == `200` } }
"""
ROUTE = """
route: orders
key: body.id
retry: {{ max: 3, backoff: 2s..5m }}
from: {{ http: {{ path: /orders }} }}
steps:
  - {0}
  - publish: {{ topic: told }}
"""
PLACES = ["to: mes.order", "fanout: { a: { steps: [ { to: mes.order } ] } }", "choose: [ { when: body.id, steps: [ { to: mes.order } ] } ]"]  # fmt: skip


def connector(root: Path, more: str = "") -> None:
    write(
        root,
        "connectors/mes.yaml",
        f"connector: mes\ntype: http\nbase_url: http://mes.invalid\n{more}operations:{OPERATIONS}",
    )


@pytest.mark.parametrize("fault", ["partial_update: [mes.order]", 'kill_after: "to:mes.order"'])
@pytest.mark.parametrize("step", PLACES)
def test_what_has_arrived_is_not_sent_again(root: Path, run: RunCase, step: str, fault: str) -> None:
    connector(root)
    write(root, "routes/orders.yaml", ROUTE.format(step))
    result = run(
        f"""
        send: {{ json: {{ id: 1 }} }}
        stubs: {{ mes.order: {{ status: 201 }}, mes.get: {{ json: {{ id: 1 }} }} }}
        faults: {{ {fault} }}
        expect: {{ state: done, sent: [ {{ to: mes.order, calls: 1 }}, {{ to: mes.get, calls: 1 }} ] }}
        """,
        route="orders",
    )
    assert result.passed, result.failures


@pytest.mark.parametrize(("told", "taken"), [("{ json: { id: 2 } }", 1), ("{ status: 404 }", 0)])
def test_what_has_not_arrived_is_sent_again(root: Path, run: RunCase, told: str, taken: int) -> None:
    connector(root)
    write(root, "routes/orders.yaml", ROUTE.format("to: mes.order"))
    result = run(
        f"""
        send: {{ json: {{ id: 1 }} }}
        stubs: {{ mes.order: [ {{ fail: timeout, times: 1 }}, {{ status: 201 }} ], mes.get: {told} }}
        expect: {{ state: done, attempts: 2, sent: [ {{ to: mes.order, calls: 2 }}, {{ to: mes.get, times: {taken}, calls: 1 }} ] }}
        """,
        route="orders",
    )
    assert result.passed, result.failures


def test_what_asks_at_a_path_is_stubbed_after_its_operation(root: Path, run: RunCase) -> None:
    connector(root)
    write(root, "routes/orders.yaml", ROUTE.format("to: mes.book"))
    result = run(
        """
        send: { json: { id: 1 } }
        stubs: { mes.book: { status: 201 }, mes.book/verify: [ { fail: unavailable, times: 1 }, { status: 200 } ] }
        faults: { partial_update: [mes.book] }
        expect: { state: done, attempts: 3, sent: [ { to: mes.book, calls: 1 }, { to: mes.book/verify, calls: 2 } ] }
        """,
        route="orders",
    )
    assert result.passed, result.failures


def test_a_route_of_a_template_asks_the_system_of_its_site(root: Path, run: RunCase) -> None:
    connector(root, "params: { n: { type: string } }\n")
    route = "\n".join(f"    {line}" for line in ROUTE.format("to: mes.order").strip().splitlines())
    write(
        root,
        "routes/t.yaml",
        f"template: t\nroutes:\n  -{route[3:]}\n".replace("path: /orders", "path: '/{{ site.id }}/o'"),
    )
    write(root, "routes/sites/P20.yaml", "site: P20\nuse: [ { template: t } ]\nconnectors: { mes: { n: x } }\n")
    result = run(
        """
        send: { json: { id: 1 } }
        stubs: { mes.order: { status: 201 }, mes.get: { json: { id: 1 } } }
        faults: { partial_update: [mes.order] }
        expect: { state: done, sent: [ { to: mes.order, calls: 1 }, { to: mes.get, calls: 1 } ] }
        """,
        route="orders",
    )
    assert result.passed, result.failures
