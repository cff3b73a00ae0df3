"""YAML faults in plain words: what a person wrote wrong, at the place where it is to be put right."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from esb.errors import Position, Problem

_OPENERS = {"]": "[", "}": "{"}


def character_problem(character: str, text: str, path: str) -> Problem:
    """A character that no YAML file may hold."""
    index = max(0, text.find(character))
    before = text[:index].splitlines() or [""]
    line = len(before) + (1 if text[:index].endswith("\n") else 0)
    column = 1 if text[:index].endswith("\n") else len(before[-1]) + 1
    return Problem(
        "ESB001",
        f"the control character U+{ord(character):04X} may not stand in a YAML file",
        Position(path, line, column),
        hint="delete it; it was probably pasted",
    )


def syntax_problem(error: Any, text: str, path: str) -> Problem:
    """The problem of a PyYAML error, for libyaml's words as for the Python parser's."""
    return _Fault(error, text, path).problem()


def _beside(problem: Problem, at: Position, words: str) -> Problem:
    return replace(problem, related=(*problem.related, (at, words)))


class _Fault:
    def __init__(self, error: Any, text: str, path: str) -> None:
        self.path = path
        self.lines = text.splitlines() or [""]
        self.said = f"{error.context or ''}|{error.problem or ''}"
        self.mark = self._place(error.problem_mark or error.context_mark)
        self.context = self._place(error.context_mark) if error.context_mark else None

    @staticmethod
    def _place(mark: Any) -> tuple[int, int]:
        return (mark.line, mark.column) if mark is not None else (0, 0)

    # -- helpers ------------------------------------------------------------------------------------------------------
    def line(self, number: int) -> str:
        return self.lines[number] if 0 <= number < len(self.lines) else ""

    def at(self, place: tuple[int, int], message: str, hint: str = "", label: str = "", length: int = 1) -> Problem:
        row, column = place
        if row >= len(self.lines):  # the end of the file: show its last line
            row = max(0, len(self.lines) - 1)
            column = len(self.line(row))
        return Problem("ESB001", message, Position(self.path, row + 1, column + 1, length), hint, label)

    def says(self, *words: str) -> bool:
        return any(word in self.said for word in words)

    def token(self, place: tuple[int, int]) -> str:
        found = re.match(r"[^\s,:\[\]{}]+|\S", self.line(place[0])[place[1] :])
        return found[0] if found else ""

    def previous(self, row: int) -> tuple[int, str]:
        """The line above that says something."""
        for number in range(row - 1, -1, -1):
            content = self.line(number).split(" #")[0].rstrip()
            if content.strip() and not content.lstrip().startswith("#"):
                return number, content
        return 0, ""

    # -- rules, the most telling first ----------------------------------------------------------------------------------
    def problem(self) -> Problem:
        rules = (
            self._tab,
            self._quote,
            self._bracket,
            self._colon,
            self._no_colon,
            self._key,
            self._dash,
            self._character,
            self._escape,
            self._block_text,
        )
        for rule in rules:
            found = rule()
            if found is not None:
                return self._with_block(found)
        words = self.said.partition("|")[2] or "unexpected text"
        return self.at(self.mark, f"this is not YAML: {words}", "check indentation, quotes and brackets here")

    def _with_block(self, problem: Problem) -> Problem:
        """The problem with the place of the line that it does not fit to, where that is some lines above: the item before it, or
        the beginning of its block."""
        row, column = self.mark
        path = problem.position.path
        if self.line(row)[column:].startswith("- "):
            for above in range(row - 1, -1, -1):
                item = re.match(r" *(?=- )", self.line(above))
                if item is not None:
                    at = Position(path, above + 1, len(item[0]) + 1)
                    return problem if len(item[0]) == column else _beside(problem, at, "the item before it stands here")
        if self.context is None or not self.says("while parsing a block") or self.context[0] in (0, row - 1, row):
            return problem
        return _beside(problem, Position(path, self.context[0] + 1, self.context[1] + 1), "the block begins here")

    def _tab(self) -> Problem | None:
        first = self.context[0] if self.context else self.mark[0]
        rows = [self.mark[0], *range(max(first, self.mark[0] - 3), self.mark[0])]
        for row in rows:
            lead = re.match(r"[ \t]*", self.line(row))
            if lead and "\t" in lead[0]:
                column = lead[0].index("\t")
                return Problem(
                    "ESB002",
                    "a tab stands in the indentation",
                    Position(self.path, row + 1, column + 1, len(lead[0]) - column),
                    "use spaces (two per level); most editors can convert tabs",
                    "tab",
                )
        return None

    def _quote(self) -> Problem | None:
        if not self.says("quoted scalar|found unexpected end of stream", "quoted scalar|found unexpected document"):
            return None
        place = self.context or self.mark
        sign = self.line(place[0])[place[1] : place[1] + 1]
        return self.at(
            place, f"the quote {sign} that opens here is never closed", f"close it with {sign}", "opens here"
        )

    def _bracket(self) -> Problem | None:
        closing = "]" if self.says("',' or ']'") else "}" if self.says("',' or '}'") else ""
        if closing and self.context:
            opening = _OPENERS[closing]
            if self.context[0] == self.mark[0] and self.mark[1] < len(self.line(self.mark[0])):
                return self.at(
                    self.mark,
                    f"`,` or `{closing}` is missing before this",
                    "put a text that contains `: `, `,` or brackets in quotes",
                    length=len(self.token(self.mark)) or 1,
                )
            return self.at(
                self.context, f"this `{opening}` is not closed", f"close it with `{closing}`", f"no `{closing}` follows"
            )
        if not self.says("expected node content", "expected the node content"):
            return None
        if self.mark[0] < len(self.lines) and self.token(self.mark):
            return self.at(self.mark, f"a value is missing before `{self.token(self.mark)}`")
        place = self._unclosed()
        if place is None:
            return self.at(self.mark, "a value is missing here")
        sign = self.line(place[0])[place[1]]
        return self.at(place, f"this `{sign}` is not closed", label="opens here")

    def _unclosed(self) -> tuple[int, int] | None:
        stack: list[tuple[int, int]] = []
        for row, line in enumerate(self.lines):
            bare = re.sub(r"\"(?:\\.|[^\"\\])*\"|'[^']*'|(?:^|\s)#.*", lambda found: " " * len(found[0]), line)
            for column, character in enumerate(bare):
                if character in "[{":
                    stack.append((row, column))
                elif character in "]}" and stack:
                    stack.pop()
        return stack[-1] if stack else None

    def _colon(self) -> Problem | None:
        if not self.says("mapping values are not allowed"):
            return None
        row, column = self.mark
        line = self.line(row)
        if re.match(r"\s*(?:- +)*[^\s:]+:\s+\S", line[:column]):
            return self.at(
                self.mark,
                "a second `:` in the same line",
                "put a value that contains `: ` in quotes; a new key goes on a line of its own",
            )
        above, content = self.previous(row)
        key = re.match(r"\s*(?:- +)*([^\s:]+):\s+\S", content)
        start = len(line) - len(line.lstrip())
        length = max(1, column - start)
        if key and start > len(content) - len(content.lstrip()):
            return self.at(
                (row, start),
                f"this line is indented under `{key[1]}`, which has a value already",
                f"begin it in the column of `{key[1]}`",
                length=length,
            )
        glued = re.match(r"\s*(?:- +)*([\w.-]+):(\S.*)", content)
        if glued:
            place = (above, content.index(":"))
            return self.at(place, "a space is missing after `:`", f"write `{glued[1]}: {glued[2]}`")
        return self._bare(above, content)

    def _no_colon(self) -> Problem | None:
        if not self.says("could not find expected ':'"):
            return None
        row, _ = self.context or self.mark
        content = self.line(row).rstrip()
        glued = re.match(r"\s*(?:- +)*([\w.-]+):(\S.*)", content)
        if glued:
            return self.at((row, content.index(":")), "a space is missing after `:`", f"write `{glued[1]}: {glued[2]}`")
        return self._bare(row, content)

    def _bare(self, row: int, content: str) -> Problem:
        start = len(content) - len(content.lstrip())
        return self.at(
            (row, start),
            "this line is neither `key: value` nor `- item`",
            "add a `:` after the key",
            length=max(1, len(content) - start),
        )

    def _key(self) -> Problem | None:
        mapping = self.says("did not find expected key", "block mapping|expected <block end>")
        if not mapping and not self.says("'-' indicator", "block collection|expected <block end>"):
            return None
        row, column = self.mark
        line = self.line(row)
        before = line[:column].rstrip()
        if before and not re.fullmatch(r"[\s-]*", before):
            return self._trailing(row, column, before)
        started = f" (it begins in line {self.context[0] + 1}, column {self.context[1] + 1})" if self.context else ""
        length = max(1, len(line.strip()))
        if not mapping:
            hint = f"begin the line with `- `, or indent it to belong to the item above{started}"
            return self.at((row, column), "a list item is expected here", hint, length=length)
        if self.token(self.mark).startswith("-"):
            return self.at((row, column), "a list item stands where a key is expected", self._columns(row))
        if self.token(self.mark) in ("}", "]"):
            return self.at((row, column), f"`{self.token(self.mark)}` closes nothing")
        return self.at(
            (row, column), "the indentation of this line fits no line above", self._columns(row), length=length
        )

    def _columns(self, row: int) -> str:
        """Where the line may begin: with the line above, or with the mapping that is open."""
        above, content = self.previous(row)
        places = {len(content) - len(content.lstrip()): above}
        if self.context:
            places.setdefault(self.context[1], self.context[0])
        return "begin it in " + " or ".join(f"column {c + 1} (as line {r + 1} does)" for c, r in places.items())

    def _trailing(self, row: int, column: int, before: str) -> Problem:
        template = before.find("{{")
        if template >= 0 and before[:template].rstrip().endswith(":"):
            return self.at(
                (row, template),
                "`{{ … }}` at the start of a value must stand in quotes",
                'write it like "{{ body.name }}"',
                length=2,
            )
        length = len(self.token((row, column))) or 1
        if before[-1] in "'\"":
            hint = "put the whole value in quotes; inside single quotes a quote is written twice ('')"
            return self.at((row, column), "text after the closing quote", hint, length=length)
        return self.at((row, column), "unexpected text here", "put the whole value in quotes", length=length)

    def _dash(self) -> Problem | None:
        if not self.says("sequence entries are not allowed"):
            return None
        return self.at(self.mark, "a list cannot begin in the line of its key", "start a new line for `- `, or use [ ]")

    def _character(self) -> Problem | None:
        if self.says("scanning an alias", "scanning an anchor"):
            place = self.context or self.mark
            sign = self.line(place[0])[place[1] : place[1] + 1]
            return self.at(place, f"`{sign}` cannot begin a text", "put the value in quotes")
        if not self.says("cannot start any token"):
            return None
        sign = self.line(self.mark[0])[self.mark[1] : self.mark[1] + 1]
        return self.at(self.mark, f"`{sign}` cannot begin a value", "put the value in quotes")

    def _escape(self) -> Problem | None:
        if not self.says("unknown escape"):
            return None
        row, column = self.mark
        line = self.line(row)
        if line[column : column + 1] != "\\" and line[column - 1 : column] == "\\":
            column -= 1
        return self.at(
            (row, column),
            f"`{line[column : column + 2]}` is no escape that YAML knows in double quotes",
            "use single quotes, where `\\` means itself",
            length=2,
        )

    def _block_text(self) -> Problem | None:
        if not self.says("scanning a block scalar"):
            return None
        return self.at(
            self.mark, "nothing may follow `|` or `>` in its line", "begin the text in the next line, indented"
        )
