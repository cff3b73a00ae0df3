"""Comments in ``.jmes`` files."""

from __future__ import annotations

import re

#: a quoted part (in which `#` is text) or a comment line
_PARTS = re.compile(
    r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|`(?:\\.|[^`\\])*`|(?P<comment>^[ \t]*\#[^\n]*)""", re.DOTALL | re.MULTILINE
)


def without_comments(text: str) -> str:
    """The same text with blanks for comment lines, so that every character keeps its place."""
    return _PARTS.sub(lambda match: " " * len(match[0]) if match["comment"] is not None else match[0], text)
