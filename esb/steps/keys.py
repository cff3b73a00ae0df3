"""Keys: one value as text, by the same rules wherever a step asks for one."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from esb.errors import Invalid
from esb.language.values import describe, plain


def key_text(value: Any, what: str) -> str | None:
    """A key as text; null and empty text are no key. Raises Invalid for a list or an object."""
    if type(value) is str:
        return value or None
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, Decimal)):
        return plain(value)
    if isinstance(value, str):
        return str(value) or None
    raise Invalid(f"`{what}` gives {describe(value)}; it must give one value")
