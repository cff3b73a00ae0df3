from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal
from pathlib import Path

import pytest

from esb.config.loader import read_workspace
from esb.errors import InternalFault, Rejected
from esb.message import Message
from esb.steps.python import plain

MODULE = '''"""Functions of this plant."""
from esb.errors import Rejected


def change(body, vars, *, plant="P10"):
    body["lots"].append(plant)
    return {"lots": body["lots"], "was": vars["was"]}


def broken(body):
    lot = body["lots"]

    return lot["no"]


def refused(body):
    raise Rejected("no such lot")


async def asked(body):
    return [site for site in (body["lots"], 0.1)]


def dated():
    import datetime
    return {"at": [datetime.date(2026, 1, 5)]}


def any_of(**more):
    return more
'''


def route(step: str) -> str:
    return f"route: r\nfrom: {{ http: {{ path: /r }} }}\nsteps:\n  - {step}\n"


@pytest.fixture
def read(tmp_path: Path):
    """The step of a line, or the problems with it."""

    def build(line: str, module: str = MODULE):
        for path, text in {"connectors/plant.py": module, "routes/r.yaml": route(line)}.items():
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_text(text)
        loaded = read_workspace(tmp_path, environ={})
        return loaded.workspace.routes["r"] if loaded.workspace is not None else loaded.problems

    return build


@pytest.fixture
def call(read, context):
    def apply(line: str, body=None, **more):
        return read(line).steps.nodes[0].step.apply(Message(body, **more), context)

    return apply


def test_result_is_the_new_body_and_the_message_stays_as_it_was(call):
    message_body, given = {"lots": ["a"]}, {"was": 1}
    assert call("python: plant.change", message_body, vars=given).body == {"lots": ["a", "P10"], "was": 1}
    assert message_body == {"lots": ["a"]}


def test_values_fill_further_parameters(call):
    answer = call(
        "python: { call: plant.change, values: { plant: \"'P20'\", body: body.inner } }",
        {"inner": {"lots": []}},
        vars={"was": 0},
    )
    assert answer.body["lots"] == ["P20"]
    assert call("python: { call: plant.any_of, values: { lot: body } }", "7").body == {"lot": "7"}


def test_async_function_is_awaited_and_floats_become_what_is_printed(call):
    assert asyncio.run(call("python: plant.asked", {"lots": 1})).body == [1, Decimal("0.1")]


def test_plain_function_begins_in_a_worker_and_an_async_one_waits(read):
    plain_node, waiting = read("python: plant.change").steps.nodes[0], read("python: plant.asked").steps.nodes[0]
    assert (plain_node.apart, plain_node.waits) == (True, False)
    assert (waiting.apart, waiting.waits) == (False, True)


def test_exception_is_internal_and_names_the_line(call):
    with pytest.raises(InternalFault, match=r"connectors/plant\.py:13: `plant\.broken` raised TypeError"):
        call("python: plant.broken", {"lots": ["a"]})


def test_error_of_the_bus_keeps_its_class(call):
    with pytest.raises(Rejected, match="no such lot"):
        call("python: plant.refused", {})


def test_what_a_message_cannot_hold_is_named_with_its_place(call):
    with pytest.raises(InternalFault, match=r"what `plant\.dated` gives\.at\[0\] is of type date"):
        call("python: plant.dated")


@pytest.mark.parametrize("value", [float("nan"), Decimal("Infinity"), {1: 2}, {"x": {"y"}}, dt.date(2026, 1, 5)])
def test_other_values_are_refused(value):
    with pytest.raises(InternalFault, match="cannot hold"):
        plain(value, "it")


def test_an_edit_makes_another_version(read):
    before = read("python: plant.dated").digest
    assert read("python: plant.dated", MODULE + "\n# edited\n").digest != before
    assert read("python: plant.dated").digest == before


@pytest.mark.parametrize(
    ("line", "code", "hint"),
    [
        ("python: plnt.dated", "ESB312", "did you mean `plant`?"),
        ("python: stores.dated", "ESB312", "write it to connectors/stores.py"),
        ("python: connectors/stores.py:dated", "ESB103", "write `stores.dated`"),
        ("python: plant.datet", "ESB312", "did you mean `dated`?"),
        ("python: dated", "ESB103", "write `plant.<function>`"),
        ("python: 5", "ESB103", "write `plant.<function>`"),
        ("python: { call: plant.change, values: { plnt: body } }", "ESB101", "did you mean `plant`?"),
    ],
)
def test_problem_says_what_to_write(read, line, code, hint):
    (problem,) = read(line)
    assert (problem.code, problem.hint) == (code, hint)


def test_parameter_that_nobody_fills_is_a_problem(read):
    (problem,) = read("python: plant.weigh", "def weigh(body, tare):\n    return 1\n")
    assert (problem.code, problem.message) == ("ESB102", "`plant.weigh` needs `tare`")
    (problem,) = read("python: plant.weigh", "def weigh(body, /):\n    return 1\n")
    assert problem.code == "ESB312"
