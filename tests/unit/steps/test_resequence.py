from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest

from esb.errors import Invalid, Late
from esb.message import Message
from esb.steps.base import Stop
from esb.steps.resequence import Line

STEP = "resequence: { by: body.n, key: body.k }"


@pytest.mark.parametrize("value", [7, "7", Decimal("7.0"), " 007 "])
def test_member_ends_and_its_part_waits_in_the_lane_of_its_key(run, context, value):
    context.step = "resequence"
    assert run(STEP, {"n": value, "k": "m1"}) == Stop("resequenced")
    (part,) = context.emitted
    assert (part.kind, part.key, part.keep_key) == ("split", "m1", False)
    assert part.message.meta["resequence"] == {"step": "resequence", "number": 7}


@pytest.mark.parametrize(("meta", "key"), [({"key": "lot"}, "lot"), ({}, "all"), ({"key": None}, "all")])
def test_without_a_key_it_is_the_messages_own(run, context, meta, key):
    run("resequence: { by: body.n }", {"n": 1}, meta=meta)
    assert context.emitted[0].key == key


@pytest.mark.parametrize("value", ["x", Decimal("1.5"), None, True, [1], 10**18, "1e3"])
def test_what_is_no_whole_number_is_invalid(run, value):
    with pytest.raises(Invalid, match="not a whole number"):
        run(STEP, {"n": value, "k": "m1"})


def test_no_key_is_invalid(run):
    with pytest.raises(Invalid, match="no sequence"):
        run(STEP, {"n": 1, "k": ""})


@pytest.mark.parametrize(
    ("late", "fate", "end"),
    [
        ("reject", "duplicate", Stop("duplicate of number 3")),
        ("drop", "late", Stop("late: number 3 was given up")),
        ("pass", "late", None),
        ("reject", "next", None),
    ],
)
def test_part_goes_on_or_ends_by_its_fate(read_step, context, late, fate, end):
    step = read_step(f"resequence: {{ by: body.n, gap_timeout: 1m, first: 1, late: {late} }}")
    context.fate = fate
    part = Message(None, meta={"resequence": {"number": 3}})
    assert asyncio.run(Line(step).apply(part, context)) == (end or part)
    assert context.lined == (3, timedelta(minutes=1), 1)


def test_late_part_is_a_dead_letter_that_holds_up_nobody(read_step, context):
    context.fate = "late"
    with pytest.raises(Late) as caught:
        asyncio.run(Line(read_step(STEP)).apply(Message(None, meta={"resequence": {"number": 3}}), context))
    assert (caught.value.error_class, caught.value.holds_lane) == ("rejected", False)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("resequence: { key: body.k }", "ESB102"),
        ("resequence: { by: body.n, late: keep }", "ESB105"),
        ("resequence: { number: body.n }", "ESB101"),
        ("resequence: { by: body.n, gap_timeout: 5 }", "ESB104"),
    ],
)
def test_problem_has_its_code(problem_of, text, code):
    assert problem_of(text).code == code
