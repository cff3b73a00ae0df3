"""What identifies a version: the meaning of a document, not its layout."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator

from esb.secret import Secret
from esb.spec import ListNode, MapNode, Node, ScalarNode, to_plain

#: New in every process: a changed secret must be noticed at a reload, its hash must be of no use to anybody.
_SALT = secrets.token_bytes(16)


def canonical(node: Node) -> str:
    """The document without comments, layout and secrets; the order of keys stays, since it can mean something."""
    return "".join(_canonical(node))


def _canonical(node: Node) -> Iterator[str]:
    match node:
        case MapNode():
            yield "{"
            for key, value in node.entries:
                yield f"{json.dumps(key.text)}:"
                yield from _canonical(value)
                yield ","
            yield "}"
        case ListNode():
            yield "["
            for item in node.items:
                yield from _canonical(item)
                yield ","
            yield "]"
        case ScalarNode():
            if isinstance(node.value, Secret):
                yield f"secret {json.dumps(node.text)}"
            elif isinstance(node.value, str):
                yield json.dumps(node.value)
            else:
                yield f"{type(node.value).__name__} {node.text}"


def digest(parts: Iterable[str]) -> str:
    """The SHA-256 of some texts, in hexadecimal; where one ends and the next begins counts."""
    found = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        found.update(b"%d:" % len(data) + data)
    return found.hexdigest()


def secrets_mark(node: Node) -> str:
    """Differs where a secret of the document has another value, empty where it has none; of this process only."""
    found = hashlib.sha256(_SALT)
    empty = found.digest()

    def walk(value: object) -> None:
        if isinstance(value, Secret):
            found.update(hashlib.sha256(_SALT + value.reveal().encode("utf-8", "surrogatepass")).digest())
        elif isinstance(value, dict):
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk(to_plain(node))
    return found.hexdigest() if found.digest() != empty else ""
