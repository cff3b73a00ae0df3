"""`verify` of an `http` sink: said once where a system is declared, it holds for every step that sends there."""

from __future__ import annotations

import pytest

from esb.config.routes import questions_of, steps_of
from esb.outline.words import explain
from esb.steps.base import OnTimeout

from .conftest import Read, good, only

ERP = """connector: erp
type: http
base_url: https://erp.example.com
auth: {{ basic: {{ user: ESB, password: "${{secret:erp}}" }} }}
operations:
  create-order: {{ path: /orders, idempotency_key: false, headers: {{ x: y }}, verify: {0} }}
  get-order: {{ path: "/orders/{{{{ body.no }}}}", method: GET }}
"""
ROUTE = "route: r\nfrom: { http: { path: /r } }\nsteps:\n  - "
TO = "{ to: erp.get-order, done_when: meta.reply.body }"
PATH = "{ path: '/orders/{{ body.no }}', query: { a: '1' }, headers: { b: '2' }, done_when: meta.reply.body }"
ENVIRON = {"ESB_SECRET_ERP": "x"}


def files(verify: str, step: str = "to: erp.create-order") -> dict[str, str]:
    return {"connectors/erp.yaml": ERP.format(verify), "routes/r.yaml": f"{ROUTE}{step}\n"}


def asked(read: Read, verify: str, step: str = "to: erp.create-order") -> list[OnTimeout]:
    workspace = good(read(files(verify, step), environ=ENVIRON))
    assert not workspace.problems  # ESB601 neither: it is not sent again unasked
    return [policy for one in steps_of(workspace.routes["r"].blocks) for policy in questions_of(one)]


def test_an_operation_asks(read: Read) -> None:
    (policy,) = asked(read, TO)
    assert (policy.verify.name, policy.verify.connector, policy.verify.sink.method) == ("erp.get-order", "erp", "GET")
    assert policy.done_when.text == "meta.reply.body"


def test_a_path_is_asked_by_a_get_at_the_same_system(read: Read) -> None:
    (policy,) = asked(read, PATH)
    asks = policy.verify
    assert (asks.name, asks.connector, asks.sink.method) == ("erp.create-order/verify", "erp", "GET")
    assert asks.sink.path.render({"body": {"no": "7"}}) == "/orders/7"
    assert ([*asks.sink.query], [*asks.sink.headers], asks.sink.verify) == (["a"], ["b"], None)


def test_an_endpoint_of_its_own_asks_with_its_own_credentials(read: Read) -> None:
    url = "https://mes.example.com/orders"
    step = (
        f"to: {{ http: {{ url: '{url}', auth: {{ api_key: {{ key: '${{secret:erp}}' }} }}, idempotency_key: false,"
        f" verify: {{ url: '{url}/{{{{ body.no }}}}', done_when: meta.reply.body }} }} }}"
    )
    (policy,) = asked(read, TO, step)
    assert (policy.verify.name, policy.verify.sink.url.text) == ("http/verify", f"{url}/{{{{ body.no }}}}")
    assert policy.verify.sink.auth.api_key is not None
    shared = "to: { http: { connector: erp, path: /o, verify: { to: erp.get-order, done_when: meta.reply.body } } }"
    (policy,) = asked(read, TO, shared)
    assert (policy.verify.name, policy.verify.connector) == ("erp.get-order", "erp")


@pytest.mark.parametrize(
    ("step", "names"),
    [
        ("to: erp.create-order\n    on_timeout: { verify: { http: { connector: erp, path: /x } }, done_when: meta.reply.body }", ["http"]),
        ("to: { any_of: [erp.create-order, erp.get-order], by: body.to }", ["erp.get-order"]),
        ("tap: erp.create-order", ["erp.get-order"]),
        ("fanout: { a: { steps: [ { to: erp.create-order } ] } }", ["erp.get-order"]),
        ("enrich: erp.create-order", []),
    ],
)  # fmt: skip
def test_who_asks_and_what_stands_beside_a_step_goes_before(read: Read, step: str, names: list[str]) -> None:
    assert [policy.verify.name for policy in asked(read, TO, step)] == names


def test_explain_and_the_targets_of_a_route_name_what_asks(read: Read) -> None:
    workspace = good(read(files(TO), environ=ENVIRON))
    spec = workspace.routes["r"]
    assert spec.targets == ("erp.create-order", "erp.get-order")
    words = "\n".join(explain(workspace, spec))
    assert "Before to:erp.create-order is sent again, erp.get-order is asked whether it has arrived." in words


