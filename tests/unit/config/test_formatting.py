"""`esb fmt` changes the layout and the order of keys, and never what a file means."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from esb.cli import cli
from esb.config.digest import canonical
from esb.config.formatting import formatted
from esb.config.layout import laid_out
from esb.config.yaml import read_documents
from esb.registry import load
from tests.corpora import yaml_files

REGISTRY = load()
ROOT = Path(__file__).parents[3]


def fmt(text: str) -> str:
    return formatted(text.encode(), "routes/r.yaml", REGISTRY).text


def meaning(text: str) -> list[str]:
    documents, _ = read_documents(text, "r.yaml", lambda problem: None)
    return [canonical(document.node) for document in documents]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # blanks, braces, brackets
        ("route:   r  \nkey:  body.x   \n\n\n", "route: r\nkey: body.x\n"),
        ("from: {http: {path: /r ,auth:   x},}\n", "from: { http: { path: /r, auth: x }, }\n"),
        ("a: [ a , b,c ]\nb: [{a: 1},{b: 2}]\nc: {}\nd: []\n", "a: [a, b, c]\nb: [ { a: 1 }, { b: 2 } ]\nc: {}\nd: []\n"),
        ("a: [\n     x,   y,\n  z ]\n", "a: [\n     x, y,\n  z]\n"),
        # indentation
        ("steps:\n- log: x\n-   filter: y\n    name: n\n", "steps:\n  - log: x\n  - filter: y\n    name: n\n"),
        ("a:\n    b:\n          c: 1\n    d: 2\n", "a:\n  b:\n    c: 1\n  d: 2\n"),
        ("a:\n-   - x\n    - y\n", "a:\n  - - x\n    - y\n"),
        # texts stay as they are written, and move with their key
        ("a:\n    b: |\n        one\n          two  \n\n    c: 1\n", "a:\n  b: |\n      one\n        two  \n\n  c: 1\n"),
        ('a:\n    b: "one\n      two"\n', 'a:\n  b: "one\n    two"\n'),
        ("a: 0012\nb: 12e5\nc: 1.10\nd: 'on'\ne: no\nf: ~\ng:\nh: \"x\\u00e9\"\n",) * 2,
        # comments
        ("# top\na:   1   # one\nbb: 2   # two\n# end\n", "# top\na: 1     # one\nbb: 2   # two\n# end\n"),
        ("a:\n    # about b\n    b: 1\n    # the last word\n", "a:\n  # about b\n  b: 1\n  # the last word\n"),
        ("a: x#y   # z\n",) * 2,
        # the order of keys; comments go with the key below them
        ("steps: [ { log: x } ]\n# who\nowner: me\nroute: r\n", "steps: [ { log: x } ]\n# who\nowner: me\nroute: r\n"),
        ("route: r\nsteps:\n  - log: x\nfrom: { http: { path: /r } }\n# who answers\nowner: me\n",
         "route: r\n# who answers\nowner: me\nfrom: { http: { path: /r } }\nsteps:\n  - log: x\n"),
        ("route: r\nsteps:\n  - into: vars.x\n    timeout: 5s\n    to: erp.x\n",
         "route: r\nsteps:\n  - to: erp.x\n    timeout: 5s\n    into: vars.x\n"),
        ("route: r\nsteps:\n  - retry:\n      max: 3\n    to: erp.x   # why\n",
         "route: r\nsteps:\n  - to: erp.x   # why\n    retry:\n      max: 3\n"),
        ("connector: e\noperations:\n  b: { path: /b }\n  a: { path: /a }\ntype: http\n",
         "connector: e\ntype: http\noperations:\n  b: { path: /b }\n  a: { path: /a }\n"),
        # what has an order of its own keeps it
        ("route: r\nsteps:\n  - set:\n      vars.b: body.b\n      vars.a: vars.b\n  - map:\n      z: body.z\n      a: body.a\n",) * 2,
        ("a: 1\r\nb:   2\r\n", "a: 1\r\nb: 2\r\n"),
        ("\ufeffroute:  r\n", "\ufeffroute: r\n"),
        ("route: r\n---\n\nroute:   s\n...\n", "route: r\n---\n\nroute: s\n...\n"),
    ],
)  # fmt: skip
def test_the_one_layout(before: str, after: str) -> None:
    assert fmt(before) == after
    assert fmt(after) == after


@pytest.mark.parametrize("text", ["a: {\n", "a: 1\na: 2\n", "\ta: 1\n", ""])
def test_what_cannot_be_read_stays(text: str) -> None:
    assert fmt(text) == text


def test_every_document_of_the_suite_means_the_same() -> None:
    seen = 0
    for name, given_text in yaml_files().items():
        for case in yaml.safe_load(given_text):
            text = re.sub("—*»", "\t", case.get("yaml", "").replace("␣", " ").replace("∎", "").replace("↵", ""))
            if "←" in text or "⇔" in text:
                continue
            once = fmt(text)
            assert meaning(once) == meaning(text), name
            assert fmt(once) == once, name
            seen += once != text
    assert seen > 50


# -- whatever somebody writes -------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    ["a", "x y", "0012", "12e5", "on", "'a: #b'", '"\\t"', "{{ x }}", "body.x == 'y'", "~", "1.10", "é"]
)
NAMES = st.sampled_from(["route", "to", "log", "if", "timeout", "steps", "owner", "from", "b", "'q'", "map"])
values = st.recursive(
    WORDS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)


class Writer:
    """Writes a value as somebody in a hurry might."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw

    def blanks(self, least: int = 0) -> str:
        return " " * self.draw(st.integers(least, 3))

    def scalar(self, value: str) -> str:
        return f'"{value}"' if value.startswith("{") else value

    def flow(self, value: object) -> str:
        if isinstance(value, dict):
            parts = [f"{name}:{self.blanks(1)}{self.flow(inner)}" for name, inner in value.items()]
            return "{" + self.blanks() + f"{self.blanks()},{self.blanks(1)}".join(parts) + self.blanks(1) + "}"
        if isinstance(value, list):
            return "[" + self.blanks() + f",{self.blanks(1)}".join(map(self.flow, value)) + self.blanks(1) + "]"
        text = self.scalar(str(value))
        return text if text[:1] in "'\"" else f"'{text.replace(chr(39), chr(39) * 2)}'"

    def lines(self, value: object, indent: int) -> list[str]:
        """A block, each line with its indentation."""
        found = []
        pad = " " * indent
        if isinstance(value, dict):
            for name, inner in value.items():
                found += self.comment(pad)
                found += self.entry(f"{pad}{name}:", inner, indent + self.draw(st.integers(1, 5)))
        elif isinstance(value, list):
            for inner in value:
                found += self.comment(pad)
                found += self.entry(f"{pad}-", inner, indent + self.draw(st.integers(1, 5)))
        return found

    def entry(self, head: str, value: object, indent: int) -> list[str]:
        if isinstance(value, str) or not value or self.draw(st.booleans()):
            tail = self.draw(st.sampled_from(["", "   # note", " #"]))
            text = self.scalar(value) if isinstance(value, str) else self.flow(value)
            return [f"{head}{self.blanks(1)} {text}{tail}"]
        return [f"{head}{self.draw(st.sampled_from(['', '  ', ' # why']))}", *self.lines(value, indent)]

    def comment(self, pad: str) -> list[str]:
        return self.draw(st.sampled_from([[], [], [f"{pad}# about it"], [""]]))


