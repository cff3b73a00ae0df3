"""Every kind of expectation passes where it is met, and fails with words where it is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from esb.testing import report

GOLDEN = Path(__file__).parents[2] / "golden" / "testing"

GIVEN = """
send: {{ json: {{ id: 1, lot: L1, qty: 12.10 }}, times: 2 }}
stubs:
  erp.decide: [ {{ fail: unavailable, times: 2 }}, {{ status: 201, json: {{ ok: true }} }} ]
  store.keep: {{}}
expect:
  {wanted}
"""

#: kind → what is true, what is not, words of the failure
KINDS = {
    "state": ("state: done", "state: dead", "expected state `dead`, got `done`"),
    "state of each": ("state: [done, duplicate]", "state: [done, done]", "got `done`, `duplicate`"),
    "attempts": ("attempts: 3", "attempts: 2", "expected attempts `2`, got `3`"),
    "error": ("state: done", "error: { class: rejected, message: locked }", "class `rejected`, message `locked`"),
    "sent": (
        "sent: { to: erp.decide }",
        "sent: { to: erp.decide, times: 2 }",
        "expected 2 deliveries to erp.decide, got 1",
    ),
    "sent once": ("sent: { to: store.keep }", "sent: { to: store.keep, times: 2 }", "store.keep was asked once"),
    "sent again": (
        "{ state: [done, duplicate], sent: { to: store.keep } }\nfaults: { kill_after: 'to:store.keep' }",
        "{ sent: { to: store.keep, times: 2 } }\nfaults: { kill_after: 'to:store.keep' }",
        "store.keep was asked 2 times; a repeat under the same delivery id counts once",
    ),
    "sent json": (
        "sent: { to: erp.decide, json: { qty: 12.10 } }",
        "sent: { to: erp.decide, json: { qty: 12.1 } }",
        "/qty: expected 12.1, got 12.10",
    ),
    "sent to a table": (
        "sent: { to: store.keep, json: { lot: L1 } }",
        "sent: { to: store.keep, json: { lot: L2 } }",
        '/lot: expected "L2", got "L1"',
    ),
    "sent calls": (
        "sent: { to: erp.decide, calls: 3 }",
        "sent: { to: erp.decide, calls: 1 }",
        "expected erp.decide to be asked 1 times, it was 3 times",
    ),
    "sent headers": (
        "sent: { to: erp.decide, headers: { X-Plant: P10 } }",
        "sent: { to: erp.decide, headers: { X-Plant: P20 } }",
        "header X-Plant: expected 'P20', got 'P10'",
    ),
    "sent path": (
        "sent: { to: erp.decide, path: /lots/L1, method: POST }",
        "sent: { to: erp.decide, path: /lots/L2 }",
        "path: expected /lots/L2, got /lots/L1",
    ),
    "published": (
        "published: { topic: decided, json: { lot: L1 }, headers: { x-plant: P10 } }",
        "published: { topic: decided, json: { lot: L2 } }",
        "expected 1 on topic decided, got 0",
    ),
    "published nowhere": ("published: decided", "published: refused", "published was: decided"),
    "response": (
        "response: [ { status: 202, json: { state: queued } }, { json: { state: duplicate } } ]",
        "response: { status: 200 }",
        "status: expected 200, got 202",
    ),
    "branches": (
        "branches: { notes: done, table: { state: done, attempts: 1 } }",
        "branches: { notes: dead }",
        "expected notes: state `dead`, got `done`",
    ),
    "waits": ("waits: [2s, 4s]", "waits: [2s]", "expected waits [2s], got [2s, 4s]"),
    "order": ("order: [erp.decide, erp.note]", "order: [erp.note, erp.decide]", "got erp.decide → erp.note"),
    "nothing else": (
        "{ nothing_else: true, published: decided, sent: [ { to: erp.decide }, { to: erp.note }, { to: store.keep } ] }",
        "{ nothing_else: true, published: decided, sent: [ { to: erp.decide }, { to: store.keep } ] }",
        "to erp.note:",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_expectation_that_is_met(kind, run) -> None:
    result = run(GIVEN.format(wanted=KINDS[kind][0]))
    assert result.passed, report.lines_of(result)


@pytest.mark.parametrize("kind", KINDS)
def test_an_expectation_that_is_not_met(kind, run) -> None:
    _, wanted, words = KINDS[kind]
    result = run(GIVEN.format(wanted=wanted))
    assert not result.passed
    assert words in "\n".join(report.lines_of(result))
    assert all(failure.position.line == 9 for failure in result.failures)


def test_the_error_of_a_dead_message(run) -> None:
    wanted = """
    send: { json: { id: 1, lot: none } }
    expect: { state: dead, error: { class: rejected, step: reject, message: no lot none, dead_letter: lots } }
    """
    assert run(wanted).passed


def test_a_target_without_an_answer_says_what_to_write(run) -> None:
    result = run("send: { json: { id: 1, lot: L1 } }\nexpect: { state: done }")
    (failure,) = result.failures
    assert failure.words == "`erp.decide` was asked and has no answer: write `stubs: { erp.decide: { status: 200 } }`"


def test_a_failure_shows_what_was_expected_what_came_and_what_happened(run) -> None:
    result = run(
        """
        send: { json: { id: 1, lot: L1, qty: 12.10 } }
        stubs: { erp.decide: [ { status: 503, times: 1 }, { status: 201, json: { ok: true } } ], store.keep: {} }
        expect:
          state: dead
          waits: [1s]
          sent: [ { to: erp.decide, json: { qty: 12.1, unit: EA } }, { to: store.keep, times: 0 } ]
          nothing_else: true
        """
    )
    shown = "\n".join(report.lines_of(result)) + "\n"
    golden = GOLDEN / "failure.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(shown, encoding="utf-8")
    assert shown == golden.read_text(encoding="utf-8")