def test_two_operations_may_ask_each_other(read: Read) -> None:
    text = ERP.format(TO).replace(
        "method: GET }", "method: PUT, verify: { to: erp.create-order, done_when: meta.reply.body } }"
    )
    steps = "to: erp.create-order\n  - to: erp.get-order"
    loaded = read({"connectors/erp.yaml": text, "routes/r.yaml": f"{ROUTE}{steps}\n"}, environ=ENVIRON)
    blocks = good(loaded).routes["r"].blocks
    assert [[p.verify.name for p in questions_of(one)] for one in steps_of(blocks)] == [
        ["erp.get-order"],
        ["erp.create-order"],
    ]


def test_a_site_that_calls_the_connector_otherwise_asks_its_own(read: Read) -> None:
    connector = ERP.format(TO).replace("type: http", "type: http\nparams: { host: { type: string } }")
    loaded = read(
        {
            "connectors/erp.yaml": connector.replace("erp.example.com", "{{ params.host }}"),
            "routes/t.yaml": "template: t\nroutes:\n  - route: r\n    from: { http: { path: '/{{ site.id }}/r' } }\n"
            "    steps: [ { to: sap.create-order } ]\n",
            "routes/sites/P20.yaml": "site: P20\nuse: [ { template: t } ]\n"
            "connectors: { sap: { connector: erp, params: { host: p20.example.com } } }\n",
        },
        environ=ENVIRON,
    )
    (step,) = steps_of(good(loaded).routes["r-p20"].blocks)
    (policy,) = questions_of(step)
    assert (policy.verify.name, policy.verify.connector) == ("sap.get-order", "sap@P20")


@pytest.mark.parametrize(
    ("verify", "code", "message", "hint"),
    [
        ("erp.get-order", "ESB103", "needs a mapping", "write `verify: { to: erp.get-order, done_when: … }`"),
        ("{ to: erp.get-order }", "ESB102", "needs `done_when`", "for example `done_when: meta.reply.status == `200``"),
        ("{ verify: erp.get-order, done_when: body.a }", "ESB101", "unknown key `verify`", "here it is `to`"),
        ("{ to: erp.get-order, when: body.a }", "ESB101", "unknown key `when`", "here it is `done_when`"),
        ("{ http: { path: /o }, done_when: body.a }", "ESB101", "unknown key `http`", "write its `path`"),
        ("{ to: { http: { path: /o } }, done_when: body.a }", "ESB103", "needs an operation", "write its `path`"),
        ("{ done_when: body.a }", "ESB107", "and has neither", "write `verify: { to:"),
        ("{ to: erp.get-order, path: /o, done_when: body.a }", "ESB107", "not both `to` and `path`", "write `verify:"),
        ("{ to: erp.get-order, query: { a: b }, done_when: body.a }", "ESB107", "belongs to a `path`", "in the operation"),
        ("{ url: 'https://erp.example.com/o', done_when: body.a }", "ESB107", "beside the `path`", "write `path: …`"),
        ("{ to: get-order, done_when: body.a }", "ESB301", "no whole name", "write `erp.get-order`"),
        ("{ to: erp.get-ordr, done_when: body.a }", "ESB301", "no operation `get-ordr`", "did you mean `get-order`"),
        ("{ to: mes.get-order, done_when: body.a }", "ESB301", "no operation of connector `erp`", "`on_timeout` beside"),
        ("{ to: erp.create-order, done_when: body.a }", "ESB301", "sent to ask whether it was sent", "name the operation"),
    ],
)  # fmt: skip
def test_what_is_written_otherwise_is_told_how(read: Read, verify: str, code: str, message: str, hint: str) -> None:
    problem = only(read(files(verify), environ=ENVIRON))
    assert (problem.code, problem.position.path, problem.position.line) == (code, "connectors/erp.yaml", 6)
    assert message in problem.message
    assert hint in problem.hint


def test_another_system_is_not_asked_with_these_credentials(read: Read) -> None:
    step = "to: { http: { url: 'https://mes.example.com/o', verify: { url: 'https://x.example.com/o', done_when: body.a } } }"
    problem = only(read(files(TO, step), environ=ENVIRON))
    assert (problem.code, problem.message) == ("ESB107", "`verify` asks another system")
    assert "on_timeout" in problem.hint


def test_what_the_question_reads_is_checked_where_it_is_used(read: Read) -> None:
    verify = "{ path: '/orders/{{ vars.no }}', done_when: meta.reply.body }"
    problem = only(read(files(verify), environ=ENVIRON))
    assert "vars.no" in problem.message
