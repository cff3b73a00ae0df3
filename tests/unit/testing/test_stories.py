"""What a case can do: answers, faults, times, other sources, other routes."""

from __future__ import annotations

from pathlib import Path

import pytest

from esb.config.loader import load_workspace
from esb.testing import report
from tests.unit.testing.conftest import write

OK = "erp.decide: { status: 201, json: { ok: true } }, store.keep: {}"

STORIES = {
    "a slow target is a timeout": f"""
        send: {{ json: {{ id: 1, lot: L1 }} }}
        stubs: {{ {OK} }}
        faults: {{ slow: {{ target: erp.decide, by: 20s }} }}
        expect: {{ state: dead, attempts: 4, error: {{ class: exhausted, message: did not come within 10s }} }}
        """,
    "a stub that is slow once": """
        send: { json: { id: 1, lot: L1 } }
        stubs: { erp.decide: [ { slow: 11s, times: 1 }, { json: { ok: true } } ] }
        expect: { state: done, attempts: 2, sent: { to: erp.decide, calls: 2 } }
        """,
    "what was sent first comes late": f"""
        send: [ {{ json: {{ id: 1, lot: L1 }} }}, {{ json: {{ id: 1, lot: L1, qty: 2 }}, after: 5s }} ]
        stubs: {{ {OK} }}
        faults: {{ late: 10m }}
        expect: {{ state: [done, duplicate], sent: [ {{ to: erp.decide, json: {{ qty: 2 }} }}, {{ to: store.keep }} ] }}
        """,
    "a target says yes and does nothing": f"""
        send: {{ json: {{ id: 1, lot: L1 }} }}
        stubs: {{ {OK} }}
        faults: {{ lying: erp.decide }}
        expect: {{ state: done, attempts: 1, sent: {{ to: erp.decide, times: 0, calls: 1 }} }}
        """,
    "a target takes it and its answer is lost": f"""
        send: {{ json: {{ id: 1, lot: L1 }} }}
        stubs: {{ {OK} }}
        faults: {{ partial_update: [erp.decide] }}
        expect: {{ state: done, attempts: 2, sent: {{ to: erp.decide, times: 1, calls: 2 }}, waits: [2s] }}
        """,
    "an outage ends": f"""
        send: {{ json: {{ id: 1, lot: L1 }} }}
        stubs: {{ {OK} }}
        faults: {{ outage: {{ target: erp, for: 5s }} }}
        expect: {{ state: done, attempts: 3, waits: [2s, 4s] }}
        """,
    "an outage begins later": f"""
        send: [ {{ json: {{ id: 1, lot: L1 }} }}, {{ json: {{ id: 2, lot: L2 }}, at: 10m }} ]
        stubs: {{ {OK} }}
        faults: {{ outage: {{ target: erp.decide, at: 5m }} }}
        expect: {{ state: [done, dead] }}
        """,
    "the process dies once and starts again": f"""
        send: [ {{ json: {{ id: 1, lot: L1 }} }}, {{ json: {{ id: 2, lot: L1 }} }} ]
        stubs: {{ {OK} }}
        faults: {{ kill_after: "to:erp.decide" }}
        expect:
          state: done
          attempts: 1
          sent: {{ to: erp.decide, times: 2, calls: 3 }}
          published: {{ topic: decided, times: 2 }}
        """,
    "everything is sent twice": f"""
        send: {{ json: {{ id: 1, lot: L1 }} }}
        stubs: {{ {OK} }}
        faults: {{ duplicate: true }}
        expect: {{ state: [done, duplicate], sent: {{ to: erp.decide, calls: 1 }} }}
        """,
    "the last one comes first": f"""
        send: [ {{ json: {{ id: 1, lot: L1 }} }}, {{ json: {{ id: 2, lot: none }} }} ]
        stubs: {{ {OK} }}
        faults: {{ reorder: true }}
        expect: {{ state: [dead, done] }}
        """,
    "half of it comes first": f"""
        send: {{ json: {{ id: 1, lot: L1 }} }}
        stubs: {{ {OK} }}
        faults: {{ half_file: true }}
        expect: {{ state: [refused, done], response: [ {{ status: 400 }}, {{ status: 202 }} ] }}
        """,
    "the clock is put back": """
        send: { json: { id: 1, lot: L1 } }
        stubs: { erp.decide: [ { fail: unavailable, times: 1 }, { json: { ok: true } } ] }
        faults: { clock_jump: { back: 1h, at: 1s } }
        expect: { state: done, attempts: 2 }
        """,
    "the clock is put forward": """
        send: { json: { id: 1, lot: L1 } }
        stubs: { erp.decide: [ { fail: unavailable, times: 1 }, { json: { ok: true } } ] }
        faults: { clock_jump: { forward: 1h, at: 1s } }
        expect: { state: done, attempts: 2 }
        """,
    "a look before the end": """
        send: { json: { id: 1, lot: L1 } }
        stubs: { erp.decide: { status: 503 } }
        run_for: 1s
        expect: { state: waiting, attempts: 1 }
        """,
    "answers by what is asked": """
        send: [ { json: { id: 1, lot: L1 } }, { json: { id: 2, lot: L2 } } ]
        stubs:
          erp.decide: [ { when: "body.lot == 'L2'", fail: rejected, message: closed }, { json: { ok: true } } ]
        expect: { state: [done, dead], error: { class: rejected, message: closed } }
        """,
    "a success that the target denies": """
        send: { json: { id: 1, lot: L1 } }
        stubs: { erp.decide: { status: 201, json: { ok: false } } }
        expect: { state: dead, error: { class: rejected, message: "`meta.reply.body.ok` is not true" } }
        """,
    "another route runs along": f"""
        send: {{ json: {{ id: 1, lot: L1 }} }}
        with: [listener]
        stubs: {{ {OK} }}
        expect: {{ state: done, sent: {{ to: erp.note, times: 2 }} }}
        """,
    "a repeat with the same key of the client": f"""
        send: {{ json: {{ id: 1, lot: L1 }}, headers: {{ Idempotency-Key: k1 }}, times: 2 }}
        stubs: {{ {OK} }}
        expect: {{ state: done, response: [ {{ status: 202 }}, {{ headers: {{ idempotent-replayed: "true" }} }} ] }}
        """,
}


