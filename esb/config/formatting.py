"""`esb fmt`: one layout and one order of keys. What a file means is read before and after; if it differs, nothing is changed."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import yaml

from esb.config.layout import comments_of, laid_out
from esb.config.steps import MODIFIERS
from esb.config.yaml import Document, read_documents
from esb.errors import Problem
from esb.registry import Registry
from esb.spec import ListNode, MapNode, Node, ScalarNode

_ORDER: Mapping[str, Sequence[str]] = {
    "route": (
        "route", "description", "owner", "version", "enabled", "criticality", "key", "dedupe", "order", "track", "retry",
        "when_down", "ttl", "concurrency", "within", "priority", "alert", "expect", "kpis", "*", "from", "steps", "on_error",
    ),
    "connector": ("connector", "type", "description", "params", "*", "operations", "stub"),
    "bus": ("bus", "*"),
}  # fmt: skip
#: beside a step; its own word, `name` and `if` stay in the order in which they read best
_BESIDE = ("*", "timeout", "retry", "when_down", "on_timeout", "into", "continue_on_error")
_COMMENT = re.compile(r"\s*#")


@dataclass(frozen=True, slots=True)
class Formatted:
    """The new text of a file; ``problems`` where it cannot be read, ``kept`` where it could not be formatted safely."""

    text: str
    problems: tuple[Problem, ...] = ()
    kept: str = ""


def formatted(data: bytes, path: str, registry: Registry) -> Formatted:
    """The text of a YAML file of a workspace in its one form, with the ends of lines that it has. Never raises for content."""
    mark = "\ufeff" if data.startswith(codecs.BOM_UTF8) else ""
    try:
        given = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return Formatted("", kept="it is not UTF-8")
    text = given.replace("\r\n", "\n")
    problems: list[Problem] = []
    documents, whole = read_documents(text, path, problems.append)
    if not whole or problems:
        return Formatted(given, tuple(problems))
    ordered = _ordered(text, documents, frozenset(registry.family("step")))
    new = _safe(text, ordered, path, in_order=False)
    new = _safe(new, _laid_out(new), path, in_order=True)
    kept = "" if new.strip() or not text.strip() else "nothing would be left"
    if _laid_out(new) != new:
        kept = "its layout does not settle"
    if kept:
        return Formatted(given, kept=kept)
    return Formatted(mark + (new.replace("\n", "\r\n") if "\r\n" in given else new))


def _laid_out(text: str) -> str:
    try:
        return laid_out(text)
    except yaml.YAMLError:
        return text


def _safe(before: str, after: str, path: str, *, in_order: bool) -> str:
    """``after``, where it means what ``before`` does and has the same comments."""
    if before == after:
        return before
    old, _ = read_documents(before, path, lambda problem: None)
    problems: list[Problem] = []
    new, whole = read_documents(after, path, problems.append)
    same = whole and not problems and len(old) == len(new)
    same = same and all(_same(one.node, other.node, in_order) for one, other in zip(old, new, strict=True))
    return after if same and _comments(before) == _comments(after) else before


def _same(one: Node, other: Node, in_order: bool) -> bool:
    match one, other:
        case ScalarNode(), ScalarNode():
            return type(one.value) is type(other.value) and (one.value, one.quoted) == (other.value, other.quoted)
        case ListNode(), ListNode():
            pairs = zip(one.items, other.items, strict=False)
            return len(one.items) == len(other.items) and all(_same(a, b, in_order) for a, b in pairs)
        case MapNode(), MapNode():
            names, others = one.keys(), other.keys()
            if (names != others) if in_order else (sorted(names) != sorted(others)):
                return False
            return all(_same(value, other.get(key.text) or value, in_order) for key, value in one.entries)
    return False


def _comments(text: str) -> list[str]:
    try:
        return comments_of(text)
    except yaml.YAMLError:
        return [text]


# -- the order of keys ------------------------------------------------------------------------------------------------------


def _ordered(text: str, documents: Sequence[Document], steps: frozenset[str]) -> str:
    """The text with the keys of documents and steps in their order; the lines of a key move together."""
    lines = text.split("\n")
    for document in documents:
        moves: list[tuple[MapNode, Sequence[str]]] = []
        _collect(document.node, steps, moves)
        root = document.node
        kind = root.entries[0][0].text if isinstance(root, MapNode) and root.entries else ""
        if isinstance(root, MapNode) and kind in _ORDER and root.get("cases") is None:
            moves.append((root, _ORDER[kind]))
        for node, order in moves:  # inner mappings first: their lines lie inside of those of the outer ones
            _reorder(lines, node, order, text)
    return "\n".join(lines)


def _collect(node: Node, steps: frozenset[str], moves: list[tuple[MapNode, Sequence[str]]]) -> None:
    if isinstance(node, ListNode):
        for item in node.items:
            _collect(item, steps, moves)
    elif isinstance(node, MapNode):
        for _, value in node.entries:
            _collect(value, steps, moves)
        named = [key.text for key, _ in node.entries if key.text in steps]
        if len(named) == 1 and all(key.text in MODIFIERS for key, _ in node.entries if key.text != named[0]):
            moves.append((node, _BESIDE))


def _reorder(lines: list[str], node: MapNode, order: Sequence[str], text: str) -> None:
    """Sort the lines of a block mapping by its keys; left alone where keys share lines or comments stand oddly."""
    keys = [key for key, _ in node.entries]
    wanted = sorted(keys, key=lambda key: _rank(key.text, order))
    starts = [key.position.line - 1 for key in keys]
    column = keys[0].position.column - 1 if keys else 0
    if wanted == keys or any(one >= other for one, other in pairwise(starts)):
        return
    if any(key.position.column - 1 != column for key in keys):
        return
    heads = [_head(lines, start, column, starts[0]) for start in starts]
    end = _end(lines, starts[-1], column)
    chunks = [lines[head:stop] for head, stop in zip(heads, [*heads[1:], end], strict=True)]
    prefix = chunks[0][starts[0] - heads[0]][:column]
    moved = [chunks[keys.index(key)] for key in wanted]
    if prefix.strip():  # the first key stands behind the dash of its item
        if heads[0] != starts[0] or any(head != start for head, start in zip(heads[1:], starts[1:], strict=True)):
            return
        chunks[0][0] = " " * column + chunks[0][0][column:]
        moved[0][0] = prefix + moved[0][0][column:]
    lines[heads[0] : end] = [line for chunk in moved for line in chunk]


def _rank(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else order.index("*")


def _head(lines: Sequence[str], start: int, column: int, first: int) -> int:
    """Where the lines of a key begin: with the comments right above it, but for those above the whole mapping."""
    if start == first:
        return start
    head = start
    while _COMMENT.match(lines[head - 1]) and len(lines[head - 1]) - len(lines[head - 1].lstrip()) == column:
        head -= 1
    return head


def _end(lines: Sequence[str], start: int, column: int) -> int:
    """The line behind the last one of a mapping: blank lines and comments further out do not belong to it."""
    end = start + 1
    for number in range(start + 1, len(lines)):
        line = lines[number]
        indent = len(line) - len(line.lstrip())
        if not line.strip():
            continue
        dash = indent == column and line.lstrip().startswith("- ")
        if indent < column or (indent == column and not dash) or line.startswith(("---", "...")):
            break
        end = number + 1
    return end


def changed_lines(before: str, after: str) -> Sequence[str]:
    """The difference of two texts as people read it."""
    import difflib  # noqa: PLC0415 - only `--diff` asks

    return list(
        difflib.unified_diff(before.splitlines(), after.splitlines(), "as it is", "formatted", lineterm="", n=1)
    )


def summary(results: Mapping[str, Any]) -> str:
    """``3 files formatted, 11 as they were``."""
    done = sum(bool(changed) for changed in results.values())
    rest = len(results) - done
    return f"{done} file{'' if done == 1 else 's'} formatted, {rest} as they were"
