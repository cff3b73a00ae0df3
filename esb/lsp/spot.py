"""Where a cursor stands in a YAML file: under which keys, at a key or in a value, in front of which word."""

from __future__ import annotations

import re
from dataclasses import dataclass

from esb.config.yaml import Document, read_documents
from esb.language.inference import PROBE
from esb.spec import ListNode, MapNode, Node, ScalarNode

_WORD = re.compile(r"[\w$.\-]*\Z")
_REST = re.compile(r"[\w$\-]*")
_BARE = re.compile(r"\s*(?:- +)*\Z|.*[{,]\s*\Z")

Step = str | int


@dataclass(frozen=True, slots=True)
class Spot:
    """``path`` are the keys and places of lists down to the cursor; ``beside`` the other keys of its mapping.

    ``word`` is what stands before the cursor; ``scalar`` the whole value that the cursor is in, with `PROBE` for what it is at.
    """

    document: MapNode
    path: tuple[Step, ...]
    beside: tuple[str, ...]
    at_key: bool
    word: str
    scalar: str = ""

    @property
    def kind(self) -> str:
        """The first key of the document, which says what it is."""
        return self.document.entries[0][0].text if self.document.entries else ""


def word_before(line: str, column: int) -> str:
    found = _WORD.search(line[:column])
    return found[0] if found else ""


def probed(text: str, line: int, column: int) -> str:
    """The text with `PROBE` in place of the last name at the cursor (``body.lo|t`` is ``body.PROBE``)."""
    lines = text.split("\n")
    current = lines[line] if line < len(lines) else ""
    start = column - len(word_before(current, column).rpartition(".")[2])
    rest = _REST.match(current[column:])
    end = column + (len(rest[0]) if rest else 0)
    lines[line] = current[:start] + PROBE + current[end:]
    return "\n".join(lines)


def spot_at(text: str, line: int, column: int) -> Spot | None:
    """Where the cursor (from 0) stands; None where the file cannot be read around it."""
    lines = text.split("\n")
    current = lines[line].rstrip("\r") if line < len(lines) else ""
    word = word_before(current, column)
    asked = probed(text, line, column)
    start = column - len(word.rpartition(".")[2])
    texts = [asked]
    if "." not in word and _BARE.fullmatch(current[:start]):
        here = asked.split("\n")
        if not here[line].partition(PROBE)[2].lstrip().startswith(":"):
            here[line] = here[line].replace(PROBE, f"{PROBE}:", 1)
            texts.insert(0, "\n".join(here))
    for candidate in texts:
        documents, _ = read_documents(candidate, "", lambda problem: None)
        for document in documents:
            found = _find(document.node, ())
            if found is not None and isinstance(document.node, MapNode):
                path, beside, at_key, scalar = found
                return Spot(document.node, path, beside, at_key, word, scalar)
    return None


def _find(node: Node, path: tuple[Step, ...]) -> tuple[tuple[Step, ...], tuple[str, ...], bool, str] | None:
    if isinstance(node, ScalarNode):
        return (path, (), False, str(node.value)) if PROBE in str(node.value) else None
    if isinstance(node, ListNode):
        for index, item in enumerate(node.items):
            if (found := _find(item, (*path, index))) is not None:
                return found
    elif isinstance(node, MapNode):
        for key, value in node.entries:
            if PROBE in key.text:
                others = tuple(other for other in node.keys() if other != key.text)  # noqa: SIM118 - keys() is ours
                return path, others, True, key.text
            if (found := _find(value, (*path, key.text))) is not None:
                return found
    return None


def documents_of(text: str, path: str) -> list[Document]:
    """The documents of a file, as far as they can be read."""
    return read_documents(text, path, lambda problem: None)[0]
