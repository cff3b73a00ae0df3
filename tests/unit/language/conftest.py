"""What the tests of the language share: a search over any JSON, and a language bound to a standing clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from esb.clock import ManualClock
from esb.errors import Unmapped
from esb.language.catalogue import functions
from esb.language.codegen import generate
from esb.language.parsing import parse
from esb.language.workspace import WorkspaceLanguage

Search = Callable[[str, Any], Any]


class PlantTable:
    """A cross-reference table with one site-specific row."""

    name = "plants"

    def find(self, value: Any, *, column: str | None = None, site: Mapping[str, Any] = {}, on: Any = None) -> Any:
        rows = {"P10": {"werks": "1000", "name": "Graz"}, "P20": {"werks": "2000", "name": site.get("city", "?")}}
        if value not in rows:
            raise Unmapped(f"plants has no row for {value!r}")
        return rows[value][column or "werks"]


@pytest.fixture(scope="session")
def search() -> Search:
    """An expression over any value, without the checks that tie expressions to messages."""
    known = functions({}, "UTC", ManualClock())

    def run(expression: str, given: Any) -> Any:
        return generate(parse(expression), known, expression)(given)

    return run


@pytest.fixture
def language() -> WorkspaceLanguage:
    return WorkspaceLanguage({"plants": PlantTable()}, "Europe/Vienna", ManualClock("2026-01-05T09:00:00+00:00"))


def scope_of(body: Any = None, **parts: Any) -> dict[str, Any]:
    return {"body": body, "headers": {}, "vars": {}, "meta": {}, "site": {}, **parts}


@pytest.fixture
def scope() -> Callable[..., dict[str, Any]]:
    return scope_of
