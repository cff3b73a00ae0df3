from __future__ import annotations

import json

import pytest

from esb.config.codes import CODES, FAMILIES, codes_markdown
from esb.config.diagnostics import mask, order, render_json, render_text
from esb.errors import Position, Problem

LINES = {
    "routes/a.yaml": ["retry:", "  atempts: 6", "\tpath: /x", "password: hunter2", "name: Grüße"],
    "esb.yaml": ["bus: graz"],
}


def shown(*problems: Problem, color: bool = False, files: int | None = None) -> str:
    return render_text(problems, lambda path: LINES.get(path, []), color, files=files)


def problem(line: int = 2, column: int = 3, length: int = 7, **more: object) -> Problem:
    return Problem("ESB101", "unknown key `atempts`", Position("routes/a.yaml", line, column, length), **more)  # type: ignore[arg-type]  # a double, or none


def test_a_problem_has_place_excerpt_caret_label_help_and_the_second_place() -> None:
    text = shown(
        problem(hint="here it is `max`", label="not known here", related=((Position("esb.yaml", 1, 1), "see here"),))
    )
    assert text.splitlines() == [
        "routes/a.yaml:2:3: ESB101 unknown key `atempts`",
        "1 | retry:",
        "2 |   atempts: 6",
        "  |   ^^^^^^^ not known here",
        "  = help: here it is `max`",
        "  ::: esb.yaml:1:1 see here",
        "",
        "1 error in 1 file",
    ]


def test_a_warning_says_so_and_is_counted_apart() -> None:
    text = shown(problem(severity="warning"), problem(line=1, column=1), files=14)
    assert "routes/a.yaml:2:3: ESB101 warning: unknown key" in text
    assert text.endswith("1 error, 1 warning in 14 files")


def test_no_problem_is_no_text() -> None:
    assert shown() == ""
    assert render_json([]) == {"kind": "ProblemList", "items": []}


def test_problems_come_by_file_and_line_each_once_and_the_settings_first() -> None:
    problems = [problem(5, 1), problem(2), problem(2), Problem("ESB804", "zone", Position("esb.yaml"))]
    assert [(p.position.path, p.position.line) for p in order(problems)] == [
        ("esb.yaml", 1),
        ("routes/a.yaml", 2),
        ("routes/a.yaml", 5),
    ]


def test_a_file_with_many_problems_is_cut() -> None:
    text = shown(*[Problem("ESB101", f"no {n}", Position("routes/a.yaml", n)) for n in range(1, 26)])
    assert text.count("ESB101") == 20
    assert "routes/a.yaml: and 5 more" in text
    assert text.endswith("25 errors in 1 file")


def test_a_caret_stays_under_its_word_behind_a_tab() -> None:
    assert "3 | \tpath: /x\n  | \t^^^^" in shown(problem(line=3, column=2, length=4))


def test_a_place_beyond_the_line_or_the_file_is_no_fault_of_the_renderer() -> None:
    assert "  |             ^" in shown(problem(line=2, column=90))
    assert shown(problem(line=99)).splitlines()[0] == "routes/a.yaml:99:3: ESB101 unknown key `atempts`"
    gone = Problem("ESB004", "x", Position("gone.yaml"), hint="h")
    assert shown(gone).splitlines()[:2] == ["gone.yaml:1:1: ESB004 x", "  = help: h"]


def test_nothing_from_a_file_steers_the_terminal() -> None:
    evil = Problem("ESB101", "unknown key `\x1b[31m\nx`", Position("routes/b.yaml", 1, 1, 3))
    text = render_text([evil], lambda _: ["\x1b[2Jabc\x07"])
    assert "\x1b" not in text
    assert "\x07" not in text
    assert len(text.splitlines()[0].split(": ")) == 2


def test_color_is_there_only_when_asked_for() -> None:
    assert "\x1b[" not in shown(problem())
    assert "\x1b[31m" in shown(problem(), color=True)


