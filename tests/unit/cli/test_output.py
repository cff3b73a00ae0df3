"""Tables stay readable whatever stands in a message."""

from __future__ import annotations

import io
import sys

import pytest

from esb.cli.output import WIDEST, emit_json, table
from esb.cli.streams import encode

WORDS = "the target answered 503: it is closed for the inventory of the year until Monday at six, ask the desk"


def test_one_long_key_does_not_push_the_other_columns_away(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"key": "k" * 3000, "state": "done"}, {"key": "4711", "state": "dead"}]
    table(rows, (("KEY", "key"), ("STATE", "state")), empty="nothing")
    head, first, second = capsys.readouterr().out.splitlines()
    assert first == "k" * (WIDEST - 1) + "…  done"
    assert head.index("STATE") == second.index("dead") == WIDEST + 2


def test_the_last_column_is_whole_for_another_program(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks for a word in it must find it; only a terminal has an edge."""
    monkeypatch.delenv("COLUMNS", raising=False)
    table([{"key": "k" * 60, "why": WORDS}], (("KEY", "key"), ("WHY", "why")), empty="nothing")
    assert WORDS in capsys.readouterr().out


def test_what_is_cut_at_the_edge_of_a_terminal_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    table([{"key": "4711", "why": WORDS}], (("KEY", "key"), ("WHY", "why")), empty="nothing")
    _, line = capsys.readouterr().out.splitlines()
    assert (line.endswith("…"), len(line) <= 60) == (True, True)


@pytest.mark.parametrize(
    ("given", "windows", "encoding"),
    [({}, True, "utf-8"), ({}, False, "cp1252"), ({"PYTHONIOENCODING": "cp1252"}, True, "cp1252")],
)
def test_another_program_is_given_utf_8_on_windows_too(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], windows: bool, encoding: str
) -> None:
    """JSON is nothing else; the system's own code page is used where somebody asks for it."""
    monkeypatch.delenv("PYTHONIOENCODING", raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    stream = io.TextIOWrapper(io.BytesIO(), encoding="cp1252", newline="\n")
    monkeypatch.setattr(sys, "stdout", stream)
    encode(windows)
    emit_json({"lot": "Gr\u00f6\u00dfe"})
    stream.flush()
    assert stream.buffer.getvalue() == '{\n  "lot": "Gr\u00f6\u00dfe"\n}\n'.encode(encoding)  # type: ignore[attr-defined]  # a BytesIO
