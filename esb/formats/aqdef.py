"""AQDEF (Q-DAS ASCII transfer format, ``.dfq``): parts, characteristics and measured values by their K-fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from esb.formats.charset import Encoding, decode_text, encode_text
from esb.formats.faults import invalid, shown
from esb.registry import format_
from esb.spec import option

_BAD = "the body is not a valid AQDEF file"
_UNWRITABLE = "the body cannot be written as AQDEF"
_LINE = re.compile(r"K(\d{4})(?:/(\d{1,5}))?(?: (.*))?")
#: the K-fields of a measured value in the compact form, in their order (AQDEF, "additional data")
COMPACT = ("K0001", "K0002", "K0004", "K0005", "K0006", "K0007", "K0008", "K0010", "K0011", "K0012")
#: the value of an attributive characteristic: sample size and count of errors stand instead of the value
ATTRIBUTIVE = ("K0020", "K0021")
_BETWEEN_FIELDS, _BETWEEN_VALUES = "\x14", "\x0f"
#: fields that begin a new value: K0001, or K0020 where the characteristic counts errors
_FIRST = frozenset({"K0001", "K0020"})


@dataclass(slots=True)
class _Part:
    fields: dict[str, Any]
    characteristics: dict[int, dict[str, Any]] = field(default_factory=dict)
    rest: list[dict[str, Any]] = field(default_factory=list)  #: catalogue and hierarchy lines (K4…, K5…)


@format_("aqdef")
@dataclass(frozen=True, slots=True)
class Aqdef:
    """Measurement results in the Q-DAS transfer format, by K-fields.

    `{ K0100: "3", parts: [ { number: 1, K1001: …, characteristics: [ { number: 1, K2001: …, values: [ { K0001: "1.6", K0004: … } ] } ] } ] }`.
    Values given line by line and values in the compact form (separated by control characters) give the same. Every field is text as
    it stands in the file; `number()` makes exact numbers of them. Lines of catalogues and hierarchies are kept under `lines`.
    """

    content_type: ClassVar[str] = "application/x-aqdef"
    media_types: ClassVar[tuple[str, ...]] = ("application/x-aqdef",)
    #: what senders call it as well, where a source names this format
    also_accepts: ClassVar[tuple[str, ...]] = ("text/plain",)
    suffixes: ClassVar[tuple[str, ...]] = (".dfq", ".dfd", ".dfx")

    encoding: Encoding = option(default="utf-8", doc="Encoding of the bytes.", example="cp1252")

    def decode(self, data: bytes) -> dict[str, Any]:
        """Parts with their characteristics and values. Raises Invalid with the line that is none."""
        text = decode_text(data, self.encoding, _BAD).removeprefix("\ufeff")
        reading = _Reading()
        for number, line in enumerate(re.split(r"\r\n|\n|\r", text), 1):
            if line.strip(" \t\0\x1a"):
                reading.line(number, line)
        return reading.body()

    def encode(self, body: Any) -> bytes:
        """The file, values line by line. Raises Invalid with the pointer of what is no K-field."""
        if not isinstance(body, Mapping) or not isinstance(body.get("parts"), (list, tuple)):
            raise invalid(_UNWRITABLE, f"it is {shown(body)} without `parts`", hint="write `map: { parts: [ … ] }`")
        lines = _written({**body, "K0100": body.get("K0100") or _count(body["parts"])}, "", (), {"parts"})
        number = 0
        for index, part in enumerate(body["parts"]):
            at = ("parts", index)
            lines.extend(_written(part, f"/{_number(part, index)}", at, {"number", "characteristics", "lines"}))
            for place, one in enumerate(part.get("characteristics") or ()):
                number = int(_number(one, number))
                where = (*at, "characteristics", place)
                lines.extend(_written(one, f"/{number}", where, {"number", "values"}))
                for which, value in enumerate(one.get("values") or ()):
                    lines.extend(_written(value, f"/{number}", (*where, "values", which), set()))
            lines.extend(f"{line['field']}/{line['number']} {line['value']}" for line in part.get("lines") or ())
        return encode_text("\r\n".join(lines) + "\r\n", self.encoding, _UNWRITABLE)


class _Reading:
    """The state of a file while it is read: which part and which characteristic are meant."""

    def __init__(self) -> None:
        self.head: dict[str, str] = {}
        self.parts: dict[int, _Part] = {}
        self.everywhere: list[tuple[str, str]] = []

    def line(self, number: int, line: str) -> None:
        match = _LINE.fullmatch(line.rstrip("\r"))
        if match is None:
            if not line.startswith("K") and self.parts:
                self._compact(number, line)
                return
            raise invalid(_BAD, f"line {number}: {shown(line)} is neither a K-field nor a line of values")
        name, index, value = f"K{match[1]}", match[2], (match[3] or "").rstrip(" ")
        if name.startswith("K01") or (index is None and name < "K1000"):
            self.head[name] = value
        elif name.startswith("K1"):
            self._part(int(index or 1), name).fields[name] = value
        elif name.startswith(("K2", "K8")):
            self._characteristic(int(index or 1), name, number)[name] = value
        elif name.startswith("K0"):
            self._value(int(index or 1), name, value, number)
        else:
            self._current(number).rest.append({"field": name, "number": int(index or 0), "value": value})

    def body(self) -> dict[str, Any]:
        parts = []
        for number, part in self.parts.items():
            body = {"number": number, **part.fields, "characteristics": list(part.characteristics.values())}
            parts.append(body | ({"lines": part.rest} if part.rest else {}))
        return {**self.head, "parts": parts}

    def _part(self, number: int, name: str) -> _Part:
        if number == 0:  # for every part that comes
            number = next(reversed(self.parts), 1)
        part = self.parts.get(number)
        if part is None:
            part = self.parts[number] = _Part({})
        return part

    def _current(self, number: int) -> _Part:
        if not self.parts:
            self.parts[1] = _Part({})
        return self.parts[next(reversed(self.parts))]

    def _characteristic(self, index: int, name: str, number: int) -> dict[str, Any]:
        for part in self.parts.values():
            if index in part.characteristics:
                return part.characteristics[index]
        one: dict[str, Any] = {"number": index, "values": []}
        self._current(number).characteristics[index] = one
        return one

    def _value(self, index: int, name: str, value: str, number: int) -> None:
        for part in self.parts.values():
            one = part.characteristics.get(index)
            if one is not None:
                values = one["values"]
                if not values or name in values[-1] or (name in _FIRST and not _FIRST.isdisjoint(values[-1])):
                    values.append({})
                values[-1][name] = value
                return
        raise invalid(_BAD, f"line {number}: a value of characteristic {index}, which the file does not describe")

    def _compact(self, number: int, line: str) -> None:
        order = [index for part in self.parts.values() for index in sorted(part.characteristics)]
        groups = line.split(_BETWEEN_VALUES)
        if len(groups) > len(order):
            detail = f"line {number}: values of {len(groups)} characteristics where the file describes {len(order)}"
            raise invalid(_BAD, detail)
        for index, group in zip(order, groups, strict=False):
            cells = group.split(_BETWEEN_FIELDS)
            names: tuple[str, ...] = COMPACT
            if any(self._characteristic(index, "", number).get("K2004") == kind for kind in ("1", "6")):
                names = (*ATTRIBUTIVE, *COMPACT[1:])
            if len(cells) > len(names):
                raise invalid(_BAD, f"line {number}: {len(cells)} fields in one value; there are at most {len(names)}")
            value = {name: cell.strip() for name, cell in zip(names, cells, strict=False) if cell.strip()}
            if value:
                self._characteristic(index, "", number)["values"].append(value)


def _written(body: Any, suffix: str, at: tuple[str | int, ...], leave: set[str]) -> list[str]:
    if not isinstance(body, Mapping):
        raise invalid(_UNWRITABLE, f"it is {shown(body)}, not an object", at=at)
    lines = []
    for name, value in body.items():
        if name in leave or value is None:
            continue
        if not re.fullmatch(r"K\d{4}", name):
            raise invalid(_UNWRITABLE, f"{shown(name)} is no K-field", at=(*at, name), hint="such as K1001")
        text = format(value, "f") if hasattr(value, "as_tuple") else str(value)
        if isinstance(value, (dict, list, bool)) or any(char in text for char in "\r\n\x14\x0f"):
            raise invalid(_UNWRITABLE, f"{name}: {shown(value)} does not fit into a line", at=(*at, name))
        lines.append(f"{name}{suffix} {text}".rstrip(" "))
    return lines


def _number(body: Any, before: int) -> int:
    number = body.get("number") if isinstance(body, Mapping) else None
    return number if isinstance(number, int) and not isinstance(number, bool) else before + 1


def _count(parts: Any) -> str:
    return str(sum(len(part.get("characteristics") or ()) for part in parts if isinstance(part, Mapping)))
