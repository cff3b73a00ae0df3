"""Addresses of systems, as far as no protocol matters."""

from __future__ import annotations

from urllib.parse import urlsplit


def has_port(address: str) -> bool:
    """Whether the port of an address is one, where it names any."""
    try:
        return urlsplit(address).port != 0
    except ValueError:
        return False
