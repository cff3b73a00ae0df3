"""Client libraries that only some plants have installed."""

from __future__ import annotations

import importlib.util

from esb.errors import EsbError


def need(module: str, extra: str, connector: str) -> None:
    """Raise EsbError where the library behind an extra is not installed, with the command that installs it."""
    if importlib.util.find_spec(module) is None:
        raise EsbError(f"connector `{connector}` needs {module}", hint=f"pip install 'plantbus[{extra}]'")
