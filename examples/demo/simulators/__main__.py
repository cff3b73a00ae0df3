"""``python -m examples.demo.simulators NAME [--port N] [--state FILE]``: one simulator, until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

from aiohttp import web

from examples.demo.simulators.analytics import Analytics
from examples.demo.simulators.base import Simulator
from examples.demo.simulators.erp import Erp
from examples.demo.simulators.plant import Mes, Wms
from examples.demo.simulators.portal import Portal
from examples.demo.simulators.qms import Qms

SIMULATORS: dict[str, type[Simulator]] = {kind.name: kind for kind in (Erp, Qms, Wms, Mes, Portal, Analytics)}


async def serve(simulator: Simulator, port: int, *, parent: int = 0) -> None:
    """Serve on the loopback; prints ``listening NAME http://…`` when it does. Port 0 takes a free one.

    With ``parent`` it ends when that process is no longer its parent, so that nobody has to look for it.
    """
    runner = web.AppRunner(simulator.app(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    host, bound = runner.addresses[0][:2]
    print(f"listening {simulator.name} http://{host}:{bound}", flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    while not stop.is_set() and (not parent or os.getppid() == parent):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), timeout=1.0)
    await runner.cleanup()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.demo.simulators", description=__doc__)
    parser.add_argument("name", choices=sorted(SIMULATORS))
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--state", type=Path, help="JSON file that the state is kept in")
    parser.add_argument("--with-parent", action="store_true", help="end when the process that started it ends")
    options = parser.parse_args(arguments)
    simulator = SIMULATORS[options.name](state_file=options.state)
    parent = os.getppid() if options.with_parent else 0
    asyncio.run(serve(simulator, options.port, parent=parent))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