@pytest.mark.parametrize("name", STORIES)
def test_a_story(name, run) -> None:
    result = run(STORIES[name])
    assert result.passed, "\n".join(report.lines_of(result))


def test_a_file_is_handed_over_with_its_name_and_the_format_of_its_source(root, run) -> None:
    (root / "routes/lots.csv").write_text("lot;qty\nL1;5\nL2;7\n", encoding="utf-8")
    result = run(
        """
        send: { file: lots.csv }
        stubs: { store.keep: {} }
        expect: { state: done, branches: { split: done }, sent: { to: store.keep, times: 2 } }
        """,
        route="files",
    )
    assert result.passed, "\n".join(report.lines_of(result))


def test_the_answer_of_a_synchronous_route_is_no_refusal(root, run) -> None:
    write(
        root,
        "routes/asked.yaml",
        """
        route: asked
        from: { http: { path: /asked, reply: delivered } }
        steps:
          - reject: nobody knows it
            if: body.unknown
          - respond: { status: 404 }
            if: body.gone
        """,
    )
    result = run(
        """
        send:
          - { json: { unknown: true } }
          - { json: {}, headers: { Idempotency-Key: k1 }, times: 2 }
          - { body: "{", headers: { content-type: application/json } }
          - { json: { gone: true } }
        expect:
          state: [dead, done, refused, done]
          response: [ { status: 422 }, { status: 200 }, { status: 200 }, { status: 400 }, { status: 404 } ]
        """,
        route="asked",
    )
    assert result.passed, "\n".join(report.lines_of(result))


def test_a_text_is_written_in_the_encoding_of_the_source(root, run) -> None:
    write(
        root,
        "routes/partner.yaml",
        """
        route: partner
        from: { file: { path: "in/*.csv", format: { csv: { delimiter: ";", encoding: cp1252 } } } }
        steps: [ { split: { each: body, steps: [ { publish: rows } ] } } ]
        """,
    )
    result = run(
        """
        send: { body: "Los;Prüfer\\n0012;Jürgen €\\n" }
        expect: { state: done, published: { topic: rows, json: { Los: "0012", Prüfer: Jürgen € } } }
        """,
        route="partner",
    )
    assert result.passed, "\n".join(report.lines_of(result))


def test_a_large_payload_is_waited_for_and_takes_no_time(root, run) -> None:
    """It is written to a file of its own, in a thread: no turn of the loop says when that has ended."""
    rows = ", ".join(f'{{"row": {number}, "text": "{"x" * 100}"}}' for number in range(20_000))
    (root / "routes/large.json").write_text(f'{{"id": 1, "lot": "L1", "rows": [{rows}]}}', encoding="utf-8")
    result = run(
        f"""
        send: {{ file: large.json }}
        stubs: {{ {OK} }}
        expect: {{ state: done, sent: {{ to: erp.decide, times: 1 }}, response: {{ status: 202 }} }}
        """
    )
    assert result.passed, "\n".join(report.lines_of(result))
    assert result.virtual < 1


def test_nothing_is_left_behind(root: Path, run) -> None:
    before = sorted(path for path in root.rglob("*") if "test" not in path.name)
    assert run(STORIES["the process dies once and starts again"]).passed
    assert sorted(path for path in root.rglob("*") if "test" not in path.name) == before


def test_a_case_that_never_ends_is_a_failure(run, monkeypatch) -> None:
    monkeypatch.setattr("esb.testing.bus.MOST_ATTEMPTS", 2)
    result = run(
        """
        send: { json: { id: 1, lot: L1 } }
        stubs: { erp.decide: { fail: unavailable } }
        expect: { state: done }
        """
    )
    assert "the case does not come to rest" in result.failures[0].words


def test_a_bus_does_not_read_tests(root: Path) -> None:
    (root / "routes/bad.test.yaml").write_text("route: nothing\ncasess: 1\n", encoding="utf-8")
    workspace, problems = load_workspace(root, need_secrets=False)
    assert workspace is not None
    assert all(problem.severity == "warning" for problem in problems)
