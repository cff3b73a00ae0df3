"""``make run``: the reference bus at work. Starts the systems around it and the bus, tells the story, and says what happened.

``--stand-ins`` does without database, SFTP server and broker even where they are installed.
With a terminal everything stays up until Ctrl-C; without one it ends by itself. Exit code 0 when every check passed, else 1.
"""

from __future__ import annotations

import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from examples.demo import acts, indicators  # noqa: E402 - the path must be there first
from examples.demo.account import Account  # noqa: E402 - the same
from examples.demo.harness import TooLate  # noqa: E402 - the same
from examples.demo.plant import Plant  # noqa: E402 - the same
from examples.demo.servers import Servers  # noqa: E402 - the same

FOLDER = ROOT / "var" / "demo"


def main() -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    account = Account()
    shutil.rmtree(FOLDER, ignore_errors=True)
    servers = Servers(real="--stand-ins" not in sys.argv[1:])
    plant = Plant(FOLDER, environment=servers.environment)
    try:
        _open(plant, servers, account)
        for part in (acts.story, acts.misbehaviour, acts.inputs):
            part(plant, account)
        acts.inlets(plant, servers, account)
        indicators.told(plant, account)
        acts.books(plant, account)
        code = account.verdict()
        if sys.stdout.isatty() and sys.stdin.isatty():
            _stay(plant)
        return code
    except KeyboardInterrupt:
        print("\nstopped")
        return 1
    except (TooLate, AssertionError, OSError) as error:
        account.check(f"the demo broke off: {error}", truth=False)
        _last_words(plant)
        return account.verdict()
    finally:
        _close(plant, servers)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _open(plant: Plant, servers: Servers, account: Account) -> None:
    began = time.monotonic()
    print("The reference bus: quality traffic between ERP, QMS, warehouse, MES, supplier portal and analytics")
    plant.systems.start()
    servers.start(plant.workspace)
    started = time.monotonic()
    plant.start_bus()
    ready = time.monotonic()
    account.table(
        [
            (
                "systems",
                f"{len(plant.systems.urls)} simulators and {len(servers.words)} servers, {started - began:.1f} s",
            ),
            *((f"  {name}", url) for name, url in plant.systems.urls.items()),
            *((f"  {name}", words) for name, words in servers.words),
            ("bus", f"ready after {ready - started:.1f} s"),
            ("  routes", plant.bus.http),
            ("  admin", plant.bus.admin),
            ("workspace", f"{plant.workspace.relative_to(ROOT)} (a copy; waits between retries are shortened)"),
        ]
    )


def _stay(plant: Plant) -> None:
    print("\nEverything stays up until Ctrl-C. In another terminal, for example:")
    print(f"   cd {plant.workspace.relative_to(ROOT)}")
    command = Path(sys.executable).with_name("esb")
    esb = str(command) if command.exists() else "esb"
    for words in ("status", "kpi ls", "trace L240101A", "dlq ls", "messages ls --state done --route stock-decisions"):
        print(f"   {esb} {words}")
    print(f'   curl -X POST {plant.systems.urls["portal"]}/_sim/behave -d \'{{"mode": "down"}}\'')
    print(
        "   edit a file under routes/: the bus takes it over, or says what is wrong and goes on with the last good one"
    )
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print("\nstopping")


def _last_words(plant: Plant) -> None:
    if plant.bus.started:
        print("\nthe end of the bus's log:", file=sys.stderr)
        print(plant.bus.process.tail(), file=sys.stderr)


def _close(plant: Plant, servers: Servers) -> None:
    """End everything that was started; a bus that was ready drains first."""
    try:
        if plant.bus.started:
            plant.bus.stop()
    finally:
        try:
            plant.systems.stop()
        finally:
            servers.stop()


if __name__ == "__main__":
    sys.exit(main())
