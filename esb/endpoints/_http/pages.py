"""The pages of a system's answer: their items, and the link to what follows, held to the system that gave it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from esb.errors import Rejected
from esb.formats.odata import page_of

_ENTRY = re.compile(r'<([^<>]*)>((?:\s*;\s*[^\s;=,"]+\s*=\s*(?:"[^"]*"|[^\s;,"]+))*)')
_REL = re.compile(r';\s*rel\s*=\s*(?:"([^"]*)"|([^\s;,"]+))', re.IGNORECASE)
_BAD = re.compile(r"[\x00-\x20\x7f\\]")
_KEPT = "/?&=:@!$'()*+,;%~-._[]"
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Found:
    """One page: its items as they came, and where it points to (addresses as they came, empty where nowhere)."""

    items: list[Any]
    next: str = ""
    delta: str = ""


def found_in(document: Any, headers: Mapping[str, str]) -> Found:
    """Items and links where systems usually have them. Raises Invalid for an OData error document."""
    linked = link_header(headers.get("link", ""))
    if isinstance(document, list):
        return Found(document, linked)
    page = page_of(document)
    if page is None:
        return Found([document], linked)
    return Found(page.items, page.next or linked, page.delta)


def link_header(value: str) -> str:
    """The target of ``rel="next"`` in a ``Link`` header (RFC 8288); empty where there is none."""
    for entry in _ENTRY.finditer(value):
        rel = _REL.search(entry[2])
        if rel is not None and "next" in (rel[1] or rel[2]).lower().split():
            return entry[1].strip()
    return ""


def same_origin(link: str, asked: str, base: str) -> str:
    """Path and query of a link, taken relative to the address that was asked. Raises Rejected where it leaves the system.

    Only scheme, host and port of the connector are ever asked, whatever an answer says: the request carries its credentials.
    """
    if _BAD.search(link) or len(link) > 16_384:
        raise Rejected(f"{urlsplit(base).netloc}: gave a link that is no address")
    try:
        whole = urlsplit(urljoin(asked, link))
        same = _origin(whole.scheme, whole.hostname, whole.port) == _origin_of(base) and not whole.username
    except ValueError:
        raise Rejected(f"{urlsplit(base).netloc}: gave a link that is no address") from None
    if not same:
        raise Rejected(
            f"{urlsplit(base).netloc}: gave a link to another address ({whole.scheme}://{whole.hostname})"[:300],
            hint="only the connector's own host is asked; set `base_url` to the address that the system gives in its links",
        )
    path = quote(whole.path or "/", safe=_KEPT)
    return path + ("?" + quote(whole.query, safe=_KEPT) if whole.query else "")


def _origin_of(base: str) -> tuple[str, str, int]:
    parts = urlsplit(base)
    return _origin(parts.scheme, parts.hostname, parts.port)


def _origin(scheme: str, host: str | None, port: int | None) -> tuple[str, str, int]:
    return scheme.lower(), (host or "").lower(), port or _PORTS.get(scheme.lower(), 0)
