"""Fields by their places in a record: ``QTY: 11-18 number 2`` (columns 11 to 18, two implied decimals).

Shared by fixed-width files and flat IDocs. Places count from 1, as record descriptions of ERP systems do; in a record of
bytes (EBCDIC with packed numbers) they count bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

from esb.formats.faults import invalid, shown
from esb.formats.numbers import in_bounds, parse_decimal
from esb.spec import Kind, Node, Reader, ScalarNode

_PLACE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:\s+(text|raw|number|packed|zoned)(?:\s+(\d{1,2}))?)?")
_ZONES = {
    **{char: (str(i), "") for i, char in enumerate("{ABCDEFGHI")},
    **{c: (str(i), "-") for i, c in enumerate("}JKLMNOPQR")},
}
_PACKED_SIGNS = {0xC: "", 0xF: "", 0xA: "", 0xE: "", 0xD: "-", 0xB: "-"}

#: digits of a number that needs no look at its bounds
_QUICK = 20

FieldType = Literal["text", "raw", "number", "packed", "zoned"]


@dataclass(frozen=True, slots=True)
class Place:
    """Columns ``start`` to ``end`` (0-based, end excluded) and what stands there."""

    start: int
    end: int
    type: FieldType = "text"
    decimals: int = 0

    @property
    def width(self) -> int:
        return self.end - self.start

    def read(self, record: bytes, encoding: str, at: tuple[str | int, ...], message: str) -> Any:
        """The value: text without trailing spaces, raw as it stands, or an exact number (null where blank).

        Raises Invalid with the pointer of a field that is not what it should be.
        """
        raw = record[self.start : self.end]
        if self.type == "packed":
            return self._packed(raw, at, message)
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError as error:
            byte = raw[error.start]
            raise invalid(message, f"{at[-1]}: byte 0x{byte:02X} is not {encoding} text", at=at) from None
        if self.type == "raw":
            return text
        if self.type == "text":
            return text.rstrip(" \0")
        return self._number(text.strip(" \0"), at, message)

    def quick(self, cell: str) -> Decimal | None:
        """A number of ASCII text as :meth:`read` gives it; raises ValueError where that takes a closer look."""
        text = cell.strip(" \0")
        whole, point, fraction = text.partition(".")
        if whole.isdecimal() and len(text) <= _QUICK and (not point or fraction.isdecimal()):
            number = Decimal(text)
            return number.scaleb(-self.decimals) if self.decimals and not point else number
        if text:
            raise ValueError
        return None

    def write(self, value: Any, encoding: str, at: tuple[str | int, ...], message: str) -> bytes:
        """The bytes of the field at its full width. Raises Invalid where the value does not fit."""
        if self.type in ("text", "raw"):
            return self._text(value, encoding, at, message)
        number = self._digits(value, at, message)
        if number is None:
            blank = b"\0" if self.type == "packed" else " ".encode(encoding)
            return blank * self.width
        sign, digits = number
        if self.type == "packed":
            return self._pack(sign, digits, at, message)
        if self.type == "zoned" and sign:
            digits = digits[:-1] + "}JKLMNOPQR"[int(digits[-1])]
            sign = ""
        text = sign + digits.rjust(self.width - len(sign), "0")
        if len(text) > self.width:
            raise invalid(message, f"{at[-1]}: {shown(value)} does not fit into {self.width} columns", at=at)
        return text.encode(encoding)

    def _number(self, text: str, at: tuple[str | int, ...], message: str) -> Decimal | None:
        if not text:
            return None
        sign = ""
        if self.type == "zoned" and text[-1] in _ZONES:
            digit, sign = _ZONES[text[-1]]
            text = text[:-1] + digit
        try:
            number = parse_decimal(sign + text, ".")
        except ValueError:
            raise invalid(message, f"{at[-1]}: {shown(text)} is no number", at=at) from None
        return number.scaleb(-self.decimals) if self.decimals and "." not in text else number

    def _packed(self, raw: bytes, at: tuple[str | int, ...], message: str) -> Decimal | None:
        if not raw or not any(raw):
            return None
        digits, sign = raw.hex()[:-1], _PACKED_SIGNS.get(raw[-1] & 0xF)
        if sign is None or not digits.isdigit():
            raise invalid(message, f"{at[-1]}: {raw.hex()} is no packed number", at=at)
        return Decimal(sign + digits).scaleb(-self.decimals)

    def _text(self, value: Any, encoding: str, at: tuple[str | int, ...], message: str) -> bytes:
        if value is None:
            value = ""
        if isinstance(value, (int, Decimal)) and not isinstance(value, bool) and in_bounds(value):
            value = format(value, "f") if isinstance(value, Decimal) else str(value)
        if not isinstance(value, str):
            raise invalid(message, f"{at[-1]}: {shown(value)} is no text", at=at)
        if any(char in value for char in "\r\n"):
            raise invalid(message, f"{at[-1]}: {shown(value)} holds a line end", at=at)
        try:
            data = value.encode(encoding)
        except UnicodeEncodeError as error:
            char = value[error.start]
            raise invalid(message, f"{at[-1]}: {encoding} cannot write {shown(char)}", at=at) from None
        if len(data) > self.width:
            hint = "`substr` it in the route, or correct the place"
            raise invalid(message, f"{at[-1]}: {shown(value)} does not fit into {self.width} columns", at=at, hint=hint)
        return data + " ".encode(encoding) * (self.width - len(data))

    def _digits(self, value: Any, at: tuple[str | int, ...], message: str) -> tuple[str, str] | None:
        if value is None or value == "":
            return None
        if isinstance(value, str):
            try:
                value = parse_decimal(value, ".")
            except ValueError:
                raise invalid(message, f"{at[-1]}: {shown(value)} is no number", at=at) from None
        if isinstance(value, bool) or not isinstance(value, (int, Decimal)) or not in_bounds(value):
            raise invalid(message, f"{at[-1]}: {shown(value)} is no number", at=at)
        scaled = Decimal(value).scaleb(self.decimals)
        if scaled != scaled.to_integral_value():
            detail = f"{at[-1]}: {shown(value)} has more than {self.decimals} decimals"
            raise invalid(message, detail, at=at, hint="`round` it in the route")
        return ("-" if scaled < 0 else "", str(abs(int(scaled))))

    def _pack(self, sign: str, digits: str, at: tuple[str | int, ...], message: str) -> bytes:
        if len(digits) > self.width * 2 - 1:
            raise invalid(message, f"{at[-1]}: {digits} does not fit into {self.width} packed bytes", at=at)
        return bytes.fromhex(digits.rjust(self.width * 2 - 1, "0") + ("d" if sign else "c"))


class PlaceKind(Kind):
    """``11-18``, ``11-18 number 2``, ``19-23 packed 2``."""

    label = "a place such as `1-10` or `11-18 number 2`"

    def read(self, node: Node, reader: Reader) -> Any:
        text = node.text if isinstance(node, ScalarNode) else ""
        match = _PLACE.fullmatch(text.strip())
        if match is None:
            if not isinstance(node, ScalarNode):
                return reader.wrong_type(node, self)
            hint = "write `first-last`, then `number`, `packed` or `zoned` and its decimals"
            return reader.problem("ESB103", f"`{text}` is not {self.label}", node, hint=hint)
        start, end = int(match[1]), int(match[2] or match[1])
        if not 1 <= start <= end:
            return reader.problem("ESB103", f"`{text}` ends before it begins", node, hint="places count from 1")
        kind: Any = match[3] or "text"
        return Place(start - 1, end, kind, int(match[4] or 0))

    def schema(self) -> dict[str, Any]:
        return {"type": ["string", "integer"], "examples": ["1-10", "11-18 number 2"]}


#: an option that names a place
PlaceOption = Annotated[Place, PlaceKind()]
