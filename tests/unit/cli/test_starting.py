"""What a command loads, and what a running bus does when its service manager asks it to read its files again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from subprocess import run
from types import SimpleNamespace
from typing import Any

import pytest

from esb.cli.run import _on_hangup


def test_neither_a_bus_nor_a_look_at_a_stopped_one_loads_what_only_tests_need() -> None:
    code = (
        "import sys, esb.bus, esb.cli.offline;"
        "sys.exit(', '.join(one for one in sys.modules if one.startswith('esb.testing')) or 0)"
    )
    done = run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no such signal")
def test_the_service_manager_hears_the_end_of_a_reload_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False))
    logged: list[tuple[str, str]] = []

    async def go() -> list[str]:
        said: asyncio.Queue[str] = asyncio.Queue()

        async def reload(*_: str) -> None:
            raise OSError("no space")

        workspace = SimpleNamespace(settings=SimpleNamespace(regulated=False), routes={})
        log = lambda level, event, **_: logged.append((level, event))  # noqa: E731 - a line
        bus: Any = SimpleNamespace(workspace=workspace, reload=reload, http_url="", log=log)
        manager: Any = SimpleNamespace(
            heard=True, reloading=lambda: said.put_nowait("RELOADING=1"), say=lambda *lines: said.put_nowait(lines[0])
        )
        _on_hangup(bus, manager, lambda: None)
        os.kill(os.getpid(), signal.SIGHUP)
        try:
            async with asyncio.timeout(30):
                return [await said.get(), await said.get()]
        finally:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)

    assert asyncio.run(go()) == ["RELOADING=1", "READY=1"]
    assert logged == [("error", "reload.failed")]
