from __future__ import annotations

from datetime import UTC, datetime

import pytest

from esb.errors import Invalid, Unmapped
from esb.message import PARKED
from esb.steps.base import Wait


def test_found_value_goes_into_its_place(run):
    answer = run("lookup: { table: plants, by: body.plant, into: vars.werks }", {"plant": "P10"})
    assert answer.vars == {"werks": "1000"}
    assert answer.body == {"plant": "P10"}


@pytest.mark.parametrize(
    ("into", "part", "value"),
    [
        ("body.erp.werks", "body", {"plant": "P10", "erp": {"werks": "1000"}}),
        ("headers.X-Werks", "headers", {"x-werks": "1000"}),
        ("body", "body", "1000"),
    ],
)
def test_value_may_go_anywhere(run, into, part, value):
    answer = run(f"lookup: {{ table: plants, by: body.plant, into: {into} }}", {"plant": "P10"})
    assert getattr(answer, part) == value


def test_column_is_chosen(run):
    answer = run("lookup: { table: plants, by: body, into: vars.city, column: city }", "P10")
    assert answer.vars == {"city": "Graz"}


def test_table_is_read_backwards(run):
    answer = run("lookup: { table: plants, by: body, into: vars.plant, column: city, reverse: true }", "Graz")
    assert answer.vars == {"plant": "P10"}


def test_table_is_asked_with_the_site(run, resources, context):
    run("lookup: { table: plants, by: body, into: vars.x }", "P10")
    assert resources.tables["plants"].asked[-1] == {"site": context.site, "on": None}


@pytest.mark.parametrize(
    ("on", "asked"),
    [
        ("2026-03-01", datetime(2026, 3, 1)),  # noqa: DTZ001 - a date of the payload has no zone
        ("2026-03-01T06:00:00Z", datetime(2026, 3, 1, 6, tzinfo=UTC)),
        (None, None),
        ("", None),
    ],
)
def test_table_is_asked_for_the_date(run, resources, on, asked):
    run("lookup: { table: plants, by: body.plant, into: vars.x, on: body.on }", {"plant": "P10", "on": on})
    assert resources.tables["plants"].asked[-1]["on"] == asked


@pytest.mark.parametrize("on", ["today", 5, [], True])
def test_what_is_no_date_is_invalid(run, on):
    with pytest.raises(Invalid, match=r"`body\.on` is .*, not a date") as caught:
        run("lookup: { table: plants, by: body.plant, into: vars.x, on: body.on }", {"plant": "P10", "on": on})
    assert "date_parse" in caught.value.hint


@pytest.mark.parametrize("value", ["P99", None, ""])
def test_value_without_a_row_is_unmapped(run, value):
    with pytest.raises(Unmapped):
        run("lookup: { table: plants, by: body.plant, into: vars.x, missing: reject }", {"plant": value})


def test_nothing_to_look_up_says_what_is_null(run):
    with pytest.raises(Unmapped, match=r"`body\.plant` is null") as caught:
        run("lookup: { table: plants, by: body.plant, into: vars.x }", {})
    assert "default" in caught.value.hint


@pytest.mark.parametrize("value", ["P99", None, ""])
@pytest.mark.parametrize("missing", ["", "missing: default, "])
def test_default_stands_in_for_a_missing_row(run, context, value, missing):
    step = f"lookup: {{ table: plants, by: body.plant, into: vars.x, {missing}default: site.plant }}"
    assert run(step, {"plant": value}).vars == {"x": "P10"}
    assert context.notes == {"lookup": "default"}


def test_value_without_a_row_parks_the_message_and_null_does_not(run):
    step = "lookup: { table: plants, by: body, into: vars.x, missing: park }"
    with pytest.raises(Wait) as caught:
        run(step, "P99")
    assert caught.value.until == PARKED
    assert "P99" in str(caught.value.reason)
    with pytest.raises(Unmapped):
        run(step, None)


@pytest.mark.parametrize("value", [["P10"], {"a": 1}])
def test_list_or_object_cannot_be_looked_up(run, value):
    with pytest.raises(Invalid, match="one value"):
        run("lookup: { table: plants, by: body, into: vars.x, default: site.plant }", value)


def test_step_says_what_it_writes(read_step):
    assert read_step("lookup: { table: plants, by: body.x, into: vars.a.b }").writes == (("vars", "a", "b"),)


@pytest.mark.parametrize(
    ("more", "code", "hint"),
    [
        ("missing: default", "ESB102", "default"),
        ("missing: reject, default: site.plant", "ESB107", "take one"),
        ("missing: park, default: site.plant", "ESB107", "take one"),
        ("missing: rejct", "ESB105", "`reject`"),
        ("fallback: body.x", "ESB101", "`default`"),
    ],
)
def test_problem_says_what_to_write(problem_of, more, code, hint):
    problem = problem_of(f"lookup: {{ table: plants, by: body.x, into: vars.x, {more} }}")
    assert problem.code == code
    assert hint in problem.hint


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("lookup: { table: plants, by: body.x }", "ESB102"),
        ("lookup: { table: plants, by: body.x, into: werks }", "ESB101"),
        ("lookup: { table: nowhere, by: body.x, into: vars.x }", "ESB302"),
        ("lookup: plants", "ESB103"),
    ],
)
def test_incomplete_lookup_is_a_problem(problem_of, text, code):
    assert problem_of(text).code == code
