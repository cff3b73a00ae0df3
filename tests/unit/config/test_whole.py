"""Files that are let in and cannot be read: what of the route needs them as a whole, and what to write instead."""

from __future__ import annotations

import pytest

from esb.config.loader import Loaded

from .conftest import Read, good, only

ROUTE = """route: r
MORE
from: { file: { path: "in/*.csv", max_size: 2GB, format: FORMAT } }
steps:
"""
SPLIT = '  - split: { each: "EACH", steps: [ { log: x } ] }\n'


def nothing(loaded: Loaded) -> None:
    """Nothing is said of it at all."""
    good(loaded)
    assert list(loaded.problems) == []


def files(format_: str = "csv", steps: str = SPLIT, more: str = "", each: str = "body") -> dict[str, str]:
    head = ROUTE.replace("MORE\n", f"{more}\n" if more else "").replace("FORMAT", format_)
    return {"routes/r.yaml": head + steps.replace("EACH", each)}


X12 = "body.interchanges[].groups[].transactions[]"


@pytest.mark.parametrize(
    ("format_", "steps", "each", "more"),
    [
        ("csv", SPLIT, "body", ""),
        ("csv", SPLIT, "body", "key: meta.file_name"),
        ("csv", SPLIT, "body", "track: { file: meta.file_name, id: 'headers.\"body-id\"' }"),
        ("csv", SPLIT, "body", "dedupe: \"join('-', ['body', meta.body, headers.body])\""),
        ("edifact", SPLIT, "body.messages", ""),
        ("x12", SPLIT, X12, ""),
        ("edifact", "  - remove: [body.messages]\n    into: vars.about\n" + SPLIT, "body.messages", ""),
        ("edifact", SPLIT + "  - remove: ['body.messages[].segments']\n  - filter: body.faults\n", "body.messages", ""),
        ("raw", "  - to: { file: { path: 'out/{{ meta.file_name }}' } }\n", "", ""),
        ("raw", "  - claim: body\n  - log: '{{ body.claim }}'\n", "", ""),
    ],
)
def test_what_is_worked_through_piece_by_piece_may_have_any_size(
    read: Read, format_: str, steps: str, each: str, more: str
) -> None:
    nothing(read(files(format_, steps, more, each)))


@pytest.mark.parametrize(
    ("found", "words", "hint"),
    [
        (files(more="key: body[0].lot"), "`key: body[0].lot` needs all of it", "`split` may have a `key` of its own"),
        (files(more="track: { lot: 'body[0].lot' }"), "`track.lot: body[0].lot` needs", "such as `meta.file_name`"),
        (files(more="dedupe: hash(to_text($))"), "`dedupe: hash(to_text($))` needs", "take `dedupe` from `meta`"),
        (
            files(steps="  - filter: body\n" + SPLIT),
            "step `filter` needs all of it",
            "first step be `split` with `each: body`",
        ),
        (files(each="body[?lot]"), "step `split` needs all of it", "`split` with `each: body`"),
        (files("x12", each="body.interchanges"), None, ""),
        (files("x12", each="body.interchanges[0].groups[0].transactions"), "step `split`", f"`each: {X12}`"),
        (files("excel"), "step `split` needs all of it", "its format is read as a whole only"),
        (
            files("edifact", SPLIT + "  - filter: body.faults\n", each="body.messages"),
            "step `filter`",
            "or `remove` its messages",
        ),
        (files(steps="  - log: x\n"), "no step works through it piece by piece", "first step be `split`"),
    ],
)
def test_what_needs_it_as_a_whole_is_pointed_out_where_its_size_stands(
    read: Read, found: dict[str, str], words: str | None, hint: str
) -> None:
    result = read(found)
    if words is None:
        nothing(result)
        return
    problem = only(result)
    assert (problem.code, problem.severity) == ("ESB611", "warning")
    line = found["routes/r.yaml"].splitlines()[problem.position.line - 1]
    assert line[problem.position.column - 1 :].startswith("2GB")
    assert "a file of up to 2GB is let in, but more than 100MB" in problem.message
    assert words in problem.message
    assert hint in problem.hint


def test_up_to_what_fits_into_memory_nothing_is_said(read: Read) -> None:
    text = files(more="key: body[0].lot")["routes/r.yaml"].replace("2GB", "100MB")
    nothing(read({"routes/r.yaml": text}))
    nothing(read({"routes/r.yaml": text.replace("100MB", "2GB"), "esb.yaml": "limits: { in_memory: 2GB }\n"}))
