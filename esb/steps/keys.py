"""Keys: one value as text, by the same rules wherever a step asks for one."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from esb.errors import Invalid
from esb.language.values import describe, plain


def key_text(value: Any, what: str) -> str | None:
    """A key as text; null and empty text are no key. Raises Invalid for a list or an object."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, Decimal)):
        return plain(value)
    raise Invalid(f"`{what}` gives {describe(value)}; it must give one value")
