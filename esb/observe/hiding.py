"""Values that contracts mark as sensitive: finding them in a message, and taking them out of words about it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from esb.errors import ErrorRecord, EsbError
from esb.formats.json import Json
from esb.message import Envelope

HIDDEN = "***"
#: A value shorter than this is not looked for in other texts: it would take half of them away.
SHORTEST = 4
_JSON = Json()


def values_in(parts: Iterable[Any], names: Collection[str]) -> set[str]:
    """What stands under marked names in some values, and in JSON that is kept as text within them."""
    found: set[str] = set()
    for part in parts:
        _collect(part, names, found, inside=False)
    return found


def _collect(value: Any, names: Collection[str], found: set[str], *, inside: bool) -> None:
    if isinstance(value, Mapping):
        for name, one in value.items():
            _collect(one, names, found, inside=inside or name in names)
    elif isinstance(value, (list, tuple)):
        for one in value:
            _collect(one, names, found, inside=inside)
    elif inside and value is not None and not isinstance(value, bool) and len(str(value)) >= SHORTEST:
        found.add(str(value))
    elif isinstance(value, str) and value[:1] in ("{", "["):
        _collect(parsed(value.encode("utf-8", "surrogatepass")), names, found, inside=False)


def without(text: str, values: Iterable[str]) -> str:
    """A text with ``***`` in the place of each value."""
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, HIDDEN)
    return text


def parsed(body: bytes) -> Any:
    """The JSON value, None where it is none (or ``null``)."""
    try:
        return _JSON.decode(body)
    except EsbError:
        return None


def told(error: ErrorRecord, envelope: Envelope, trace: Sequence[Mapping[str, Any]], names: Collection[str]) -> str:
    """The words of an error for those who may not see payloads: readers of mails, chats and boards."""
    if not names:
        return error.message
    pointers = [error.pointer, *(violation.pointer for violation in error.violations)]
    about_it = any(part in names for pointer in pointers for part in pointer.split("/"))
    if about_it or envelope.blob is not None:  # a large payload is not looked into
        return HIDDEN
    parts = (parsed(envelope.body), dict(envelope.vars), dict(envelope.headers), list(trace))
    return without(error.message, values_in(parts, names))
