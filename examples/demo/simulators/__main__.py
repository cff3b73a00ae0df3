"""``python -m examples.demo.simulators NAME [--port N] [--state FILE]``: one simulator, until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
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


async def serve(simulator: Simulator, port: int) -> None:
    """Serve on the loopback; prints ``listening NAME http://…`` when it does. Port 0 takes a free one."""
    runner = web.AppRunner(simulator.app(), access_log=None, handler_cancellation=False)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, shutdown_timeout=1.0)
    await site.start()
    host, bound = runner.addresses[0][:2]
    print(f"listening {simulator.name} http://{host}:{bound}", flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await runner.cleanup()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.demo.simulators", description=__doc__)
    parser.add_argument("name", choices=sorted(SIMULATORS))
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--state", type=Path, help="JSON file that the state is kept in")
    options = parser.parse_args(arguments)
    simulator = SIMULATORS[options.name](state_file=options.state)
    asyncio.run(serve(simulator, options.port))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
