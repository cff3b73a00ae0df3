"""Hides what contracts mark as sensitive from who may not see payloads.

A marked name hides its member in every message of the bus, at any depth: a message keeps little of the contract that it came
under once it was mapped, split or handed on. The values found under such names are hidden in texts beside them, too: in
errors, traces, headers. Keys and tracked values stay: they are what people search by.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from esb.formats.json import Json
from esb.observe.hiding import HIDDEN, SHORTEST, parsed, values_in, without
from esb.store.base import Filter, Store
from esb.store.values import blank

_JSON = Json()
#: What a message is found by.
_OPEN = frozenset({"id", "seq", "route", "scope", "state", "key", "track", "correlation_id", "parent_id", "replay_of", "duplicate_of", "version", "accepted_at", "finished_at", "due", "attempts", "children"})  # fmt: skip


class Masks:
    """Masks items of the views, by the marked names of a bus."""

    def __init__(self, names: Collection[str], store: Store) -> None:
        self._names = frozenset(names)
        self._store = store

    def hide(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """A message, or a group of dead letters, without what is marked; other items as they are."""
        if not self._names:
            return dict(item)
        if "group" in item and "count" in item:
            return self._group(item)
        if "correlation_id" not in item:
            return dict(item)
        values = self._values(str(item["id"]))
        if values is None:
            return {name: value if name in _OPEN or value in (None, "") else HIDDEN for name, value in item.items()}
        hidden = {name: value if name in _OPEN else self._hide(value, values) for name, value in item.items()}
        if "body" in item:
            hidden["body"] = self._body(item["body"], values)
        return hidden

    def hide_difference(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """A difference between systems without what is marked in the records of both sides, and in the words about them."""
        values = values_in([item["sides"]], self._names)
        words = {name: without(str(item[name]), values) for name in ("what", "owner", "repair")}
        return {**item, **words, "sides": self._hide(item["sides"], values)}

    def _group(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """The words of a group are those of each of its messages, but for numbers: one of them tells what to hide."""
        sample = self._store.find(Filter(group=item["group"], route=item["route"], limit=1))
        found = self._values(sample[0].envelope.id) if sample else set()
        if found is None:
            return {**item, "message": HIDDEN}
        values = {blank(value) for value in found}
        values = {value for value in values if len(value) >= SHORTEST and any(map(str.isalpha, value))}
        return {**item, "message": without(str(item["message"]), values)}

    def _values(self, id_: str) -> set[str] | None:
        """What stands under marked names in the payload, the variables and the trace of a message: also of payloads before an
        edit, which older errors speak of. None for a payload that is too large to be looked into."""
        stored = self._store.get(id_)
        if stored is None:
            return set()
        envelope, _ = self._store.payload(stored.envelope.seq)
        if envelope.blob is not None:
            return None
        parts = (parsed(envelope.body), dict(envelope.vars), dict(envelope.headers), list(stored.trace))
        return values_in(parts, self._names)

    def _hide(self, value: Any, values: set[str]) -> Any:
        if isinstance(value, Mapping):
            about = self._names & _pointed_at(value)
            return {
                name: HIDDEN
                if (name in self._names and one is not None) or (about and name in ("detail", "message"))
                else self._body(one, values)
                if name in ("body", "body_base64")
                else self._hide(one, values)
                for name, one in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self._hide(one, values) for one in value]
        if not isinstance(value, str):
            return value
        return self._text(value, values)

    def _body(self, body: Any, values: set[str]) -> Any:
        """A value, or JSON, without its marked members; text of another kind whole, since nothing says where they stand."""
        if not isinstance(body, str):
            return (
                HIDDEN if isinstance(body, Mapping) and set(body) <= {"base64", "content"} else self._hide(body, values)
            )
        return HIDDEN if parsed(body.encode("utf-8", "surrogatepass")) is None else self._text(body, values)

    def _text(self, text: str, values: set[str]) -> str:
        value = parsed(text.encode("utf-8", "surrogatepass")) if text.lstrip()[:1] in ("{", "[") else None
        return without(text, values) if value is None else _JSON.encode(self._hide(value, values)).decode()


def _pointed_at(error: Mapping[str, Any]) -> set[str]:
    """The members that an error, or one of its violations, is about."""
    words = [
        error.get("pointer"),
        *(one.get("pointer") for one in error.get("errors") or () if isinstance(one, Mapping)),
    ]
    return {part for word in words if isinstance(word, str) for part in word.split("/")}
