"""The rules of axe-core (WCAG 2.2 A and AA and its best practices) over a page in a real browser."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

from playwright.sync_api import Page

from tests.servers import require

#: The development dependency that carries axe-core.
PACKAGE = "axe_playwright_python"


@cache
def _source() -> str:
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        return require.missing(f"{PACKAGE} is not installed; make setup").name
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")


def violations(page: Page) -> list[str]:
    """Every broken rule with the first elements that break it.

    It is evaluated by the browser itself, as its developer tools would: no policy of the page is loosened for it.
    """
    page.evaluate(_source())
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{one['id']} ({one['impact']}): {one['help']}: {[node['html'][:200] for node in one['nodes'][:3]]}"
        for one in found["violations"]
    ]