@st.composite
def documents(draw: st.DrawFn) -> str:
    value = draw(st.dictionaries(NAMES, values, min_size=1, max_size=5) | st.lists(values, min_size=1, max_size=3))
    return "\n".join(Writer(draw).lines(value, 0)) + "\n"


@settings(max_examples=150)
@given(documents())
def test_whatever_is_written_means_the_same_afterwards(text: str) -> None:
    problems: list[object] = []
    read_documents(text, "r.yaml", problems.append)
    assert not problems
    laid = laid_out(text)
    assert meaning(laid) == meaning(text), "the layout alone must be right, not only the check behind it"
    assert laid_out(laid) == laid
    result = formatted(text.encode(), "r.yaml", REGISTRY)
    assert not result.kept
    assert fmt(result.text) == result.text
    assert Counter(re.sub(r"\s", "", result.text)) == Counter(re.sub(r"\s", "", text)), "not a character is lost"


# -- the command --------------------------------------------------------------------------------------------------------------


def test_the_command_formats_checks_and_reads_stdin(tmp_path: Path) -> None:
    (tmp_path / "routes").mkdir()
    route = tmp_path / "routes/r.yaml"
    route.write_text("route:  r\n", encoding="utf-8")
    (tmp_path / "routes/broken.yaml").write_text("route: {\n", encoding="utf-8")
    run = CliRunner()
    checked = run.invoke(cli, ["fmt", "--check", str(route)])
    assert (checked.exit_code, checked.stdout) == (1, f"{route}: would be formatted\n")
    assert "+route: r" in run.invoke(cli, ["fmt", "--diff", str(route)]).stdout
    assert route.read_text(encoding="utf-8") == "route:  r\n"
    done = run.invoke(cli, ["fmt", str(tmp_path)])
    assert done.exit_code == 1
    assert "broken.yaml:1:8: ESB001" in done.stderr
    assert "1 file formatted, 1 as they were" in done.stderr
    assert route.read_text(encoding="utf-8") == "route: r\n"
    assert run.invoke(cli, ["fmt", "--check", str(route)]).exit_code == 0
    piped = run.invoke(cli, ["fmt", "-"], input="a:   1\n")
    assert (piped.exit_code, piped.stdout) == (0, "a: 1\n")
    assert run.invoke(cli, ["fmt", str(tmp_path / "nowhere")]).exit_code == 66


@pytest.mark.parametrize("words", [[], ["--check"], ["--diff"]], ids=str)
def test_a_folder_that_cannot_be_listed_is_said_as_lint_says_it(tmp_path: Path, words: list[str]) -> None:
    """A link to itself is one that nobody can list, root neither."""
    (tmp_path / "esb.yaml").write_text("bus: b\n", encoding="utf-8")
    (tmp_path / "routes").symlink_to("routes")
    done = CliRunner().invoke(cli, ["fmt", *words, str(tmp_path)])
    assert done.exit_code == 1
    linted = CliRunner().invoke(cli, ["lint", str(tmp_path)]).output.splitlines()[0]
    assert linted.endswith("ESB004 the folder cannot be read: too many levels of symbolic links")
    assert f"{tmp_path}/{linted}" in done.stderr.splitlines()


def test_the_reference_workspace_and_the_examples_are_formatted() -> None:
    result = CliRunner().invoke(cli, ["fmt", "--check", str(ROOT), str(ROOT / "examples")])
    assert result.exit_code == 0, result.output
