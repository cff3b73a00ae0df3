"""Single keys of a terminal: heard at once, without Enter, for programs that run until somebody ends them."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

Press = Callable[[str], None]
#: Seconds between two looks at a keyboard that cannot wake anybody.
LOOK = 0.1


def listen(press: Press) -> Callable[[], None] | None:
    """Call ``press`` on the loop with each key. Gives what ends it and puts the terminal back; None where stdin is no terminal,
    or one that another program has (``esb dev &``)."""
    if sys.stdin is None or not sys.stdin.isatty():
        return None
    if os.name != "nt":
        return _by_events(sys.stdin.fileno(), press)
    import msvcrt

    return by_looking(msvcrt, press)


def _by_events(fd: int, press: Press) -> Callable[[], None] | None:
    """POSIX: the terminal hands over each key as it comes; Ctrl-C, Ctrl-Z and what is printed stay as they are."""
    import signal
    import termios
    import tty

    with suppress(OSError):
        if os.tcgetpgrp(fd) != os.getpgrp():
            return None
    before, loop = termios.tcgetattr(fd), asyncio.get_running_loop()

    def read() -> None:
        with suppress(OSError):
            if keys := os.read(fd, 64):
                for key in keys.decode("utf-8", "ignore"):
                    press(key)
                return
        loop.remove_reader(fd)

    def take() -> None:
        tty.setcbreak(fd)

    def end() -> None:
        loop.remove_reader(fd)
        loop.remove_signal_handler(signal.SIGCONT)
        with suppress(termios.error):
            termios.tcsetattr(fd, termios.TCSADRAIN, before)

    take()
    loop.add_reader(fd, read)
    loop.add_signal_handler(signal.SIGCONT, take)  # the shell has put it back meanwhile
    return end


def by_looking(console: Any, press: Press) -> Callable[[], None]:
    """Windows: a thread looks at the console (``msvcrt``), which has nothing that a loop could wait for."""
    ended, loop = threading.Event(), asyncio.get_running_loop()

    def look() -> None:
        while not ended.wait(LOOK):
            while console.kbhit():
                key = console.getwch()
                if key in ("\x00", "\xe0"):  # an arrow or a function key: its second half says which
                    console.getwch()
                    continue
                with suppress(RuntimeError):  # the loop has ended
                    loop.call_soon_threadsafe(press, key)

    threading.Thread(target=look, name="esb:keys", daemon=True).start()
    return ended.set


def in_words(commands: Mapping[str, str]) -> str:
    """``r reload · t tests``."""
    return " · ".join(f"{key} {words}" for key, words in commands.items())