# -- secrets --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "hidden"),
    [
        ("password: hunter2", "password: ********"),
        ("  - pasword: 'hunter2'", "  - pasword: ********"),
        ('auth: { api_key: "hunter2", header: X }', "auth: { api_key: ********, header: X }"),
        ("auth: { bearer_token: hunter2 }", "auth: { bearer_token: ******** }"),
        ("client_secret: hunter2 # old", "client_secret: ********"),
        ("url: postgresql://esb:hunter2@db/erp", "url: postgresql://esb:********@db/erp"),
        ("API-Key: hunter2", "API-Key: ********"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(line: str, hidden: str) -> None:
    masked = mask(line)
    assert "hunter2" not in masked
    assert masked == hidden


@pytest.mark.parametrize(
    "line",
    [
        "password: ${secret:erp}",
        'token: "${secret:t}"',
        "key: body.lot.id",
        "password:",
        "  - to: erp.token-check",
        "url: https://erp.example.com/x",
        "name: value",
    ],
)
def test_what_is_no_secret_stays_readable(line: str) -> None:
    assert mask(line) == line


def test_a_literal_secret_is_hidden_in_its_own_excerpt_and_in_every_other() -> None:
    lines = ["hmac:", "  secret: >-", "    hunter2", "  algorithn: x"]
    own = Problem("ESB501", "a secret is written in the file", Position("c.yaml", 3, 5, 7), label="value hidden")
    other = Problem("ESB101", "unknown key `algorithn`", Position("c.yaml", 4, 3, 9))
    text = render_text([own, other], lambda _: lines)
    assert "hunter2" not in text
    assert text.count("********") == 2
    assert "  |     ^^^^^^^^ value hidden" in text


def test_a_secret_of_several_lines_is_hidden_whole() -> None:
    lines = ["tls:", "  key: |", "    -----BEGIN", "    hunter2", "  other: x", "name: y"]
    own = Problem("ESB501", "a secret is written in the file", Position("c.yaml", 3, 5, 10))
    other = Problem("ESB101", "unknown key `other`", Position("c.yaml", 5, 3, 5))
    text = render_text([own, other], lambda _: lines)
    assert "hunter2" not in text
    assert "BEGIN" not in text
    assert "5 |   other: x" in text


def test_a_caret_stays_right_of_a_hidden_value() -> None:
    lines = ["auth: { password: hi, usr: x }"]
    text = render_text([Problem("ESB101", "unknown key `usr`", Position("c.yaml", 1, 23, 3))], lambda _: lines)
    _, excerpt, caret, *_ = text.splitlines()
    assert excerpt == "1 | auth: { password: ********, usr: x }"
    assert caret.index("^") == excerpt.index("usr")


def test_an_expression_that_is_wrong_is_shown_even_behind_a_telling_key() -> None:
    lines = ["token: bdy.token"]
    wrong = Problem("ESB402", "`bdy` is not known here", Position("r.yaml", 1, 8, 3))
    assert "token: bdy.token" in render_text([wrong], lambda _: lines)


# -- JSON and codes -------------------------------------------------------------------------------------------------------


def test_json_has_everything_that_the_text_has() -> None:
    found = render_json([problem(hint="h", related=((Position("esb.yaml", 1, 2, 3), "there"),))])
    assert json.loads(json.dumps(found)) == {
        "kind": "ProblemList",
        "items": [
            {
                "code": "ESB101",
                "severity": "error",
                "path": "routes/a.yaml",
                "line": 2,
                "column": 3,
                "length": 7,
                "message": "unknown key `atempts`",
                "label": "",
                "hint": "h",
                "related": [{"path": "esb.yaml", "line": 1, "column": 2, "length": 3, "message": "there"}],
            }
        ],
    }


def test_every_code_has_a_title_and_words_and_a_family() -> None:
    for code, known in CODES.items():
        assert known.title
        assert len(known.text) > 20
        assert code[3] in FAMILIES
        assert f"### {code}:" in codes_markdown()
