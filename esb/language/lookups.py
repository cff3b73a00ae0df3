"""Functions that ask the workspace: cross-reference tables."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from esb.language.dates import zone_of
from esb.language.declare import UNKNOWN, function
from esb.language.values import need_text
from esb.message import EMPTY


class Table(Protocol):
    """A cross-reference table, as ``xref`` uses it. Raises :class:`~esb.errors.Unmapped` where ``value`` has no row."""

    def find(
        self, value: Any, *, column: str | None = None, site: Mapping[str, Any] = EMPTY, on: datetime | None = None
    ) -> Any: ...


class TableFunctions:
    """The functions on the cross-reference tables of one workspace."""

    def __init__(self, tables: Mapping[str, Table], timezone: str = "UTC") -> None:
        self._tables = tables
        self._zone = zone_of(timezone)

    def check_table(self, table: Any, value: Any = UNKNOWN, column: Any = UNKNOWN) -> str:
        return self._unknown(table) if isinstance(table, str) and table not in self._tables else ""

    def _unknown(self, name: str) -> str:
        close = difflib.get_close_matches(name, self._tables, n=1, cutoff=0.5)
        more = f"; did you mean '{close[0]}'?" if close else ""
        if not close and self._tables:
            more = f"; tables here: {', '.join(sorted(self._tables)[:12])}"
        return f"xref: there is no table '{name}'{more}"

    @function(
        "xref(table, value, column?)",
        doc="What a cross-reference table has for a value, in a column (default: its only or first one). A value without a row"
        " is `unmapped`; where rows hold for a time, those count that hold on the day on which the message was accepted.",
        example="xref('plants', 'P10')",
        gives="'1000'",
        scoped=True,
        check="check_table",
        check_code="ESB304",
    )
    def xref(self, scope: Mapping[str, Any], table: Any, value: Any, column: Any = None) -> Any:
        name = need_text(table, "xref", "table")
        found = self._tables.get(name)
        if found is None:
            raise ValueError(self._unknown(name))
        wanted = None if column is None else need_text(column, "xref", "column")
        on = self._day(scope) if getattr(found, "dated", False) else None
        return found.find(value, column=wanted, site=scope.get("site") or EMPTY, on=on)

    def _day(self, scope: Mapping[str, Any]) -> datetime | None:
        """The day on which the message was accepted; None where it is not known."""
        accepted = (scope.get("meta") or EMPTY).get("received_at")
        return datetime.fromisoformat(accepted).astimezone(self._zone) if isinstance(accepted, str) else None
