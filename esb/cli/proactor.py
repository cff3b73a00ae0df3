"""The event loop of Windows, whose listeners outlive a caller that is gone before it is heard.

asyncio takes the fault of such a caller for that of the listener and closes it for good: one port scan, and the bus would listen no
more (https://github.com/python/cpython/issues/93821).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from socket import socket
from typing import Any

#: Seconds until the next try where none could be begun, such as for want of memory for one more connection.
_PAUSE = 1.0

Accept = Callable[[socket], "asyncio.Future[Any]"]


class Accepting(asyncio.Future[Any]):
    """The next connection of ``listener``, whatever becomes of those before it; fails only where the listener was closed."""

    def __init__(self, accept: Accept, listener: socket, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._accept, self._listener, self._loop_of_it = accept, listener, loop
        self._try: asyncio.Future[Any] | None = None
        self._begin()

    def cancel(self, msg: Any | None = None) -> bool:
        if self._try is not None:
            self._try.cancel()
        return super().cancel(msg)

    def _begin(self) -> None:
        if self.done():
            return
        try:
            self._try = self._accept(self._listener)
        except OSError as error:
            self._failed(error, _PAUSE)
        else:
            self._try.add_done_callback(self._ended)

    def _ended(self, one: asyncio.Future[Any]) -> None:
        if self.done():
            return
        if one.cancelled():
            super().cancel()
        elif isinstance(error := one.exception(), OSError):
            self._failed(error, 0.0)  # that of a caller: the next one may be fine
        elif error is not None:
            self.set_exception(error)
        else:
            self.set_result(one.result())

    def _failed(self, error: OSError, pause: float) -> None:
        if self._listener.fileno() == -1:
            self.set_exception(error)
        else:
            self._loop_of_it.call_later(pause, self._begin)


def tell_others(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Handles what nobody handled, but for a caller that is gone: asyncio has a task of its own for it, which nobody looks at."""
    gone = isinstance(context.get("exception"), OSError) and "accept_coro" in repr(context.get("future"))
    if not gone:
        loop.default_exception_handler(context)


if sys.platform == "win32":

    class _Proactor(asyncio.IocpProactor):
        def accept(self, listener: socket) -> asyncio.Future[Any]:
            return Accepting(super().accept, listener, asyncio.get_running_loop())

    def new_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.ProactorEventLoop(_Proactor())
        loop.set_exception_handler(tell_others)
        return loop

else:
    new_loop = asyncio.new_event_loop
