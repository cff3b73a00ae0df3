"""The shape of an error answer."""

from __future__ import annotations

import json
from datetime import timedelta

from esb.endpoints.problem import problem, raw_problem
from esb.errors import Violation


def test_members_without_a_value_are_left_out() -> None:
    answer = problem(409, "reused", "used before", message_id="m-1", incident="")
    assert json.loads(answer.body) == {
        "type": "about:blank",
        "title": "Conflict",
        "status": 409,
        "code": "reused",
        "detail": "used before",
        "message_id": "m-1",
        "errors": [],
    }


def test_a_wait_is_at_least_a_second_and_rounded_up() -> None:
    waits = [
        problem(503, "busy", "", retry_after=timedelta(seconds=n)).headers["retry-after"] for n in (0, 0.2, 1.5, 60)
    ]
    assert waits == ["1", "1", "2", "60"]


def test_no_answer_lists_more_faults_than_anybody_reads() -> None:
    faults = [Violation(f"/{n}", "x") for n in range(5_000)]
    assert len(json.loads(problem(422, "invalid", "", errors=faults).body)["errors"]) == 200


def test_a_raw_answer_is_whole_and_closes() -> None:
    head, _, body = raw_problem(431, "head-too-large", "too large", retry_after=timedelta(seconds=5)).partition(
        b"\r\n\r\n"
    )
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 431 Request Header Fields Too Large"
    assert {"connection: close", f"content-length: {len(body)}", "retry-after: 5"} <= set(lines)
    assert json.loads(body)["code"] == "head-too-large"
