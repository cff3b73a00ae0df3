"""Values that may not leave the bus, replaced by others of the same form: what a contract, an expression or a target sees of them
stays possible. The same value always becomes the same other one, so that what belongs together stays together."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

#: A shorter value is not looked for inside of texts: it would be found everywhere.
SHORTEST = 4


@dataclass(slots=True)
class Mask:
    """Replaces what stands under ``names``, at any depth, and where those values stand elsewhere. ``seed`` is new for each use, so
    that nobody who knows the rule can try values out."""

    names: Collection[str]
    seed: bytes
    known: dict[str, str] = field(default_factory=dict)

    def learn(self, value: Any, *, inside: bool = False) -> None:
        """Note every value under one of the names."""
        for one in _under(value, self.names, inside):
            if isinstance(one, str) or _is_number(one):
                self.known.setdefault(_written(one), self._other(_written(one)))

    def hide(self, value: Any, *, inside: bool = False) -> Any:
        """The value without what may not leave."""
        if isinstance(value, Mapping):
            return {name: self.hide(one, inside=inside or name in self.names) for name, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.hide(one, inside=inside) for one in value]
        if _is_number(value):
            text = _written(value)
            return type(value)(self._other(text)) if inside or (text in self.known and len(text) >= SHORTEST) else value
        if not isinstance(value, str):
            return value
        return self._other(value) if inside else self.text(value)

    def text(self, text: str) -> str:
        """A text in which known values may stand."""
        if text in self.known:
            return self.known[text]
        for value, other in sorted(self.known.items(), key=lambda pair: -len(pair[0])):
            if len(value) >= SHORTEST:
                text = text.replace(value, other)
        return text

    def _other(self, text: str) -> str:
        """Letters become letters, digits digits (a first one never 0), everything else stays."""
        digest = hashlib.sha256(self.seed + text.encode("utf-8", "surrogatepass")).digest()
        found = []
        for place, sign in enumerate(text):
            byte = digest[place % 32] + place
            if sign in string.digits:
                found.append(str(1 + byte % 9))
            elif sign.isalpha():
                letter = string.ascii_lowercase[byte % 26]
                found.append(letter.upper() if sign.isupper() else letter)
            else:
                found.append(sign)
        return "".join(found)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, Decimal)) and not isinstance(value, bool)


def _written(value: Any) -> str:
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _under(value: Any, names: Collection[str], inside: bool) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield from _under(one, names, inside or name in names)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _under(one, names, inside)
    elif inside:
        yield value
