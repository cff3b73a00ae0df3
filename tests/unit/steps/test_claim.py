"""`claim` leaves a claim check where a large part was."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from esb.blob import Blob
from esb.errors import Invalid
from esb.formats.csv import Csv
from esb.formats.json import Json
from esb.formats.text import Raw
from esb.formats.unread import Unread
from esb.message import Message
from tests.unit.steps.conftest import Aside, FakeContext


@pytest.fixture
def aside(context: FakeContext) -> Aside:
    return context.aside


LARGE: Any = {"pages": ["x" * 100] * 3, "qty": 1}


@pytest.mark.parametrize(
    ("part", "body"),
    [
        ("body", LARGE),
        ("body.doc", {"no": 1, "doc": LARGE}),
        ("body.doc", {"no": 1, "doc": b"\0\xff" * 50}),
        ("body.doc", {"doc": "text"}),
    ],
)
def test_a_part_comes_back_as_it_was(run: Any, aside: Aside, part: str, body: Any) -> None:
    claimed = run(f"claim: {part}", body)
    ticket = claimed.body if part == "body" else claimed.body["doc"]
    assert ticket["claim"].removeprefix("claim:sha256:") in aside.kept
    assert set(ticket) == {"claim", "bytes", "content"}
    assert run(f"claim: {part}", claimed.body).body == claimed.body, "a claim check is not claimed again"
    assert run(f"fetch: {part}", claimed.body).body == body


def test_variables_can_be_put_aside(run: Any, aside: Aside) -> None:
    claimed = run("claim: vars.doc", {"a": 1}, vars={"doc": LARGE, "no": 2})
    assert (claimed.body, claimed.vars["no"]) == ({"a": 1}, 2)
    assert run("fetch: vars.doc", claimed.body, vars=claimed.vars).vars == {"doc": LARGE, "no": 2}


def test_what_is_small_or_missing_stays(run: Any, aside: Aside) -> None:
    step = "claim: { part: body.doc, above: 1KB }"
    for body in ({"doc": "small"}, {"doc": None}, {}, {"doc": []}, [1]):
        assert run(step, body).body == body
        assert run("fetch: body.doc", body).body == body
    assert not aside.kept


def test_a_claim_check_of_nobody_is_invalid(run: Any, aside: Aside) -> None:
    made_up = {"claim": "claim:sha256:" + "0" * 64, "bytes": 1, "content": "raw"}
    with pytest.raises(Invalid, match="nothing was put aside"):
        run("fetch: body.doc", {"doc": made_up})
    claimed = run("claim: body", LARGE).body
    with pytest.raises(Invalid, match="none of `json`, `raw`, `packed`"):
        run("fetch: body", {**claimed, "content": "pickle"})
    odd = {"claim": "claim:sha256:../../etc/passwd"}
    assert run("fetch: body", odd).body == odd, "no claim check"


def test_a_payload_in_a_file_is_claimed_and_fetched_without_reading_it(
    read_step: Any, context: FakeContext, aside: Aside
) -> None:
    blob = Blob.named("a" * 64, 2_000_000)
    claim, fetch = read_step("claim: body"), read_step("fetch: body")
    assert claim.takes_unread(Unread(blob, Raw()))
    assert claim.takes_unread(Unread(blob, Json()))
    assert not claim.takes_unread(Unread(blob, Csv()))
    assert read_step("claim: vars.x").takes_unread(Unread(blob, Csv()))
    claimed = asyncio.run(claim.apply(Message(Unread(blob, Raw())), context))
    assert claimed.body == {"claim": "claim:sha256:" + "a" * 64, "bytes": 2_000_000, "content": "raw"}
    fetched = asyncio.run(fetch.apply(claimed, context))
    assert fetched.body == Unread(blob, Raw())
