"""Faults that are only seen across steps and routes."""

from __future__ import annotations

import pytest

from .conftest import ERP, Read, good, only

HTTP = "from: { http: { path: /PATH } }\n"


def route(name: str, steps: str, source: str = "") -> str:
    return f"route: {name}\n{source or HTTP.replace('PATH', name)}steps:\n{steps}"


# -- variables ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "steps",
    [
        "  - set: { vars.a: body.a }\n  - log: '{{ vars.a }}'\n",
        "  - lookup: { table: plants, by: body.a, into: vars.a }\n  - filter: vars.a\n",
        "  - to: erp.create-order\n    into: vars.a\n  - filter: vars.a.body.ok\n",
        "  - set: { vars.a: body.a }\n  - split: { each: body.x, steps: [ { filter: vars.a } ] }\n",
        "  - choose:\n      - when: body.a\n        steps: [ { set: { vars.a: body.a } } ]\n  - filter: vars.a\n",
        "  - parse: json\n    into: vars.a\n  - filter: vars.a\n",
        "  - filter: vars\n",
    ],
)
def test_a_variable_that_a_step_sets_may_be_read(read: Read, steps: str) -> None:
    files = {
        "routes/r.yaml": route("r", steps),
        "connectors/erp.yaml": ERP,
        "transforms/tables/plants.csv": "plant,werks\nP10,1000\n",
    }
    good(read(files))


@pytest.mark.parametrize(
    ("steps", "line", "column"),
    [
        ("  - filter: vars.a\n", 4, 13),
        ("  - log: 'x {{ vars.a }}'\n", 4, 16),
        ('  - map: { x: body.y, z: [ "add(`1`, vars.a)" ] }\n', 4, 38),
        ("  - set: { vars.ab: body.y }\n  - filter: vars.a\n", 5, 13),
        ("  - to: erp.create-order\n    if: vars.a\n", 5, 9),
        ("  - to: { http: { url: 'https://a.example.com/{{ body.x }}/{{ vars.a }}' } }\n", 4, 63),
        ("  - transform:\n      jmespath: |\n        {\n          x: body.y,\n          z: vars.a\n        }\n", 8, 14),
    ],
)
def test_a_variable_that_nobody_sets_is_found_where_it_is_read(read: Read, steps: str, line: int, column: int) -> None:
    problem = only(read({"routes/r.yaml": route("r", steps), "connectors/erp.yaml": ERP}))
    assert (problem.code, problem.position.line, problem.position.column) == ("ESB405", line, column)
    assert "vars.a" in problem.message


def test_a_variable_is_reported_once(read: Read) -> None:
    only(read(route("r", "  - filter: vars.a\n  - filter: vars.a\n  - log: '{{ vars.a }}'\n")))


def test_a_variable_of_a_transform_file_is_found_too(read: Read) -> None:
    problem = only(
        read({"routes/r.yaml": route("r", "  - transform: x.jmes\n"), "transforms/x.jmes": "{ a: vars.lot }\n"})
    )
    assert problem.code == "ESB405"
    assert "transforms/x.jmes" in problem.message


def test_a_step_of_the_workspace_may_set_what_it_likes(read: Read) -> None:
    plugin = '''
from dataclasses import dataclass

from esb.registry import step


@step("stamp")
@dataclass(frozen=True)
class Stamp:
    """Set a variable."""

    def apply(self, message, context):
        return message.with_var("a", 1)
'''
    good(read({"connectors/stamp.py": plugin, "routes/r.yaml": route("r", "  - stamp:\n  - filter: vars.a\n")}))


# -- routes and topics ----------------------------------------------------------------------------------------------------


def test_topics_that_are_published_and_read_are_right(read: Read) -> None:
    files = {
        "routes/a.yaml": route("a", "  - publish: lot.blocked\n  - to: { topic: lot.free }\n"),
        "routes/b.yaml": route("b", "  - log: x\n", "from: { topic: lot.blocked }\n"),
        "routes/c.yaml": route("c", "  - log: x\n", "from: { topic: lot.free }\n"),
    }
    loaded = read(files)
    assert not loaded.problems
    assert [spec.name for spec in good(loaded).subscribers("lot.blocked")] == ["b"]


def test_a_handover_to_itself_is_a_warning(read: Read) -> None:
    problem = only(read(route("a", "  - to: { route: a }\n", "from: { route: {} }\n")))
    assert (problem.code, problem.severity) == ("ESB311", "warning")


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        ("{ path: /x }", "{ path: /x, method: POST }", True),
        ("{ path: /x }", "{ path: /x, method: PUT }", False),
        ("{ path: '/x/{a}' }", "{ path: '/x/{b}' }", True),
        ("{ path: '/x/{a}' }", "{ path: /x/a }", False),
    ],
)
def test_a_path_and_method_belong_to_one_route(read: Read, first: str, second: str, clash: bool) -> None:
    files = {
        "routes/a.yaml": route("a", "  - log: x\n", f"from: {{ http: {first} }}\n"),
        "routes/b.yaml": route("b", "  - log: x\n", f"from: {{ http: {second} }}\n"),
    }
    assert [problem.code for problem in read(files).problems] == (["ESB109"] if clash else [])


def test_a_disabled_route_takes_no_path(read: Read) -> None:
    files = {
        "routes/a.yaml": route("a", "  - log: x\n"),
        "routes/b.yaml": route("b", "  - log: x\n", HTTP.replace("PATH", "a")),
    }
    files["routes/b.yaml"] += "enabled: false\n"
    good(read(files))


# -- policy ---------------------------------------------------------------------------------------------------------------


def test_a_route_that_has_what_the_policy_asks_for_is_right(read: Read) -> None:
    text = route("r", "  - log: x\n") + "owner: me\nkey: body.a\ndedupe: body.b\ndescription: d\ncriticality: a\n"
    policy = "policy: { require: [owner, key, dedupe, description, criticality] }\ncriticality: { a: {} }\n"
    good(read({"esb.yaml": policy, "routes/r.yaml": text}))


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://a.example.com/x", True),
        ("http://localhost:8000/x", True),
        ("http://127.0.0.9/x", True),
        ("http://[::1]/x", True),
        ("http://a.example.com/{{ body.x }}", False),
        ("http://10.0.0.1/x", False),
        ("http://localhost.example.com/x", False),
    ],
)
def test_plain_http_may_be_forbidden(read: Read, url: str, allowed: bool) -> None:
    files = {
        "esb.yaml": "policy: { forbid: [plain_http_out] }\n",
        "routes/r.yaml": route("r", f"  - to: {{ http: {{ url: '{url}' }} }}\n"),
    }
    assert [problem.code for problem in read(files).problems] == ([] if allowed else ["ESB603"])
