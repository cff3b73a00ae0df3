"""OData answers, V2 and V4: plain entities without their envelope, exact numbers, instants in UTC, and errors in words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

from esb.errors import Invalid
from esb.formats.faults import invalid, shown
from esb.formats.json import Json
from esb.formats.numbers import parse_decimal
from esb.registry import format_
from esb.spec import option

_JSON = Json()
_BAD = "the body is no OData answer"
#: V2 writes an instant as milliseconds since 1970 in UTC; the minutes behind it tell where it was written, not when.
_DATE = re.compile(r"/Date\((-?\d{1,15})([+-]\d{1,4})?\)/")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ENDED = ("@odata.nextLink", "@nextLink", "odata.nextLink", "__next")
_CHANGED = ("@odata.deltaLink", "@deltaLink", "odata.deltaLink", "__delta")
_COUNTED = ("@odata.count", "@count", "odata.count", "__count")


@dataclass(frozen=True, slots=True)
class Page:
    """What an answer holds: entities as they came, the links to what follows, and how many there are in all."""

    items: list[Any]
    single: bool = False
    next: str = ""
    delta: str = ""
    count: int | None = None


def page_of(document: Any) -> Page | None:
    """The parts of an answer, V2 or V4, as they came; None where it is none of OData's forms. Raises Invalid for an error."""
    if not isinstance(document, dict):
        return None
    refuse_error(document)
    inner = document["d"] if "d" in document and _is_envelope(document, "d") else document
    if isinstance(inner, list):
        return Page(inner)
    if not isinstance(inner, dict):
        return None
    links: dict[str, Any] = {"next": _link(inner, _ENDED), "delta": _link(inner, _CHANGED), "count": _count(inner)}
    for name in ("results", "value"):
        if (
            isinstance(inner.get(name), list)
            and (name == "value" or inner is not document)
            and _is_envelope(inner, name)
        ):
            return Page(inner[name], **links)
    is_entity = inner is not document or any("@odata." in name for name in document)
    return Page([inner], single=True, **links) if is_entity else None


def _is_envelope(document: dict[str, Any], name: str) -> bool:
    """Whether beside ``name`` there is only what belongs to the protocol: an entity may have a property of that name."""
    return all(key == name or key.startswith(("@", "__", "odata.")) for key in document)


def refuse_error(document: Any) -> None:
    """Raises Invalid with the system's own words where a document says that something went wrong."""
    is_error = isinstance(document, dict) and "error" in document and _is_envelope(document, "error")
    if is_error and (words := error_text(document["error"])):
        raise Invalid(f"the answer is an error: {words}")


def error_text(error: Any) -> str:
    """`{code, message}` of OData as one text, with the details that SAP and V4 give below it; empty where it is none."""
    if not isinstance(error, dict):
        return ""
    first = _message(error)
    details = error.get("details")
    inner = error.get("innererror")
    if not details and isinstance(inner, dict):
        details = inner.get("errordetails")
    more = [_message(one) for one in details if isinstance(one, dict)] if isinstance(details, list) else []
    return "; ".join(dict.fromkeys(text for text in (first, *more) if text)) or _text(error.get("code"))


def _message(error: dict[str, Any]) -> str:
    message = error.get("message")
    return _text(message.get("value") if isinstance(message, dict) else message)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _link(inner: dict[str, Any], names: tuple[str, ...]) -> str:
    return next((value for name in names if isinstance(value := inner.get(name), str) and value), "")


def _count(inner: dict[str, Any]) -> int | None:
    for name in _COUNTED:
        value = inner.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
            return int(value)
    return None


def address_of(entity: Any) -> str:
    """The address of an entity as it came (`@odata.id`, `__metadata.uri`); empty where it does not say."""
    if not isinstance(entity, dict):
        return ""
    metadata = entity.get("__metadata")
    inside = (metadata.get("uri"), metadata.get("id")) if isinstance(metadata, dict) else ()
    names = (entity.get("@odata.id"), entity.get("@id"), entity.get("@odata.editLink"), *inside)
    return next((value for value in names if isinstance(value, str) and value), "")


def instant(text: str) -> str:
    """`/Date(1753142400000+0060)/` as `2025-07-22T00:00:00Z`; any other text as it is. Raises ValueError beyond the year 9999."""
    found = _DATE.fullmatch(text)
    if found is None:
        return text
    try:
        moment = _EPOCH + timedelta(milliseconds=int(found[1]))
    except OverflowError:
        raise ValueError(f"{text} is no date that a calendar has") from None
    return moment.isoformat(timespec="milliseconds" if moment.microsecond else "seconds").replace("+00:00", "Z")


