"""Files and rows: what sinks make of a message, without disk and database."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import RunCase, write

EFFECTS = {
    "routes/out.yaml": """
        route: out
        from: { http: { path: /out } }
        steps:
          - to: { file: { path: "out/{{ body.plant }}/{{ body.lot }}.csv", format: { csv: { delimiter: ";" } }, body: body.lines } }
          - to: store.all
        """,
    "connectors/store.yaml": """
        connector: store
        type: sql
        url: sqlite:///store.db
        operations:
          keep: { statement: "insert into lots values (:lot)", values: { lot: body.lot } }
          all: { statement: "insert into t values (:lot, :qty)", each: body.lines, values: { lot: body.lot, qty: body.qty } }
        """,
}
LINES = 'send: { json: { plant: P/10, lot: "0012", lines: [ { lot: A, qty: 1.50 }, { lot: B, qty: 2 } ] } }\nstubs: { file: {}, store.all: {} }\n'


@pytest.mark.parametrize(
    ("expect", "words"),
    [
        ("{ files: { path: out/P_10/0012.csv, json: [ { qty: '1.50' }, { lot: B } ], body: 'B;2' }, nothing_else: true,"
         " rows: [ { to: store.all, json: { lot: A, qty: 1.50 } }, { to: store.all, json: { lot: B } } ] }", ""),
        ("{ files: out/*/*.csv, rows: { to: store.all, times: 2 }, nothing_else: true }", ""),
        ("{ files: out/*/0013.csv }", "expected 1 of the file out/*/0013.csv, got 0 / written was: out/P_10/0012.csv"),
        ("{ files: { path: out/P_10/0012.csv, body: 'B;3' } }", "got 0 / the nearest one differs:"),
        ("{ files: { path: out/P_10/0012.csv, json: [ { lot: C } ] } }", "got 0 / the nearest one differs:"),
        ("{ rows: { to: store.all, json: { lot: A, qty: 1.5 } } }", "expected 1 rows in store.all, got 0"),
        ("{ rows: { to: store.keep } }", "expected 1 rows in store.keep, got 0 / store.keep got 0 rows"),
        ("{ files: out/P_10/0012.csv, nothing_else: true }", "something else went out / to store.all"),
        ("{ files: out/P_10/0012.csv, rows: { to: store.all, json: { lot: A } }, nothing_else: true }", "something else"),
    ],
)  # fmt: skip
def test_the_files_and_rows_that_sinks_make_can_be_expected(root: Path, run: RunCase, expect: str, words: str) -> None:
    for name, text in EFFECTS.items():
        write(root, name, text)
    result = run(f"{LINES}expect: {expect}\n", route="out")
    said = [" / ".join([failure.words, *failure.lines]) for failure in result.failures]
    assert bool(said) == bool(words), said
    assert words in "".join(said)


def test_what_a_sink_cannot_write_fails_as_it_would(root: Path, run: RunCase) -> None:
    for name, text in EFFECTS.items():
        write(root, name, text)
    lines = LINES.replace("lot: A, qty: 1.50", 'lot: "A\\0", qty: 1')
    result = run(
        f"{lines}expect: {{ state: dead, error: {{ class: invalid, message: NUL }}, rows: {{ to: store.all, times: 0 }} }}\n",
        route="out",
    )
    assert result.passed, result.failures
