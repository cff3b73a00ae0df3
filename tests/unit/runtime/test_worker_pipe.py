"""The pipe between the bus and a worker, when the bus dies."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import struct

from esb.runtime.parcels import pack
from esb.runtime.worker import Worker, work


def framed(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def test_a_task_that_was_cut_off_is_none() -> None:
    """Wherever it ends: it is neither begun with what is there of it, nor a fault that stands in the log of a dead bus."""
    head = framed(json.dumps({"do": "steps", "version": "unknown"}).encode())
    stream = head + b"".join(framed(piece) for piece in pack({"ledger": {}, "lines": list(range(5000))}))
    for cut in (*range(len(head) + 40), *range(len(head) + 40, len(stream), 997), len(stream)):
        with contextlib.suppress(ConnectionError):
            Worker(io.BytesIO(stream[:cut]), io.BytesIO(), 0).serve()


def test_a_worker_whose_bus_is_gone_ends_without_a_word() -> None:
    """`[Errno 22]` is what Windows says of a pipe that nobody reads."""

    class Gone(io.BytesIO):
        def __init__(self, code: int) -> None:
            super().__init__()
            self.code = code

        def flush(self) -> None:
            raise OSError(self.code, os.strerror(self.code))

    head = framed(json.dumps({"do": "steps", "version": "unknown"}).encode())
    stream = head + b"".join(framed(piece) for piece in pack({"ledger": {}, "lines": []})) + framed(b"")
    for code in (errno.EPIPE, errno.EINVAL):
        assert work(io.BytesIO(stream), Gone(code), 0, os.getppid()) == 0