@format_("odata")
@dataclass(frozen=True, slots=True)
class OData:
    """Answers of OData V2 and V4 (JSON): the entities, without envelope, metadata and deferred links.

    A list is a list of entities, one entity is an object, expanded lists are lists. `/Date(…)/` becomes an instant in UTC
    (`2025-07-22T00:00:00Z`). V2 sends decimals and long numbers as texts: `numbers` names those that shall be numbers, exactly.
    A removed entity of a delta is `{ removed: reason, id: … }` with its keys. An error document is refused with the system's words.
    Written as JSON.
    """

    content_type: ClassVar[str] = "application/json"
    media_types: ClassVar[tuple[str, ...]] = ()
    suffixes: ClassVar[tuple[str, ...]] = ()
    also_accepts: ClassVar[tuple[str, ...]] = ("application/json", "text/json")

    numbers: tuple[str, ...] = option(
        default=(),
        doc="Properties, at any depth, whose text is a number: decimals and 64-bit integers of V2.",
        example="[OrderQuantity, NetPriceAmount]",
    )
    envelope: bool = option(
        default=False,
        doc="Keep `items` in an object with `count`, `next` and `delta`, as far as they are given.",
        example=True,
    )

    def decode(self, data: bytes) -> Any:
        """The entities. Raises Invalid for what is no OData answer, and with the system's words for an error document."""
        document = _JSON.decode(data)
        page = page_of(document) or (Page([document], single=True) if isinstance(document, dict) else None)
        if page is None:
            raise invalid(
                _BAD, f"it is {shown(document)}", hint="an answer is an object with `value` or `d`, or an entity"
            )
        items = [self.plain(item) for item in page.items]
        if not self.envelope:
            return items[0] if page.single else items
        facts = {"count": page.count, "next": page.next or None, "delta": page.delta or None}
        return {"items": items, **{name: value for name, value in facts.items() if value is not None}}

    def encode(self, body: Any) -> bytes:
        """The bytes, as JSON. Raises Invalid where a part of the body has no JSON form."""
        return _JSON.encode(body)

    def plain(self, entity: Any) -> Any:
        """One entity without what belongs to the protocol. Raises Invalid for a date or number that is none."""
        return _plain(entity, frozenset(self.numbers), ())


def _plain(value: Any, numbers: frozenset[str], at: tuple[str | int, ...]) -> Any:
    match value:
        case dict():
            return _entity(value, numbers, at)
        case list():
            return [_plain(item, numbers, (*at, index)) for index, item in enumerate(value)]
        case str():
            try:
                if at and at[-1] in numbers:
                    return _number(value)
                return instant(value) if value[:6] == "/Date(" else value
            except ValueError as error:
                raise invalid("the body cannot be read as OData", str(error), at=at) from None
    return value


def _number(text: str) -> Decimal | int:
    number = parse_decimal(text, ".") if "," not in text else None
    if number is None:
        raise ValueError(f"{shown(text)} is not a number")
    return int(number) if number == number.to_integral_value() and "." not in text else number


def _entity(entity: dict[str, Any], numbers: frozenset[str], at: tuple[str | int, ...]) -> Any:
    if at and set(entity) <= {"results", "__count", "__next"} and isinstance(entity.get("results"), list):
        return _plain(entity["results"], numbers, at)  # an expanded list of V2
    found: dict[str, Any] = _removal(entity)
    for name, value in entity.items():
        if name == "__metadata" or "@" in name or name.startswith("odata."):
            continue
        if isinstance(value, dict) and "__deferred" in value:
            continue
        found[name] = _plain(value, numbers, (*at, name))
    return found


def _removal(entity: dict[str, Any]) -> dict[str, Any]:
    """What is left of an entity that a delta says is gone."""
    gone = entity.get("@removed", entity.get("@odata.removed"))
    if isinstance(gone, dict):
        return {"removed": _text(gone.get("reason")) or "deleted", "id": address_of(entity)}
    if str(entity.get("@odata.context", "")).endswith("/$deletedEntity"):
        return {"removed": _text(entity.get("reason")) or "deleted"}
    return {}
