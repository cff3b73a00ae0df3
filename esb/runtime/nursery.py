"""The process that worker processes are forked from: it has loaded what they need, so that one begins within milliseconds.

It speaks with its bus in records over one socket: ``s`` starts the worker of a number, with the worker's end
of its stream beside it; ``k`` kills one; back comes ``e`` with the exit code of one that ended. It has one thread and holds
nothing of any worker. When its bus is gone it kills them and ends.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
from dataclasses import dataclass, field

from esb.runtime.starting import RECORD
from esb.runtime.worker import work


@dataclass(slots=True)
class Nursery:
    """Forks, kills and buries until its bus closes ``control``."""

    control: socket.socket
    memory: int
    #: process id to number of every worker that was not buried yet; what is not here is never killed
    workers: dict[int, int] = field(default_factory=dict)

    def serve(self) -> None:
        wake, waker = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(waker, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        watched: list[socket.socket | int] = [self.control, wake]
        try:
            while self._take(select.select(watched, [], [])[0], wake):
                self._bury()
        except ConnectionError:
            pass  # the bus is gone
        for pid in self.workers:
            os.kill(pid, signal.SIGKILL)

    def _take(self, ready: list[socket.socket | int], wake: int) -> bool:
        if wake in ready:
            os.read(wake, 4096)
        if self.control not in ready:
            return True
        data, descriptors, _, _ = socket.recv_fds(self.control, RECORD.size, 1)
        if len(data) < RECORD.size:
            return False
        what, number, _ = RECORD.unpack(data)
        if what == b"s":
            self._fork(number, descriptors[0])
        else:
            for pid in [pid for pid, known in self.workers.items() if known == number]:
                os.kill(pid, signal.SIGKILL)
        return True

    def _fork(self, number: int, stream: int) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            print(f"a worker process cannot be started: {error.strerror}", file=sys.stderr)
            self._tell(number, -1)
        else:
            if pid == 0:
                self._become(stream)
            self.workers[pid] = number
        os.close(stream)

    def _become(self, stream: int) -> None:
        """In the new process: be a worker, and end."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self.control.close()
            code = work(os.fdopen(stream, "rb"), os.fdopen(os.dup(stream), "wb"), self.memory, os.getppid())
        except SystemExit as said:
            print(said.code, file=sys.stderr)
        except BaseException:  # noqa: BLE001 - whatever it is, the process ends of it and the log tells
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)

    def _bury(self) -> None:
        while self.workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._tell(self.workers.pop(pid), os.waitstatus_to_exitcode(status))

    def _tell(self, number: int, code: int) -> None:
        self.control.sendall(RECORD.pack(b"e", number, code))


def main(control: int, memory: int) -> int:
    """Serve; the exit code. What a step prints goes to the log of the bus."""
    # Ctrl-C and a stop reach the bus, which ends its workers when it has drained
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.dup2(2, 1)
    gc.freeze()  # a collection in a worker touches none of what it shares
    Nursery(socket.socket(fileno=control), memory).serve()
    return 0
