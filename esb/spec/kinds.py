"""What a value of an option may be: one :class:`Kind` per annotation.

A type of ours brings its own kind as the class attribute ``kind``; everything else is looked up here.
A kind reads a node into a value (reporting problems, never raising), and says what it accepts to schema and docs.
"""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from esb.durations import UNITS, Backoff, Rate, TooMuchError, parse_backoff, parse_duration, parse_rate, parse_size
from esb.secret import Secret
from esb.spec.nodes import ListNode, MapNode, Node, ScalarNode, to_plain

if TYPE_CHECKING:
    from esb.spec.reader import Reader

_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")


class Kind:
    """Base of every kind. ``label`` is what docs and error messages call it."""

    label = "a value"

    def read(self, node: Node, reader: Reader) -> Any:
        """The value of ``node``, or ``MISSING`` after reporting a problem."""
        raise NotImplementedError

    def schema(self) -> dict[str, Any]:
        """A JSON Schema fragment (draft 2020-12, also valid in draft-07) for editors."""
        return {}


class AnyKind(Kind):
    label = "any value"

    def read(self, node: Node, reader: Reader) -> Any:
        return to_plain(node)


class TextKind(Kind):
    label = "a text"

    def read(self, node: Node, reader: Reader) -> Any:
        if isinstance(node, ScalarNode) and isinstance(node.value, str):
            return node.value
        if isinstance(node, ScalarNode) and isinstance(node.value, (int, Decimal)):
            return reader.wrong_type(node, self, hint=f"put it in quotes: '{node.text}'")
        return reader.wrong_type(node, self)

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


class IntKind(Kind):
    label = "a whole number"

    def read(self, node: Node, reader: Reader) -> Any:
        if isinstance(node, ScalarNode) and isinstance(node.value, int) and not isinstance(node.value, bool):
            return node.value
        if isinstance(node, ScalarNode) and node.expanded and _WHOLE_NUMBER.fullmatch(str(node.value)):
            return int(str(node.value))
        return reader.wrong_type(node, self)

    def schema(self) -> dict[str, Any]:
        return {"type": "integer"}


class DecimalKind(Kind):
    label = "a number"

    def read(self, node: Node, reader: Reader) -> Any:
        if isinstance(node, ScalarNode) and isinstance(node.value, (int, Decimal)) and not isinstance(node.value, bool):
            return Decimal(node.value)
        return reader.wrong_type(node, self)

    def schema(self) -> dict[str, Any]:
        return {"type": "number"}


class BoolKind(Kind):
    label = "`true` or `false`"

    def read(self, node: Node, reader: Reader) -> Any:
        if isinstance(node, ScalarNode) and isinstance(node.value, bool):
            return node.value
        if isinstance(node, ScalarNode) and node.expanded and node.value in ("true", "false"):
            return node.value == "true"
        hint = ""
        if isinstance(node, ScalarNode) and str(node.value).lower() in ("yes", "on", "y"):
            hint = "write `true` (YAML 1.2 reads `yes` and `on` as text)"
        elif isinstance(node, ScalarNode) and str(node.value).lower() in ("no", "off", "n"):
            hint = "write `false` (YAML 1.2 reads `no` and `off` as text)"
        return reader.wrong_type(node, self, hint=hint)

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


class _UnitKind(Kind):
    """A text with a unit; a bare number is the most frequent slip and gets its own words."""

    code = "ESB104"
    units = ""
    example = ""
    pattern = ""
    parse: Callable[[str], Any]

    def read(self, node: Node, reader: Reader) -> Any:
        if not isinstance(node, ScalarNode) or isinstance(node.value, (bool, Secret)) or node.value is None:
            return reader.wrong_type(node, self)
        text = str(node.value) if isinstance(node.value, str) else node.text
        try:
            return type(self).parse(text)
        except TooMuchError as error:
            shown = text if len(text) <= 40 else f"{text[:40]}…"
            return reader.problem(self.code, f"`{shown}` is too much", node, hint=str(error))
        except ValueError:
            return reader.problem(
                self.code,
                f"`{text}` is not {self.label}",
                node,
                label=f"not {self.label}",
                hint=self._hint(text),
            )

    def _hint(self, text: str) -> str:
        number = "".join(ch for ch in text if ch.isdigit() or ch == ".")
        if number and text.strip() == number:
            return f"add a unit: `{self.example.replace('5', number, 1)}` (units: {self.units})"
        return f"write it like `{self.example}` (units: {self.units})"

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": self.pattern, "examples": [self.example]}


class DurationKind(_UnitKind):
    label = "a duration"
    units = UNITS
    example = "5s"
    pattern = r"^(\d+(\.\d+)?(ms|s|m|h|d|w))+$|\$\{"
    parse = staticmethod(parse_duration)


class BackoffKind(_UnitKind):
    label = "a backoff"
    units = UNITS
    example = "5s..5m"
    pattern = r"^[\dmshdw.]+$|\$\{"
    parse = staticmethod(parse_backoff)

    def _hint(self, text: str) -> str:
        first, _, last = text.partition("..")
        try:
            turned = parse_duration(last) < parse_duration(first)
        except ValueError:
            return super()._hint(text)
        return f"the first wait must not be longer than the last: `{last}..{first}`" if turned else super()._hint(text)


class RateKind(_UnitKind):
    label = "a rate"
    units = "per s, m, h, d"
    example = "5/s"
    pattern = r"^\d+/(s|m|h|d)$|\$\{"
    parse = staticmethod(parse_rate)


