"""The watch over what runs on the loop: a step that keeps the loop busy is interrupted, whatever it is doing in Python.

What cannot be interrupted is a single call into a library. Those are short: payloads on the loop are small
(``limits.inline``), texts, numbers and repetitions are bounded (:mod:`esb.language`), and contracts run in linear time.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from time import monotonic

from esb.pipeline import Overtime
from esb.steps.base import StepNode

#: Seconds between two looks; seconds that one piece of work may compute, and that it may take if it waits instead. On a
#: busy machine, work that is only kept from computing is no fault of the step.
LOOK, PATIENCE, WAIT = 0.015, 0.1, 2.0
#: The same for a step, which loses nothing by it: it begins again in a worker process, while the rules of a route that are
#: interrupted are a fault of the route. The dearest ordinary step, a template over all of `limits.inline`, takes about 5 ms.
#: Where the system does not tell what a thread computed, time alone says less.
STEP_PATIENCE = 0.02 if hasattr(time, "pthread_getcpuclockid") else PATIENCE
#: Seconds to the next look at least.
_SOON = 0.001
#: Times that a step which was too slow may be tried on the loop again because it was quick in a worker process.
CHANCES = 3

_interrupt = ctypes.pythonapi.PyThreadState_SetAsyncExc
_interrupt.argtypes = (ctypes.c_ulong, ctypes.py_object)


class Watch:
    """Implements :class:`esb.pipeline.Watch`: interrupts the thread that started it, from a thread of its own.

    Work is numbered: ``arm`` and ``disarm`` cost a few attribute accesses and a look at the clock, no lock and no call of the
    system: what the thread has computed is asked by the watch alone, at each look. The order of the accesses is
    what makes it sound: the watch says that it fires *before* it looks whether the work is still the same, and the worker
    ends its work *before* it looks whether the watch fires. So an interrupt either meets the work, or is taken back.
    """

    def __init__(self) -> None:
        self.slow: dict[int, StepNode] = {}
        self._times: dict[int, tuple[StepNode, int]] = {}  #: how often a step was too slow
        self._patience = PATIENCE
        self._number = 0
        self._armed = 0
        self._began = 0.0
        self._seen, self._used, self._before = 0, 0.0, 0.0
        self._firing = False
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._target = 0
        self._clock: int | None = None  #: of the processor time that the watched thread used; None where there is none

    def start(self) -> None:
        """Watch the thread that calls this."""
        self._target = threading.get_ident()
        if hasattr(time, "pthread_getcpuclockid"):  # not on Windows
            self._clock = time.pthread_getcpuclockid(self._target)
        self._thread = threading.Thread(target=self._watch, name="esb:watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(5.0)

    def arm(self) -> None:
        self._patience, self._began = PATIENCE, monotonic()
        self._armed = self._number = self._number + 1

    def arm_step(self) -> None:
        self._patience, self._began = STEP_PATIENCE, monotonic()
        self._armed = self._number = self._number + 1

    def was_slow(self, node: StepNode) -> None:
        _, times = self._times.get(id(node), (node, 0))
        self._times[id(node)] = node, times + 1
        self.slow[id(node)] = node

    def was_quick(self, node: StepNode) -> None:
        _, times = self._times.get(id(node), (node, 0))
        if times <= CHANCES:
            self.slow.pop(id(node), None)

    def disarm(self) -> None:
        self._armed = 0
        if self._firing:
            self._take_back()

    def _take_back(self) -> None:
        """Let whatever is on its way arrive here, where it harms nobody.

        Taking it back with NULL is not enough: CPython before 3.13 then believes for ever that an exception is on its way,
        looks for it at every call and every loop, and with a trace function set never gets past the first (`ceval.c`,
        ``pending.async_exc``).
        """
        with self._lock:
            try:
                _interrupt(self._target, Overtime)
                while True:
                    pass
            except Overtime:
                self._firing = False

    def look(self, now: float, used: float) -> float:
        """Look once, at ``now``, when the watched thread has computed for ``used`` seconds; the seconds to the next look.

        What the work has computed is not known, as nobody asked when it began: at most what the thread has computed since the
        last look before it, and at most the time since it began.
        """
        armed = self._armed
        if armed != self._seen:
            self._seen, self._before = armed, self._used
        self._used = used
        if not armed:
            return LOOK
        took = now - self._began
        left = self._patience - min(took, used - self._before)
        if left <= 0 or took >= WAIT:
            self._seen = 0  # where a step swallows the interrupt, its time begins anew
            self._fire(armed)
            return LOOK
        # whoever computes lets this thread look only after the interval of a switch
        return min(LOOK, max(_SOON, left - sys.getswitchinterval()))

    def _watch(self) -> None:
        pause = LOOK
        while not self._ended.wait(pause):
            pause = self.look(monotonic(), self._computed())

    def _computed(self) -> float:
        """Seconds that the watched thread computed; seconds that went by where the system does not tell."""
        return monotonic() if self._clock is None else time.clock_gettime(self._clock)

    def _fire(self, number: int) -> None:
        with self._lock:
            self._firing = True
            if self._armed == number:
                _interrupt(self._target, Overtime)
            else:
                self._firing = False
