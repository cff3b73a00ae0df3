"""The files of a workspace as one site sees them: tables of its own, transforms in its own language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from esb.config.assets import Assets
from esb.config.builders import Builders, Report


class SiteAssets(Assets):
    """Shares contracts and tables with the workspace. ``tables`` gives the table that stands behind a name here."""

    def __init__(self, shared: Assets, builders: Builders, tables: Mapping[str, str], report: Report) -> None:
        self.files = shared.files
        self._shared = shared
        self._builders = {"transform": builders.transform}
        self._includes = builders.includes
        self._report = report
        self._built: dict[str, Any] = {}
        own = {name: path for name in tables if (path := shared.path("table", tables[name])) is not None}
        self._names = {
            "contract": dict(shared.names("contract")),
            "transform": dict(shared.names("transform")),
            "table": {**shared.names("table"), **own},
        }

    def load(self, family: str, path: str) -> Any:
        return super().load(family, path) if family == "transform" else self._shared.load(family, path)

    def further(self, path: str) -> set[str]:
        return super().further(path) | self._shared.further(path)
