"""What a command loads, and what a running bus does when its service manager asks it to read its files again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import run
from types import SimpleNamespace
from typing import Any

import pytest

from esb.cli.notify import Notifier
from esb.cli.run import _on_hangup, _on_signals, _run
from esb.observe.logs import Log


def test_neither_a_bus_nor_a_look_at_a_stopped_one_loads_what_only_tests_need() -> None:
    code = (
        "import sys, esb.bus, esb.cli.offline;"
        "sys.exit(', '.join(one for one in sys.modules if one.startswith('esb.testing')) or 0)"
    )
    done = run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_while_the_first_library_is_loaded_is_quiet(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])])
    words = [sys.executable, "-m", "esb", "run"]
    done = run(
        words, check=False, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


@pytest.fixture
def hangup() -> Iterator[None]:
    """SIGHUP as a process gets it from a service manager, however these tests were started (`nohup`)."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangup")
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


@pytest.mark.usefixtures("hangup")
@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no such signal")
def test_whoever_hears_that_the_bus_is_ready_may_have_it_read_its_files_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal ends a process that has not said yet what it does about it."""
    (tmp_path / "esb.yaml").write_text("http: { port: 0 }\nadmin: { port: 0 }\n")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False))
    monkeypatch.setattr("esb.cli.run.keep_loaded", lambda: None)
    found: list[Any] = []

    def told(line: str, **_: Any) -> None:
        if line.startswith("ready "):
            found.append(signal.getsignal(signal.SIGHUP))

    def begin(_manager: Notifier, _status: str) -> None:
        found.append(signal.getsignal(signal.SIGHUP))
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("esb.cli.run.tell", told)
    monkeypatch.setattr(Notifier, "begin", begin)
    assert asyncio.run(_run(tmp_path, None, None, False, None, Log(level="error"))) == 0
    assert len(found) == 2
    assert signal.SIG_DFL not in found


def test_ctrl_break_and_the_end_of_a_session_of_windows_stop_the_bus_as_ctrl_c_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR2, raising=False)

    async def go() -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        _on_signals(stopped.set)
        try:
            os.kill(os.getpid(), signal.SIGUSR2)
            async with asyncio.timeout(30):
                await stopped.wait()
        finally:
            for name in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
                loop.remove_signal_handler(name)

    asyncio.run(go())
