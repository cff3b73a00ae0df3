"""Defaults of options as they would be written in YAML."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

from esb.durations import Backoff, Rate, format_duration, format_size
from esb.secret import Secret
from esb.spec.kinds import SizeKind, kind_of
from esb.spec.options import OptionSpec


def shown(value: Any, spec: OptionSpec | None = None) -> Any:
    """A default as it would be written in YAML; None where there is none."""
    size = spec is not None and isinstance(kind_of(spec.annotation), SizeKind)
    match value:
        case bool():
            return value
        case int() if size:
            return format_size(value)
        case None | int() | str():
            return value
        case Decimal():
            return str(value)
        case timedelta():
            return format_duration(value)
        case Backoff():
            return f"{format_duration(value.first)}..{format_duration(value.longest)}"
        case Rate():
            return f"{value.count}/{format_duration(value.span).lstrip('1')}"
        case Secret():
            return "***"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return None  # the parts have defaults of their own
    if isinstance(value, Mapping):
        return {key: shown(inner) for key, inner in value.items()} or None
    if isinstance(value, (tuple, list)):
        return [shown(inner) for inner in value] or None
    return str(value)