class SizeKind(_UnitKind):
    code = "ESB111"
    label = "a size"
    units = "B, KB, MB, GB, TB"
    example = "5MB"
    pattern = r"^\d+(\.\d+)?\s*([KMGT]?B)$|\$\{"
    parse = staticmethod(parse_size)


#: bytes, written ``10MB``
Size = Annotated[int, SizeKind()]


class SecretKind(Kind):
    label = "a secret"

    def read(self, node: Node, reader: Reader) -> Any:
        if isinstance(node, ScalarNode) and isinstance(node.value, Secret):
            return node.value
        if isinstance(node, ScalarNode) and node.expanded and isinstance(node.value, str):
            return Secret(node.value)
        if isinstance(node, ScalarNode) and node.value is not None:
            return reader.problem(
                "ESB501",
                "a secret is written in the file",
                node,
                label="value hidden",
                hint="write `${secret:name}` and set ESB_SECRET_NAME, or a file of that name in the secrets folder",
            )
        return reader.wrong_type(node, self)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": r"\$\{", "examples": ["${secret:erp-password}"]}


class ChoiceKind(Kind):
    def __init__(self, choices: Sequence[str]) -> None:
        self.choices = tuple(choices)
        self.label = "one of " + ", ".join(f"`{choice}`" for choice in self.choices)

    def read(self, node: Node, reader: Reader) -> Any:
        if isinstance(node, ScalarNode) and isinstance(node.value, str) and node.value in self.choices:
            return node.value
        if isinstance(node, ScalarNode) and isinstance(node.value, str):
            return reader.problem(
                "ESB105", f"`{node.value}` is not {self.label}", node, hint=reader.nearest(node.value, self.choices)
            )
        return reader.wrong_type(node, self)

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.choices)}


class ListKind(Kind):
    """A list; a single value stands for a list of one."""

    def __init__(self, item: Kind) -> None:
        self.item = item
        self.label = f"a list ({item.label} each)"

    def read(self, node: Node, reader: Reader) -> Any:
        nodes = node.items if isinstance(node, ListNode) else (node,)
        values = [self.item.read(item, reader) for item in nodes]
        return reader.unless_missing(tuple(values), values)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "array", "items": self.item.schema()}, self.item.schema()]}


class MapKind(Kind):
    def __init__(self, value: Kind) -> None:
        self.value = value
        self.label = f"a mapping of names to values ({value.label} each)"

    def read(self, node: Node, reader: Reader) -> Any:
        if not isinstance(node, MapNode):
            return reader.wrong_type(node, self)
        values = {key.text: self.value.read(value, reader) for key, value in node.entries}
        return reader.unless_missing(types.MappingProxyType(values), values.values())

    def schema(self) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": self.value.schema()}


class UnionKind(Kind):
    """The first kind that fits the node's shape; problems are those of the kind that fits best."""

    def __init__(self, kinds: Sequence[Kind]) -> None:
        self.kinds = tuple(kinds)
        self.label = " or ".join(dict.fromkeys(kind.label for kind in self.kinds))

    def read(self, node: Node, reader: Reader) -> Any:
        trials = []
        for kind in self.kinds:
            trial = reader.trial()
            value = kind.read(node, trial)
            if not trial.problems:
                return value
            trials.append(trial)
        specific = [trial for trial in trials if not trial.only_wrong_type(node)]
        if not specific:
            return reader.wrong_type(node, self)
        return reader.adopt(specific[0])

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [kind.schema() for kind in self.kinds]}


class OptionsKind(Kind):
    """A nested dataclass of options."""

    def __init__(self, cls: type) -> None:
        self.cls = cls
        self.label = "a mapping"

    def read(self, node: Node, reader: Reader) -> Any:
        from esb.spec.reader import read_options  # noqa: PLC0415 - the reader walks kinds, kinds walk the reader

        return read_options(self.cls, node, reader)

    def schema(self) -> dict[str, Any]:
        from esb.spec.schema import options_schema  # noqa: PLC0415 - the same two-way walk

        return options_schema(self.cls)


_BUILTIN: dict[Any, Callable[[], Kind]] = {
    str: TextKind,
    int: IntKind,
    bool: BoolKind,
    Decimal: DecimalKind,
    timedelta: DurationKind,
    Backoff: BackoffKind,
    Rate: RateKind,
    Secret: SecretKind,
    Any: AnyKind,
    object: AnyKind,
}


def kind_of(annotation: Any) -> Kind:
    """The kind that reads a value for ``annotation``. Raises TypeError for an annotation nobody can read."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        for extra in args[1:]:
            if isinstance(extra, Kind):
                return extra
        return kind_of(args[0])
    own = getattr(annotation, "kind", None)
    if isinstance(own, Kind):
        return own
    if origin is Literal:
        return ChoiceKind(args)
    if origin in (Union, types.UnionType):
        kinds = [kind_of(arg) for arg in args if arg is not type(None)]
        return kinds[0] if len(kinds) == 1 else UnionKind(kinds)
    if origin in (list, tuple, Sequence):
        return ListKind(kind_of(args[0]))
    if origin in (dict, Mapping, types.MappingProxyType):
        return MapKind(kind_of(args[1]))
    if annotation in _BUILTIN:
        return _BUILTIN[annotation]()
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return OptionsKind(annotation)
    raise TypeError(f"no kind reads {annotation!r}")
