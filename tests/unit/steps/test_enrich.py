"""``enrich``: the answer is the new body, or goes where ``into`` says; equal questions may be answered from memory."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from esb.errors import Position, Unavailable
from esb.runtime.answers import KEPT, Answers, question
from esb.steps.base import Reply, Target


def test_the_answer_is_the_new_body(run, context):
    context.answers = [Reply(200, {}, {"name": "Housing"})]
    answer = run("enrich: erp.usage-decision", {"material": "4711"}, vars={"a": 1})
    assert answer.body == {"name": "Housing"}
    assert answer.vars == {"a": 1}
    assert context.asked[0][0].name == "erp.usage-decision"
    assert context.asked[0][1] is None


def test_a_cache_is_asked_for(run, context):
    run("enrich: { from: erp.usage-decision, cache: 10m }", None)
    assert context.asked[0][1] == timedelta(minutes=10)


def test_failure_is_raised_for_the_runtime_to_decide(run, context):
    context.answers = [Unavailable("down")]
    with pytest.raises(Unavailable):
        run("enrich: erp.usage-decision", None)


def test_what_gives_no_answer_cannot_be_asked(problem_of):
    assert problem_of("enrich: { from: { topic: lots } }").code == "ESB105"


def test_questions_differ_by_target_and_values():
    here, there = Position("routes/r.yaml", 3, 5, 1), Position("routes/r.yaml", 4, 5, 1)
    material = Target("erp.material", "http", "erp", None, here)
    asked = [
        question(material, [None, {"no": "1"}]),
        question(material, [None, {"no": "2"}]),
        question(Target("sql", "sql", "graz", None, here), [None, {"no": "1"}]),
        question(Target("sql", "sql", "linz", None, here), [None, {"no": "1"}]),
        question(Target("sql", "sql", "linz", None, there), [None, {"no": "1"}]),
    ]
    assert len(set(asked)) == 5
    assert question(replace(material, position=there), [None, {"no": "1"}]) == asked[0]


def test_answers_end_and_make_room():
    answers = Answers()
    answers.put("a", Reply(body=1), until=10.0)
    assert answers.get("a", now=9.9) == Reply(body=1)
    assert answers.get("a", now=10.0) is None
    for number in range(KEPT + 5):
        answers.put(str(number), Reply(body=number), until=10.0)
    assert answers.get("4", now=0.0) is None
    assert answers.get("5", now=0.0) == Reply(body=5)
