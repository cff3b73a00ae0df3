"""``option()``: the one declaration of what a component accepts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, get_type_hints


class _Required:
    def __repr__(self) -> str:
        return "required"


REQUIRED: Any = _Required()


@dataclass(frozen=True, slots=True)
class OptionSpec:
    """An option as lint, editor schema, catalogue and docs see it.

    ``name`` is its word in YAML (the field name, where a trailing underscore is dropped: ``from_`` is ``from``).
    ``shorthand`` marks the option that takes the whole value where the component is not written as a mapping of options;
    ``rest`` marks the option that takes the whole mapping (``map: { … }``).
    """

    name: str
    field: str
    annotation: Any
    default: Any
    doc: str
    example: Any = None
    shorthand: bool = False
    rest: bool = False
    minimum: int | None = None
    maximum: int | None = None
    positive: bool = False
    aliases: tuple[str, ...] = ()

    @property
    def required(self) -> bool:
        return self.default is REQUIRED


def option(
    *,
    default: Any = REQUIRED,
    factory: Callable[[], Any] | None = None,
    doc: str,
    example: Any = None,
    shorthand: bool = False,
    rest: bool = False,
    minimum: int | None = None,
    maximum: int | None = None,
    positive: bool = False,
    aliases: tuple[str, ...] = (),
) -> Any:
    """Declare one option of a frozen dataclass.

    ``doc`` is one sentence for people; ``example`` is the value as it stands in YAML; ``aliases`` are other tools' words
    for it (they are reported with the right word, not accepted). ``positive``: a duration of 0s makes no sense.
    """
    metadata = {
        "esb": {
            "doc": doc,
            "example": example,
            "shorthand": shorthand,
            "rest": rest,
            "minimum": minimum,
            "maximum": maximum,
            "positive": positive,
            "aliases": aliases,
        }
    }
    if factory is not None:
        return dataclasses.field(default_factory=factory, metadata=metadata, kw_only=True)
    if default is REQUIRED:
        return dataclasses.field(metadata=metadata, kw_only=True)
    return dataclasses.field(default=default, metadata=metadata, kw_only=True)


@lru_cache(maxsize=512)
def options_of(cls: type) -> tuple[OptionSpec, ...]:
    """Every option that ``cls`` declares, in order. Fields without ``option()`` are not options."""
    hints = get_type_hints(cls, include_extras=True)
    found = []
    for field in dataclasses.fields(cls):
        info = field.metadata.get("esb")
        if info is None:
            continue
        default: Any = REQUIRED
        if field.default is not dataclasses.MISSING:
            default = field.default
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        found.append(
            OptionSpec(
                name=field.name.rstrip("_"), field=field.name, annotation=hints[field.name], default=default, **info
            )
        )
    return tuple(found)
