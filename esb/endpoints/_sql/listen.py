"""LISTEN on PostgreSQL: a notification wakes the next look; the look itself reads. A lost notification costs only time."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

from esb.endpoints._sql.live import LiveSql
from esb.endpoints.base import SourceContext

#: seconds between two looks at whether to end, and after a lost connection
_TURN = 0.5
_AGAIN = 5.0


class Listener:
    """A thread with a connection of its own; sets ``heard`` in the loop."""

    def __init__(self, live: LiveSql, channel: str, context: SourceContext) -> None:
        self._live = live
        self._channel = channel
        self._context = context
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.heard = asyncio.Event()

    def start(self) -> None:
        self._ending.clear()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name=f"esb-listen-{self._channel}", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        self._ending.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, 2 * _TURN)

    def _work(self) -> None:
        while not self._ending.is_set():
            try:
                self._listen()
            except Exception as error:  # noqa: BLE001 - polling goes on without it; the connection is tried again
                self._context.log("warning", "sql.listen_failed", channel=self._channel, error=str(error)[:300])
                self._ending.wait(_AGAIN)

    def _listen(self) -> None:
        with self._live.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f'listen "{self._channel}"')
            self._tell()  # what was sent before this connection was there
            driver: Any = connection.connection.driver_connection
            while not self._ending.is_set():
                for _ in driver.notifies(timeout=_TURN, stop_after=1):
                    self._tell()

    def _tell(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self.heard.set)
