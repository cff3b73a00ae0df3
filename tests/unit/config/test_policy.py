"""The lint rules of a bus, what is doubtful in any, and how somebody accepts it."""

from __future__ import annotations

import pytest

from .conftest import ERP, Read, good, only

ROUTE = "route: r\nfrom: { http: { path: /r } }\n"
POST = ERP.replace("{ path: /orders }", "{ path: /orders, idempotency_key: false }")


def bus(policy: str) -> str:
    return f"policy: {policy}\ncriticality: {{ a: {{}}, b: {{ alert: desk }} }}\nalerts: {{ desk: {{ http: {{ url: 'https://x.example/' }} }} }}\n"


@pytest.mark.parametrize("name", ["owner", "key", "dedupe", "track", "within", "version", "contract", "dead_letter"])
def test_what_the_policy_asks_for_is_missed_where_it_is_not(read: Read, name: str) -> None:
    route = ROUTE + "steps: [ { log: x } ]\n"
    problem = only(read({"esb.yaml": bus(f"{{ require: [{name}] }}"), "routes/r.yaml": route}))
    assert (problem.code, str(problem.position)) == ("ESB602", "routes/r.yaml:1:8")
    assert problem.message == f"the route has no `{name}`"


def test_what_the_policy_asks_for_is_there(read: Read) -> None:
    route = (
        "route: r\nfrom: { http: { path: /r, contract: x.v1 } }\ntrack: { a: body.a }\nwithin: 5s\nversion: '1'\n"
        "on_error: [ { for: any, dead_letter: desk } ]\nsteps: [ { log: x } ]\n"
    )
    policy = bus("{ require: [contract, dead_letter, track, within, version] }")
    good(read({"esb.yaml": policy, "routes/r.yaml": route, "schemas/x.v1.json": "{}"}))
    timer = "route: r\nfrom: { timer: { every: 5m } }\nsteps: [ { log: x } ]\n"
    good(read({"esb.yaml": bus("{ require: [contract] }"), "routes/r.yaml": timer}))


@pytest.mark.parametrize(
    ("word", "steps", "place"),
    [
        ("open_ingress", "  - log: x\n", "routes/r.yaml:2:9"),
        ("inline_endpoints", "  - to: { http: { url: 'https://x.example/' } }\n", "routes/r.yaml:4:11"),
        (
            "drop_messages",
            "  - to: erp.create-order\n    when_down: { drop_after: 1m }\n    retry: { max: 100, backoff: 10s..1m }\n",
            "routes/r.yaml:5:18",
        ),
        ("continue_on_error", "  - to: erp.create-order\n    continue_on_error: true\n", "routes/r.yaml:5:5"),
    ],
)
def test_what_the_policy_forbids_is_found_at_its_place(read: Read, word: str, steps: str, place: str) -> None:
    files = {"connectors/erp.yaml": ERP, "routes/r.yaml": f"{ROUTE}steps:\n{steps}"}
    assert not good(read(files)).problems
    problem = only(read({**files, "esb.yaml": bus(f"{{ forbid: {word} }}")}))
    assert (problem.code, str(problem.position)) == ("ESB609", place)
    assert word in problem.label


# -- a POST that is sent twice ------------------------------------------------------------------------------------------------


def test_a_post_that_nobody_knows_again_is_a_warning_with_both_places(read: Read) -> None:
    problem = only(read({"connectors/erp.yaml": POST, "routes/r.yaml": f"{ROUTE}steps:\n  - to: erp.create-order\n"}))
    assert (problem.code, problem.severity, str(problem.position)) == ("ESB601", "warning", "routes/r.yaml:4:5")
    assert "sent up to 6 times" in problem.message
    assert [str(at) for at, _ in problem.related] == ["connectors/erp.yaml:5:3"]


@pytest.mark.parametrize(
    "beside",
    [
        "retry: { max: 0 }",
        "retry: { for: [rejected] }",
        "on_timeout: { verify: erp.usage-decision, done_when: meta.reply.body }",
    ],
)
def test_a_post_that_is_not_sent_again_unasked_is_none(read: Read, beside: str) -> None:
    good(
        read({"connectors/erp.yaml": POST, "routes/r.yaml": f"{ROUTE}steps:\n  - to: erp.create-order\n    {beside}\n"})
    )
    assert not read({}).problems


def test_a_bus_may_forbid_it(read: Read) -> None:
    files = {"connectors/erp.yaml": POST, "routes/r.yaml": f"{ROUTE}steps:\n  - to: erp.create-order\n"}
    assert only(read({**files, "esb.yaml": bus("{ forbid: [unsafe_retry] }")})).severity == "error"


# -- routes that matter -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "codes"),
    [
        ("criticality: a\n", ["ESB607", "ESB608"]),
        ("criticality: a\nowner: me\n", ["ESB608"]),
        ("criticality: b\nowner: me\n", []),
        ("criticality: a\nowner: me\non_error: { dead_letter: desk }\n", []),
        ("", []),
    ],
)
def test_a_route_that_matters_has_an_owner_and_somebody_who_hears_of_its_dead_letters(
    read: Read, more: str, codes: list[str]
) -> None:
    found = read({"esb.yaml": bus("{}"), "routes/r.yaml": f"{ROUTE}{more}steps: [ {{ log: x }} ]\n"}).problems
    assert [(problem.code, problem.severity) for problem in found] == [(code, "warning") for code in codes]


# -- allowances ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "codes"),
    [
        ("  - to: erp.create-order   # esb: allow ESB601 the desk looks for doubles\n", []),
        ("  # esb: allow ESB601, ESB305: the desk looks for doubles\n  - to: erp.create-order\n", []),
        ("  - to: erp.create-order   # esb: allow ESB601\n", ["ESB601", "ESB610"]),
        ("  - to: erp.create-order   # esb: allow ESB602 another one\n", ["ESB601"]),
        ("  - log: x   # esb: allow ESB601 not this line\n  - to: erp.create-order\n", ["ESB601"]),
    ],
)
def test_a_warning_is_accepted_with_a_reason(read: Read, step: str, codes: list[str]) -> None:
    found = read({"connectors/erp.yaml": POST, "routes/r.yaml": f"{ROUTE}steps:\n{step}"}).problems
    assert [problem.code for problem in found] == codes


def test_an_error_cannot_be_allowed(read: Read) -> None:
    step = "  - to: erp.create-ordr   # esb: allow ESB301 it will be there\n"
    assert only(read({"connectors/erp.yaml": POST, "routes/r.yaml": f"{ROUTE}steps:\n{step}"})).code == "ESB301"


def test_a_key_that_a_split_gives_to_its_items_is_one(read: Read) -> None:
    steps = "steps: [ { split: { each: body.rows, key: body.no, steps: [ { log: x } ] } } ]\n"
    good(read({"esb.yaml": bus("{ require: [key] }"), "routes/r.yaml": ROUTE + steps}))
