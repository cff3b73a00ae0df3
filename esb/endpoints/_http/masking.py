"""Keeps credentials out of answers: a target that echoes what it was sent must not carry it into log, trace and store."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from esb.secret import Secret

MASK = "***"
#: Shorter values would mask half of every answer.
_SHORTEST = 4


def needles(options: Any, headers: Mapping[str, str], *more: str | None) -> tuple[str, ...]:
    """Every spelling of the credentials of one call: the secrets of ``options``, what its headers carry, and ``more``."""
    values = {secret.reveal() for secret in _secrets(options)}
    for value in headers.values():
        values.update((value, value.partition(" ")[2]))
    values.update(value for value in more if value)
    spellings = {form for value in values if len(value) >= _SHORTEST for form in _forms(value)}
    return tuple(sorted(spellings, key=len, reverse=True))


def masked(text: str, hidden: Iterable[str]) -> str:
    for value in hidden:
        if value in text:
            text = text.replace(value, MASK)
    return text


def masked_bytes(content: bytes, hidden: Iterable[str]) -> bytes:
    for value in hidden:
        data = value.encode()
        if data in content:
            content = content.replace(data, MASK.encode())
    return content


def _forms(value: str) -> Iterable[str]:
    yield value
    yield quote(value, safe="")
    yield base64.b64encode(value.encode()).decode()


def _secrets(options: Any) -> Iterable[Secret]:
    if isinstance(options, Secret):
        yield options
    elif dataclasses.is_dataclass(options) and not isinstance(options, type):
        for field in dataclasses.fields(options):
            yield from _secrets(getattr(options, field.name))
    elif isinstance(options, (tuple, list)):
        for item in options:
            yield from _secrets(item)
