"""A field is changed where it belongs, and nowhere else."""

from __future__ import annotations

import pytest

from .conftest import Read, good

KEY = "inbound: { api_key: { key: '${secret:k}' } }"


def system(name: str, operations: str, writes: str) -> str:
    return (
        f"connector: {name}\ntype: http\nbase_url: https://{name}.example.com\n{KEY}\n"
        f"operations: {operations}\nwrites: {writes}\n"
    )


FILES = {
    "connectors/erp.yaml": system(
        "erp", "{ hold: { path: /h }, note: { path: /n } }", "{ hold: [lot.status, lot.hold] }"
    ),
    "connectors/qms.yaml": system("qms", "{ lot: { path: /l } }", "{ lot: [lot.status] }"),
    "connectors/mes.yaml": system("mes", "{ lot: { path: /l } }", "{ lot: [lot.status] }"),
}
FROM_ERP = "route: erp-lots\nfrom: { http: { path: /erp, auth: erp } }\nsteps:\n  - to: qms.lot\n  - to: mes.lot\n"
FROM_QMS = "route: qms-lots\nfrom: { http: { path: /qms, auth: qms } }\nsteps:\n  - to: erp.hold\n"
ERP = "ownership: { lot.status: erp, lot.hold: qms }\n"


def problems(read: Read, ownership: str, *routes: str, **more: str) -> list[tuple[str, str, str]]:
    documents = "---\n".join(routes)
    files = {**FILES, "esb.yaml": f"bus: graz\n{ownership}", "routes/r.yaml": documents, **more}
    found = read(files, environ={"ESB_SECRET_K": "k"}).problems
    return [(problem.code, str(problem.position), problem.message) for problem in found]


def test_the_owner_may_write_its_fields_everywhere(read: Read) -> None:
    assert problems(read, ERP, FROM_ERP) == []
    assert problems(read, "", FROM_ERP, FROM_QMS) == [], "without a matrix nobody owns anything"


def test_a_route_that_writes_what_belongs_to_another_is_refused_with_three_places(read: Read) -> None:
    files = {**FILES, "esb.yaml": f"bus: graz\n{ERP}", "routes/r.yaml": FROM_QMS}
    (problem,) = read(files, environ={"ESB_SECRET_K": "k"}).errors
    assert (problem.code, str(problem.position)) == ("ESB620", "routes/r.yaml:4:9")
    assert problem.message == "`lot.status` belongs to `erp`: this route writes it from `qms` into `erp`"
    assert [str(at) for at, _ in problem.related] == ["esb.yaml:2:14", "connectors/erp.yaml:5:15"]
    assert "also: [qms]" in problem.hint


@pytest.mark.parametrize(
    ("ownership", "codes"),
    [
        ("ownership: { lot.status: { system: erp, also: [qms] }, lot.hold: qms }\n", []),
        ("ownership: { lot.*: qms }\n", []),
        ("ownership: { lot.*: qms, lot.status: erp }\n", ["ESB620"]),
        ("ownership: { batch.*: erp }\n", []),
        ("ownership: { lot.*: erp }\n", ["ESB620", "ESB620"]),
    ],
)
def test_the_nearest_entry_decides(read: Read, ownership: str, codes: list[str]) -> None:
    assert [code for code, _, _ in problems(read, ownership, FROM_QMS)] == codes


def test_the_origin_is_followed_over_topics_and_hand_offs(read: Read) -> None:
    first = "route: a\nfrom: { http: { path: /a, auth: qms } }\nsteps: [ { publish: lots } ]\n"
    second = "route: b\nfrom: { topic: lots }\nsteps: [ { to: { route: c } } ]\n"
    third = "route: c\nfrom: { route: {} }\nsteps:\n  - to: erp.hold\n"
    assert [code for code, _, _ in problems(read, ERP, first, second, third)] == ["ESB620"]


def test_a_route_may_say_whose_changes_it_carries(read: Read) -> None:
    file = "route: a\n{}from: {{ file: {{ path: 'in/*.json' }} }}\nsteps:\n  - to: erp.hold\n"
    assert problems(read, ERP, file.format("")) == [], "nobody can tell"
    assert [code for code, _, _ in problems(read, ERP, file.format("system: qms\n"))] == ["ESB620"]
    assert problems(read, "ownership: { lot.*: qms }\n", file.format("system: qms\n")) == []


def test_a_field_that_goes_both_ways_may_echo(read: Read) -> None:
    both = "ownership: { lot.status: { system: erp, also: [qms] }, lot.hold: qms }\n"
    (problem,) = problems(read, both, FROM_ERP, FROM_QMS)
    assert problem[0] == "ESB621"
    assert "from `erp` to `qms` (route `erp-lots`) and back (route `qms-lots`)" in problem[2]


def test_names_of_the_matrix_are_connectors_and_operations(read: Read) -> None:
    found = problems(read, "ownership: { lot.status: epr }\n", FROM_ERP)
    assert ("ESB301", "esb.yaml:2:14", "connector `epr` does not exist") in found
    mes = system("mes", "{ lot: { path: /l } }", "{ lots: [lot.status] }")
    found = problems(read, "", FROM_ERP, **{"connectors/mes.yaml": mes})
    assert found == [("ESB301", "connectors/mes.yaml:6:11", "connector `mes` has no operation `lots`")]


def test_the_route_knows_its_system_only_where_it_matters(read: Read) -> None:
    files = {**FILES, "esb.yaml": "bus: graz\n", "routes/r.yaml": FROM_ERP}
    without = good(read(files, environ={"ESB_SECRET_K": "k"})).routes["erp-lots"]
    within = good(read({**files, "esb.yaml": f"bus: graz\n{ERP}"}, environ={"ESB_SECRET_K": "k"})).routes["erp-lots"]
    assert (without.system, within.system) == ("", "erp")
    assert without.digest != within.digest, "what happens to an echo is part of the version"
